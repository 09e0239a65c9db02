"""LoRA with as many trained scalars as PSN, on the same data, order and seeds: runs like those of ``accord bench``.

    python experiments/sparse/lora.py runs/sparse

A run of the bench has no adapters, so the loop is written out here, with public parts only. What is finished is
skipped. Needs ``pip install 'accord[peft]'``.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import peft  # noqa: F401  (takes seconds, which are no cost of choosing)
import torch
from plan import COMPARED, EVERY, LORA, RATES, STUDIES, psn

import accord
from accord import problems
from accord.bench import files, store
from accord.bench.config import RunConfig, configure
from accord.bench.run import best_epoch
from accord.problems import seeds
from accord.sparse.adapters import Adapters


def main() -> None:
    """Every problem and seed, one after the other."""
    parser = argparse.ArgumentParser(description="The runs with LoRA.")
    parser.add_argument("out", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... (default 3)")
    parser.add_argument("--epochs", type=int, help="instead of the study's")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(given.seeds):
        for study in STUDIES:
            chosen: dict[str, Any] = {} if given.epochs is None else {"epochs": given.epochs}
            config = configure(
                problem=study.problem(), arm=f"{LORA} for {psn(COMPARED)} at {RATES[0]:g}", lr=RATES[0], seed=seed,
                select="validation", blocks="total", monitor_every=EVERY, **chosen,
            )  # fmt: skip
            train(config, given.out)


def train(config: RunConfig, root: str | os.PathLike[str]) -> None:
    """One run, unless it is there.

    Args:
        config: of the run; its arm says that it has adapters.
        root: folder of all runs.
    """
    folder = files.Path(root) / config.place
    if (folder / store.RESULT).exists():
        return
    files.make_folder(folder / store.STEPS)
    for part in (folder / store.STEPS).iterdir():  # of a run that was stopped
        part.unlink()
    began = time.perf_counter()
    problem = problems.parse(config.problem)
    data, model = problem.data(config.seed), problem.model(config.seed)
    shared = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("heads."))
    chosen = time.perf_counter()
    mask = accord.sparse.select(model, psn(COMPARED), heads=["heads"], regime="scratch")
    adapters = Adapters.match(model, mask, seed=config.seed)
    selection = time.perf_counter() - chosen
    optimizer = torch.optim.Adam(adapters.parameters(), lr=config.lr)
    balancer = accord.Balancer(model, config.method, seed=config.seed)
    monitor = accord.Monitor(model, every=EVERY, blocks="total", path=folder / store.STEPS, optimizer=optimizer)
    monitor.attach(balancer)
    history: list[dict[str, Any]] = []
    steps, seconds = 0, 0.0
    with seeds.seeded(config.seed, "training"):
        for epoch in range(config.epochs):
            model.train()
            total = dict.fromkeys(problem.tasks, 0.0)
            start, before = time.perf_counter(), steps
            for batch in data.train.shuffled(seeds.generator(config.seed, "order", epoch)):
                optimizer.zero_grad()
                step = balancer.backward(problem.losses(model, batch))
                optimizer.step()
                problem.after_step(model)
                steps += 1
                total = {task: total[task] + float(loss) for task, loss in zip(step.tasks, step.losses, strict=True)}
            spent = time.perf_counter() - start
            seconds += spent
            line: dict[str, Any] = {"epoch": epoch + 1, "seconds": spent}
            line["train_loss"] = {task: loss / (steps - before) for task, loss in total.items()}
            model.eval()
            with torch.no_grad():
                line |= {name: problem.metrics(model, getattr(data, name)) for name in ("validation", "test")}
            history.append(line)
    monitor.close()
    files.write_json(folder / store.CONFIG, config.model_dump(mode="json"))
    files.write_json(folder / store.HISTORY, history)
    best = best_epoch(problem, history)
    heads = sum(p.numel() for name, p in model.named_parameters() if name.startswith("heads."))
    sparse = store.Sparsity(
        trainable=adapters.trainable, total=adapters.total, shared=shared, selected=adapters.trainable - heads,
        density=(adapters.trainable - heads) / shared, hash="", seconds=selection,
    )  # fmt: skip
    result = store.Result(
        epochs=config.epochs, steps=steps, seconds=seconds, parameters=adapters.total, shared_parameters=shared,
        test=_scores(problem, history[best - 1]["test"]), selected_epoch=best, best_epoch=best,
        wall_seconds=time.perf_counter() - began, sparse=sparse,
    )  # fmt: skip
    files.write_json(folder / store.RESULT, result.model_dump())
    print(f"{config.place}: {adapters}", flush=True)


def _scores(problem: problems.Problem, test: dict[str, dict[str, float]]) -> dict[str, store.Score]:
    found = {}
    for task, metrics in test.items():
        metric, higher = problem.metric[task]
        ups = problem.measures.get(task, {})
        measures = {name: store.Measure(value=metrics[name], higher_is_better=up) for name, up in ups.items()}
        found[task] = store.Score(
            metric=metric, value=metrics[metric], higher_is_better=higher, loss=metrics["loss"], measures=measures
        )
    return found


if __name__ == "__main__":
    main()
