"""What is run: every run of the study as a configuration, and the runs themselves.

    python experiments/sparse/plan.py                                  # how many runs of which part
    python experiments/sparse/plan.py runs/sparse --jobs 2             # seeds 0, 1, 2; what is finished is skipped
    python experiments/sparse/plan.py runs/smoke --seeds 1 --epochs 1  # does everything work

Every seed is finished before the next one begins, so that a study that is stopped is a smaller study and no broken one.
Nothing here depends on a result: rates, densities and strengths are fixed, and what is chosen between them is chosen on
validation data by ``analyse.py``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord import problems
from accord.bench import pool, store
from accord.bench.config import RunConfig, configure

PARTS = ("core", "sweep", "rules", "watched", "sizes", "smaller", "anchor", "single", "order")


@dataclass(frozen=True)
class Study:
    """One problem of the study.

    Args:
        spelling: of the problem, with ``{encoder}`` in it.
        encoder: of the study.
        sizes: encoders from the smallest to the largest, this one among them.
        smaller: for each of ``DENSITIES`` the encoder with about as many weights as are trained at it.
    """

    spelling: str
    encoder: str
    sizes: tuple[str, ...]
    smaller: tuple[str, ...]

    def problem(self, encoder: str | None = None) -> str:
        """Its one right spelling, with this encoder."""
        return repr(problems.parse(self.spelling.format(encoder=encoder or self.encoder)))


STUDIES = (
    Study(
        "multimnist(encoder='{encoder}', train=1500, validation=500, test=1000, epochs=10, batch=64)",
        "bottleneck(width=64)",
        ("bottleneck(width=16)", "bottleneck(width=64)", "bottleneck(width=256)"),
        ("bottleneck(width=32)", "bottleneck(width=8)"),
    ),
    Study(
        "tox21(encoder='{encoder}', limit=3000, epochs=6)",
        "mlp(width=64)",
        ("mlp(width=16)", "mlp(width=64)", "mlp(width=256)"),
        ("mlp(width=39)", "mlp(width=20)"),
    ),
    Study(
        "mulan-jura(encoder='{encoder}', epochs=40)",
        "mlp(width=256)",
        ("mlp(width=64)", "mlp(width=256)", "mlp(width=1024)"),
        ("mlp(width=196)", "mlp(width=137)"),
    ),
)
RATES = (2e-3, 5e-4)  # a factor of four, as in the paper; the first is that of all parts but the core
METHODS = ("Sum()", "PCGrad()", "CAGrad(c=0.4)", "MGDA()")
DENSITIES = (0.6, 0.3)  # of the paper: best from scratch, and best with pre-trained weights
SWEEP = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)  # 1 is dense training, to the bit
COMPARED = 0.3  # density at which rules are compared: the paper's own comparison was there, and they differ more
RULES = (
    "RandomNeuron", "RandomBlock", "Smallest", "GlobalMagnitude", "GPS", "FISH", "ConflictFree", "SignAgreement",
    "Columns", "Blocks",
)  # fmt: skip
LORA = "LoRA"  # begins the arm of the runs of lora.py, which are known by it
ANCHORS = (0.3, 3.0, 30.0)  # strengths of the pull to the initial values
WATCHED = ("PSN(density=0.6)", "RandomNeuron(density=0.6)", "PSN(density=0.3)", "RandomNeuron(density=0.3)")
EVERY, FULL = 3, 6  # steps between looks at what is trained, and at all of it


def psn(density: float) -> str:
    """The paper's rule at this density."""
    return f"PSN(density={density:g})"


def runs(seed: int, epochs: int | None = None) -> Iterator[tuple[str, RunConfig]]:
    """Every run of this seed with the part that it belongs to, each once, in the order of ``PARTS``.

    Args:
        seed: of the runs.
        epochs: instead of the study's, to see whether everything works.
    """
    seen: set[Path] = set()
    for part in PARTS:
        for study in STUDIES:
            for values in MAKERS[part](study):
                config = _configure(study, seed, epochs, **values)
                if config.place not in seen:
                    seen.add(config.place)
                    yield part, config


def _configure(study: Study, seed: int, epochs: int | None, **values: Any) -> RunConfig:
    lr = values.pop("lr", RATES[0])
    problem = study.problem(values.pop("encoder", None))
    name = values.get("method", "Sum()") if "tasks" not in values else f"{values['tasks'][0]} alone"
    values = {name: value for name, value in values.items() if value is not None}
    every = 0 if "tasks" in values else EVERY  # one task has no conflict
    common: dict[str, Any] = {"select": "validation", "blocks": "total", "monitor_every": every, "seed": seed}
    if epochs is not None:
        common["epochs"] = epochs
    if "sparse" in values:
        common["sparse_look"] = 0 if "tasks" in values else FULL
    return configure(problem=problem, arm=f"{name} at {lr:g}", lr=lr, **common, **values)


def _core(study: Study) -> Iterator[dict[str, Any]]:
    for method in METHODS:
        for lr in RATES:
            for sparse in (None, *map(psn, DENSITIES)):
                yield {"method": method, "lr": lr, "sparse": sparse}


def _sweep(study: Study) -> Iterator[dict[str, Any]]:
    for density in SWEEP:
        yield {"sparse": psn(density)}


def _rules(study: Study) -> Iterator[dict[str, Any]]:
    yield {"sparse": "BitFit()"}
    for rule in RULES:
        yield {"sparse": f"{rule}(density={COMPARED:g})"}


def _watched(study: Study) -> Iterator[dict[str, Any]]:
    for rule in WATCHED:
        yield {"sparse": rule, "sparse_trains": "all"}


def _sizes(study: Study) -> Iterator[dict[str, Any]]:
    for encoder in study.sizes:
        for sparse in (None, psn(DENSITIES[0])):
            yield {"encoder": encoder, "sparse": sparse}


def _smaller(study: Study) -> Iterator[dict[str, Any]]:
    for encoder in study.smaller:
        yield {"encoder": encoder}


def _anchor(study: Study) -> Iterator[dict[str, Any]]:
    for strength in ANCHORS:
        yield {"anchor": strength}


def _single(study: Study) -> Iterator[dict[str, Any]]:
    for task in problems.parse(study.problem()).tasks:
        for lr in RATES:
            yield {"tasks": (task,), "lr": lr}
        yield {"tasks": (task,), "sparse": psn(DENSITIES[0])}


def _order(study: Study) -> Iterator[dict[str, Any]]:
    for method in METHODS[1:]:
        yield {"method": method, "sparse": psn(COMPARED), "sparse_order": "combine-then-mask"}


MAKERS = dict(zip(PARTS, (_core, _sweep, _rules, _watched, _sizes, _smaller, _anchor, _single, _order), strict=True))


class Progress:
    """A line for every finished run."""

    def __init__(self, configs: list[RunConfig]) -> None:
        self.configs, self.done, self.began = configs, 0, time.perf_counter()

    def epoch(self, index: int, done: int) -> None:
        """Nothing is said about epochs."""

    def finished(self, index: int, run: store.Run) -> None:
        """A run is finished."""
        self.done += 1
        seconds = time.perf_counter() - self.began
        print(f"[{self.done}/{len(self.configs)}, {seconds:.0f} s] {self.configs[index].place}", flush=True)


def main() -> None:
    """Count the runs, or run them."""
    parser = argparse.ArgumentParser(description="The runs of the study of sparse training.")
    parser.add_argument("out", nargs="?", help="folder of the runs; without it they are counted only")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... (default 3)")
    parser.add_argument("--epochs", type=int, help="instead of the study's")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    given = parser.parse_args()
    chosen = given.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if given.out is None:
        counts = Counter((part, config.problem.split("(")[0]) for part, config in runs(0))
        for (part, problem), count in counts.items():
            print(f"{part:8} {problem:12} {count} runs per seed")
        print(f"all: {given.seeds} x {sum(counts.values())} = {given.seeds * sum(counts.values())}")
        return
    for seed in range(given.seeds):
        configs = [config for part, config in runs(seed, given.epochs) if part in chosen]
        pool.execute(configs, given.out, Progress(configs), given.jobs)


if __name__ == "__main__":
    main()
