"""Peak memory of a training step on the longest sequences of a data set, each model in a process of its own.

    python benchmarks/tpp_memory.py [--data lastfm] [--batch 32] [--models thp sahp ...] [--json FILE]

The batch holds the longest sequences together (LastFM: up to 6,396 events), which is the worst that a loader can meet.
Resident memory of the whole process, PyTorch included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

MODELS = ("thp", "sahp", "sthp+", "fnn", "lnm", "rmtpp", "thp++", "sahp-dd", "fnn-dd")


def measure(data: str, kind: str, history: str, batch: int) -> float:
    """GiB."""
    import numpy as np
    import torch

    from accord import problems, tpp

    torch.set_num_threads(2)
    train = problems.parse(f"tpp-{data}").splits(0).train
    longest = np.argsort(-train.lengths)[:batch]
    model = tpp.build(kind, len(train.marks), history=history, tick=train.tick)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        losses = model(tpp.collate(train, longest)).losses()
        (losses["time"] + losses["mark"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="lastfm")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "HISTORY"), help="measure in this process")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.one:
        print(measure(given.data, *given.one, given.batch))
        return
    found = {}
    for kind in given.models:
        for history in ("gru", "attention"):
            command = [
                sys.executable,
                __file__,
                "--data",
                given.data,
                "--batch",
                str(given.batch),
                "--one",
                kind,
                history,
            ]
            peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found[f"{kind}, {history}"] = peak
            print(f"{kind:10}{history:12}{peak:6.2f} GiB", flush=True)
    if given.json:
        given.json.write_text(json.dumps({"data": given.data, "batch": given.batch, "gib": found}, indent=1))


if __name__ == "__main__":
    main()
