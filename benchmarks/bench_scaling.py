"""How much faster a suite of tiny runs is with two workers than with one.

    python benchmarks/bench_scaling.py [--runs 60] [--rounds 3]

Persistent single-threaded workers, each in a process of its own, in a fresh folder. One worker and two in turn; the
ratio is the median over rounds. "With start" counts from nothing, the import of PyTorch in every worker included;
"runs alone" from the moment at which every worker has finished its first run. Leave the machine alone meanwhile: two
workers need two free cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from accord.bench import pool, store
from accord.bench.config import RunConfig, configure

PROBLEM = "digits(train=512, validation=64, test=64, epochs=3, batch=32)"
METHODS = ("Sum()", "UPGrad()", "PCGrad()")


class Clock:
    """Notes when runs end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def epoch(self, index: int, done: int) -> None:
        pass

    def finished(self, index: int, run: store.Run) -> None:
        self.ends.append(time.perf_counter())


def measured(configs: list[RunConfig], workers: int) -> tuple[float, float]:
    """Seconds of the suite with start, and seconds per run once all workers are under way."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as root:
        began = time.perf_counter()
        with pool._pool(workers) as started:  # `execute` would use no process of its own for one job
            pool._share_out(configs, root, clock, started)
        whole = time.perf_counter() - began
    return whole, (clock.ends[-1] - clock.ends[workers - 1]) / (len(configs) - workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    configs = [
        configure(problem=PROBLEM, method=METHODS[i % len(METHODS)], seed=i // len(METHODS)) for i in range(given.runs)
    ]
    ratios: list[tuple[float, float]] = []
    for number in range(given.rounds):
        (one, each), (two, both) = measured(configs, 1), measured(configs, 2)
        ratios.append((one / two, each / both))
        print(
            f"round {number + 1}: one worker {one:.1f} s, two {two:.1f} s; "
            f"{1000 * each:.0f} and {1000 * both:.0f} ms per run once under way",
            flush=True,
        )
    print(f"load before: {', '.join(f'{value:.1f}' for value in os.getloadavg())}; cores: {os.cpu_count()}")
    for name, column in (("with start", 0), ("runs alone", 1)):
        values = [ratio[column] for ratio in ratios]
        print(f"{name}: {statistics.median(values):.2f} x ({', '.join(f'{value:.2f}' for value in values)})")


if __name__ == "__main__":
    main()
