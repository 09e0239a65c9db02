"""Which problems to study: dense runs with the plain sum, seed 100, read for their time and their conflict alone.

    python experiments/sparse/candidates.py runs/sparse-candidates > experiments/sparse/candidates.md

No sparse run is made or looked at here, and seed 100 is none of the study's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from accord import conflict
from accord.bench.config import configure
from accord.bench.run import run

CANDIDATES = (
    "digits(train=3000, width=64, epochs=8)",
    "multimnist(encoder='bottleneck(width=64)', train=2000, epochs=8)",
    "multimnist(encoder='conv(channels=8)', train=2000, epochs=8)",
    "multimnist(encoder='vit-tiny(patch=6, width=48, blocks=2, heads=2)', train=2000, epochs=8)",
    "mtfl(encoder='bottleneck(width=64)', limit=3000, epochs=6)",
    "mtfl(encoder='conv(channels=8)', limit=2000, epochs=6)",
    "eth80(size=32, encoder='conv(channels=8)', epochs=6)",
    "adult(encoder='mlp(width=256)', limit=12000, epochs=6)",
    "school(encoder='mlp(width=64)', epochs=6)",
    "tox21(encoder='mlp(width=64)', limit=3000, epochs=4)",
    "mulan-jura(encoder='mlp(width=256)', epochs=60)",
    "mulan-enb(encoder='mlp(width=256)', epochs=40)",
    "mulan-wq(encoder='mlp(width=256)', epochs=10)",
    "mulan-scpf(encoder='mlp(width=256)', epochs=15)",
    "mulan-osales(encoder='mlp(width=256)', epochs=15)",
    "ud-ewt(encoder='gru(embedding=64)', train=600, validation=300, epochs=3)",
    "tpp-hawkes(epochs=4)",
    "tpp-mooc(kind='thp', limit=300, epochs=4)",
)


def main() -> None:
    """Run what is not there yet, and print the table."""
    root = Path(sys.argv[1])
    print("| problem | tasks | shared | steps | CPU s | conflict, all | last half | mean cosine |")
    print("|---|---|---|---|---|---|---|---|")
    for problem in CANDIDATES:
        config = configure(problem=problem, monitor_every=4, blocks="total", select="validation", seed=100)
        began = time.process_time()
        found = run(config, root)
        seconds = time.process_time() - began
        result, record = found.result, found.record()
        assert result is not None
        assert record is not None
        rates = conflict.incidence(record.gramian)  # (T,)
        angles = conflict.upper(conflict.cosine(record.gramian))  # (T, pairs)
        late = rates[len(rates) // 2 :]
        print(
            f"| `{config.problem}` | {len(record.tasks)} | {result['shared_parameters']} | {result['steps']} "
            f"| {seconds:.1f} | {100 * np.nanmean(rates):.0f} % | {100 * np.nanmean(late):.0f} % "
            f"| {np.nanmean(angles):+.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
