"""Regret on a simulated Hawkes process, whose likelihood is known: reference model and neural ones.

    python experiments/mtpp/hawkes.py --seeds 3 --epochs 8

Windows count here (they are known), and first events too: likelihoods are those of the whole sequence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from accord import tpp
from accord.bench.stats import interval
from accord.tpp.hawkes.likelihood import log_likelihood
from accord.tpp.hawkes.presets import LARGE_END, hawkes_large, hawkes_splits

HERE = Path(__file__).parent
CLASSICAL = ("hawkes", "poisson")  # few parameters, another scale: 30 epochs at 0.02
KINDS = ("hawkes", "poisson", "thp", "thp++", "sahp", "sahp++", "fnn", "fnn++", "lnm", "lnm++", "rmtpp", "rmtpp++")


def main() -> None:
    """Train, and print nats per sequence above the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--sizes", type=int, nargs=3, default=(1500, 300, 500))
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--out", type=Path, default=HERE / "hawkes.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    process, rows = hawkes_large(), []
    for kind in given.kinds.split(","):
        for seed in range(given.seeds):
            splits = hawkes_splits(process, LARGE_END, seed, tuple(given.sizes))
            truth = log_likelihood(process, splits.test)
            true = {
                "time": float(truth.window.sum() - truth.time.sum()) / len(splits.test),
                "mark": -float(truth.mark.sum()) / len(splits.test),
            }
            epochs, lr = (30, 2e-2) if kind in CLASSICAL else (given.epochs, given.lr)
            torch.manual_seed(seed)
            model = tpp.build(kind, 5, scale=float(splits.train.gaps.mean()))
            fitted = tpp.fit(
                model, splits, epochs=epochs, batch=32, patience=epochs, seed=seed,
                optimizer=lambda parameters, lr=lr: torch.optim.Adam(parameters, lr),
            )  # fmt: skip
            found = tpp.score(model, splits.test)
            nll = {"time": found.nll_time / len(splits.test), "mark": found.nll_mark / len(splits.test)}
            rows.append({"kind": kind, "seed": seed, "nll": nll, "true": true, "best": fitted.best})
        regrets = {
            task: interval(row["nll"][task] - row["true"][task] for row in rows if row["kind"] == kind) for task in nll
        }
        share = max(
            abs(row["nll"][task] / row["true"][task] - 1) for row in rows if row["kind"] == kind for task in nll
        )
        print(
            f"{kind:10} regret of the time {regrets['time'].mean:8.3f} ± {regrets['time'].half:.3f}, of the mark "
            f"{regrets['mark'].mean:8.3f} ± {regrets['mark'].half:.3f} nats per sequence; largest {100 * share:.2f} %",
            flush=True,
        )
    place = given.out
    place.write_text(json.dumps({"settings": {k: str(v) for k, v in vars(given).items()}, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
