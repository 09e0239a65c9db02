"""Train every model and variant on the splits of some data sets; one JSON per run, finished ones are skipped.

    python experiments/mtpp/run.py --sets tpp-mooc --splits 3 --epochs 20 --shard 0/2

Conventions are those of the study (``paper_compat``): first events unscored, losses summed over the batch, no window.
Nothing stops early: all runs of a set have the same number of epochs, and the best epochs on the validation part are
found afterwards, jointly and for each task alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch

from accord import problems, tpp
from accord.balancer import Balancer
from accord.conflict import pair_conflict, published_gramians
from accord.tpp.build import rebuild
from accord.tpp.checkpoint import read, write
from accord.tpp.training import below

HERE = Path(__file__).parent
REFERENCES = ("joint-lnm", "hawkes", "poisson")
MARKS = (
    "nll_mark",
    "nll_mark_per_event",
    "accuracy",
    "accuracy@3",
    "mrr",
    "ece",
    "ece_published",
    "f1_weighted",
    "brier",
)
TIMES = ("nll_time", "nll_time_per_event", "nll_time_dequantised", "pce", "ks", "mae", "unresolved")


class Measured:
    """The gradient of the summed losses; at every n-th step also the Gramian of the two tasks for each tensor."""

    def __init__(self, model: tpp.PointProcess, every: int, balancer: Balancer | None) -> None:
        self.model, self.every, self.balancer = model, every, balancer
        self.names = [name for name, _ in model.named_parameters()]
        self.steps, self.exact, self.published = 0, [], []

    def __call__(self, losses: dict[str, torch.Tensor]) -> None:
        """Fill the gradients; the ``backward`` of ``fit``."""
        if self.balancer is not None:
            self.balancer.backward(losses)
            return
        self.steps += 1
        if (self.steps - 1) % self.every or len(losses) < 2:
            torch.stack(list(losses.values())).sum().backward()
            return
        parameters = list(self.model.parameters())
        both = [
            torch.autograd.grad(losses[task], parameters, retain_graph=task == "time", allow_unused=True)
            for task in ("time", "mark")
        ]
        full = [[torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gs, strict=True)] for gs in both]
        for p, g, h in zip(parameters, *full, strict=True):
            p.grad = g + h
        pairs = [torch.stack([g.flatten(), h.flatten()]).double() for g, h in zip(*full, strict=True)]
        self.exact.append(torch.stack([rows @ rows.T for rows in pairs]).numpy())
        self.published.append(published_gramians(*([g.numpy() for g in gs] for gs in full)))

    def summary(self) -> dict[str, dict[str, float]]:
        """CG, GMS and TPI of encoder and decoder: tensors with a threshold, tensors, whole parts."""
        if not self.exact:
            return {}
        exact, published = np.stack(self.exact), np.stack(self.published)  # (T, B, 2, 2)
        found = {}
        for part in ("encoder", "decoder", "all"):
            chosen = [i for i, name in enumerate(self.names) if part == "all" or name.startswith(f"{part}.shared")]
            if not chosen:
                continue
            by_tensor = pair_conflict(exact[:, chosen])
            whole = pair_conflict(exact[:, chosen].sum(1))
            thresholded = pair_conflict(published[:, chosen])
            found[part] = {
                "cg_published": thresholded.incidence_published,
                "cg_tensor": by_tensor.incidence, "gms_tensor": by_tensor.similarity, "tpi_tensor": by_tensor.priority,
                "cosine_tensor": by_tensor.cosine, "undefined_tensor": by_tensor.undefined / by_tensor.entries,
                "cg_whole": whole.incidence, "gms_whole": whole.similarity, "tpi_whole": whole.priority,
                "cosine_whole": whole.cosine,
            }  # fmt: skip
        return found


def parts_of(name: str, split: int, limit: int) -> tpp.Splits:
    """One fixed split; validation and test cut to a number of sequences, if so wished."""
    splits = problems.parse(name).splits(split)
    held = {part: getattr(splits, part) for part in ("validation", "test")}
    if limit:
        held = {part: events.subset(np.arange(min(limit, len(events)))) for part, events in held.items()}
    return tpp.Splits(splits.train, **held)


def train(name: str, kind: str, split: int, method: str, given: argparse.Namespace) -> None:
    """One training; parameters of its best epochs and what was measured go to ``states``."""
    splits = parts_of(name, split, given.limit)
    torch.manual_seed(split)
    model = tpp.build(kind, len(splits.train.marks), tick=splits.train.tick)
    balancer = None if method == "Sum()" else Balancer(model, method, seed=split)
    hook = Measured(model, given.every, balancer)
    began = time.perf_counter()
    fitted = tpp.fit(
        model, splits, epochs=given.epochs, batch=given.batch, patience=given.epochs, stopping="joint", backward=hook,
        optimizer=lambda parameters: torch.optim.Adam(parameters, given.lr), seed=split, paper_compat=True,
    )  # fmt: skip
    history = fitted.history
    about = {
        "set": name,
        "kind": kind,
        "split": split,
        "method": method,
        **{key: getattr(given, key) for key in ("epochs", "batch", "lr", "every", "limit")},
        "settings": model.settings,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.perf_counter() - began,
        "train_events_per_second": sum(h["events"] for h in history) / sum(h["seconds"] for h in history),
        "best_epoch": fitted.best,
        "conflict": hook.summary(),
        "history": history,
        "sizes": {part: [len(events), events.time.size] for part, events in vars(splits).items()},
    }
    best = {f"{kept}/{key}": value for kept, found in fitted.training.best.items() for key, value in found.items()}
    if hook.exact:
        best["gramians"] = torch.from_numpy(np.stack(hook.exact)).float()
    write(place(name, kind, split, method, "states", ".safetensors"), best, about)


def evaluate(name: str, kind: str, split: int, method: str) -> dict:
    """Figures of the best epochs on the test part: jointly best, and best for each task alone."""
    tensors, about = read(place(name, kind, split, method, "states", ".safetensors"))
    test = parts_of(name, split, about["limit"]).test
    model = rebuild(about.pop("settings"))
    figures = {}
    for chosen, keys in (("joint", TIMES + MARKS), ("time", TIMES), ("mark", MARKS)):
        model.load_state_dict(below(tensors, chosen))
        if chosen != "joint" and about["best_epoch"][chosen] == about["best_epoch"]["joint"]:
            values = figures["joint"]
        else:
            values = tpp.evaluate(model, test, paper_compat=True, predictions=chosen != "mark").values
        figures[chosen] = {key: values[key] for key in keys if key in values}
    return about | {"test": figures}


def place(name: str, kind: str, split: int, method: str, folder: str, ending: str) -> Path:
    """Where a run is kept."""
    label = kind if method == "Sum()" else f"{kind}-{method.split('(')[0]}"
    return HERE / folder / name / label / f"split-{split}{ending}"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="tpp-mooc")
    parser.add_argument(
        "--kinds", default=",".join(k for k in tpp.NAMES if k not in ("joint-lnm", "hawkes", "poisson"))
    )
    parser.add_argument("--methods", default="Sum()", help="separated by ;")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=4, help="measure conflict at every n-th step")
    parser.add_argument("--limit", type=int, default=0, help="sequences of validation and test, at most; 0: all")
    parser.add_argument(
        "--shard", default="0/1", help="this process takes every n-th run, beginning with the i-th: i/n"
    )
    parser.add_argument("--only-train", action="store_true", help="evaluate later, by the same command without this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    index, shards = map(int, given.shard.split("/"))
    todo = [
        (name, kind, split, method)
        for split in range(given.splits)
        for name in given.sets.split(",")
        for method in given.methods.split(";")
        for kind in given.kinds.split(",")
    ]
    for number, (name, kind, split, method) in enumerate(todo):
        if number % shards != index:
            continue
        run = (name, kind, split, method)
        if not place(*run, "states", ".safetensors").exists():
            train(*run, given)
            print(f"[{number + 1}/{len(todo)}] {' '.join(map(str, run))}: trained", flush=True)
        path = place(*run, "results", ".json")
        if given.only_train or path.exists():
            continue
        found = evaluate(*run)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text(json.dumps(found, indent=1))
        beside.replace(path)
        joint = found["test"]["joint"]
        print(
            f"[{number + 1}/{len(todo)}] {' '.join(map(str, run))}: NLL_T {joint['nll_time']:.2f}, "
            f"NLL_M {joint['nll_mark']:.2f}, accuracy {joint['accuracy']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
