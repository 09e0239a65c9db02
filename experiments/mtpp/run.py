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

HERE = Path(__file__).parent
METHODS = ("PCGrad()", "CAGrad(c=0.5)", "NashMTL()", "UPGrad()", "GradNorm()")
BASES = ("thp", "sahp", "fnn", "lnm", "rmtpp")
MARKS = ("nll_mark", "nll_mark_per_event", "accuracy", "accuracy@3", "mrr", "ece", "ece_published", "f1_weighted", "brier")
TIMES = ("nll_time", "nll_time_per_event", "nll_time_dequantised", "pce", "ks", "mae", "unresolved")


class Measured:
    """The gradient of the summed losses; at every n-th step also the Gramian of the two tasks for each tensor."""

    def __init__(self, model: tpp.PointProcess, every: int, balancer: Balancer | None) -> None:
        self.model, self.every, self.balancer = model, every, balancer
        self.names = [name for name, _ in model.named_parameters()]
        self.steps, self.exact, self.published = 0, [], []

    def __call__(self, losses: dict[str, torch.Tensor]) -> None:
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


def train(name: str, kind: str, split: int, method: str, epochs: int, batch: int, every: int, limit: int) -> dict:
    """One run; figures of its best epochs on the test part."""
    splits = problems.parse(name).splits(split)
    if limit:
        splits = tpp.Splits(*(part.subset(np.arange(min(limit, len(part)))) for part in vars(splits).values()))
    torch.manual_seed(split)
    model = tpp.build(kind, len(splits.train.marks), tick=splits.train.tick)
    balancer = None if method == "Sum()" else Balancer(model, method, seed=split)
    hook = Measured(model, every, balancer)
    began = time.perf_counter()
    fitted = tpp.fit(
        model, splits, epochs=epochs, batch=batch, patience=epochs, stopping="joint", backward=hook, seed=split,
        paper_compat=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    kinds = {}
    for chosen, keys in (("joint", TIMES + MARKS), ("time", TIMES), ("mark", MARKS)):
        fitted.restore(chosen)
        values = tpp.evaluate(model, splits.test, paper_compat=True, predictions=chosen != "mark").values
        kinds[chosen] = {key: values[key] for key in keys if key in values}
    if hook.exact:
        np.savez_compressed(
            place(name, kind, split, method).with_suffix(".npz"),
            exact=np.stack(hook.exact).astype(np.float32), names=np.array(hook.names),
        )  # fmt: skip
    return {
        "set": name, "kind": kind, "split": split, "method": method, "epochs": epochs, "batch": batch, "every": every,
        "parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds,
        "train_events_per_second": sum(h["events"] for h in fitted.history) / sum(h["seconds"] for h in fitted.history),
        "best_epoch": fitted.best, "test": kinds, "conflict": hook.summary(), "history": fitted.history,
        "sizes": {part: [len(events), events.time.size] for part, events in vars(splits).items()},
    }  # fmt: skip


def place(name: str, kind: str, split: int, method: str) -> Path:
    """Where a run is kept."""
    label = kind if method == "Sum()" else f"{kind}-{method.split('(')[0]}"
    return HERE / "results" / name / label / f"split-{split}.json"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="tpp-mooc")
    parser.add_argument("--kinds", default=",".join(k for k in tpp.NAMES if k not in ("joint-lnm", "hawkes", "poisson")))
    parser.add_argument("--methods", default="Sum()", help="separated by ;")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--every", type=int, default=4, help="measure conflict at every n-th step")
    parser.add_argument("--limit", type=int, default=0, help="at most so many sequences in each part")
    parser.add_argument("--shard", default="0/1", help="this process takes every n-th run, beginning with the i-th: i/n")
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
        path = place(name, kind, split, method)
        if number % shards != index or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        found = train(name, kind, split, method, given.epochs, given.batch, given.every, given.limit)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text(json.dumps(found, indent=1))
        beside.replace(path)
        joint = found["test"]["joint"]
        print(
            f"[{number + 1}/{len(todo)}] {name} {kind} {method} split {split}: NLL_T {joint['nll_time']:.2f}, "
            f"NLL_M {joint['nll_mark']:.2f}, accuracy {joint['accuracy']:.3f} ({found['seconds']:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
