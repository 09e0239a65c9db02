"""Events per second in training and in evaluation, beside EasyTPP in one process.

    python benchmarks/tpp.py [--data hawkes mooc] [--sequences 640] [--repeats 5] [--threads 2] [--json FILE]

Both train on the same sequences in batches of 64 with Adam, a history vector of the same size, and the same kind of
history encoder (recurrent or self-attention, two layers and two heads). Each repeat times one pass of ours and then one
of theirs, so that a busy minute slows both; the table shows medians. Collation is part of the time. *Evaluation* is
likelihood, the median of the next gap and the likeliest mark for every event; theirs is likelihood and its own
one-step prediction (samples by thinning), where it has one.

The share of the encoder is its forward and backward pass alone over the whole training step; padding is what padded
batches of 64 would hold for each token, in random order and as batched here. Ours holds none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tpp_peers import easytpp

from accord import problems, tpp
from accord.tpp.hawkes.presets import hawkes_large
from accord.tpp.hawkes.simulate import simulate

BATCH, HIDDEN = 64, 32
PAIRS = {"rmtpp": "RMTPP", "lnm": "IntensityFree", "fnn": "FullyNN", "thp": "THP", "sahp": "SAHP"}
ATTENTION = ("thp", "sahp")
WIDTHS = {
    "rmtpp": tpp.Widths(HIDDEN, HIDDEN, HIDDEN, emb=HIDDEN),
    "lnm": tpp.Widths(HIDDEN, HIDDEN, HIDDEN, head=HIDDEN, components=3, emb=HIDDEN),
    "fnn": tpp.Widths(HIDDEN, HIDDEN, HIDDEN, fnn=HIDDEN, emb=HIDDEN),
    "thp": tpp.Widths(HIDDEN, HIDDEN, HIDDEN, emb=HIDDEN, layers=2, heads=2, ffn=HIDDEN),
    "sahp": tpp.Widths(HIDDEN, HIDDEN, HIDDEN, emb=HIDDEN, layers=2, heads=2, ffn=HIDDEN),
}


def events_of(name: str, count: int) -> tpp.Events:
    """Sequences of about 100 events of the simulated process, or the first ones of a real training part."""
    if name == "hawkes":
        return simulate(hawkes_large(), count, 13.0, seed=0)
    train = problems.parse(f"tpp-{name}").splits(0).train
    return train.subset(np.arange(min(count, len(train))))


class Ours:
    """One model, with passes to be timed."""

    def __init__(self, kind: str, events: tpp.Events) -> None:
        self.events, self.rng = events, np.random.default_rng(0)
        history = "attention" if kind in ATTENTION else "gru"
        self.model = tpp.build(kind, len(events.marks), WIDTHS[kind], history=history, tick=events.tick)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def train(self) -> None:
        for batch in tpp.batches(self.events, BATCH, self.rng):
            self.optimizer.zero_grad()
            losses = self.model(batch).losses()
            (losses["time"] + losses["mark"]).backward()
            self.optimizer.step()
            self.model.project_()

    def encode(self) -> None:
        for batch in tpp.batches(self.events, BATCH, self.rng):
            self.optimizer.zero_grad()
            self.model.encode(batch)[0].sum().backward()

    def evaluate(self) -> None:
        tpp.evaluate(self.model, self.events)


def padding(events: tpp.Events) -> dict[str, float]:
    """Slots of padded batches for each token: sequences in the order of the data, and as our loader groups them."""
    given = [events.lengths[i : i + BATCH] + 1 for i in range(0, len(events), BATCH)]
    grouped = [(len(b.sizes), len(b), len(b.mark)) for b in tpp.batches(events, BATCH, np.random.default_rng(0))]
    tokens = sum(n for _, _, n in grouped)
    return {
        "random": sum(len(part) * int(part.max()) for part in given) / tokens,
        "grouped": sum(steps * count for steps, count, _ in grouped) / tokens,
    }


def timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    return clock() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["hawkes", "mooc"])
    parser.add_argument("--models", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--sequences", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--evaluated", type=int, default=64, help="sequences of the peer's evaluation, which is slow")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine, one thread")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    rows = []
    for name in given.data:
        events = events_of(name, given.sequences)
        few = events.subset(np.arange(min(given.evaluated, len(events))))
        waste = padding(events)
        print(f"{events}, mean length {events.lengths.mean():.0f}; padded slots per token: {waste}")
        print(f"{'':8}{'training, k events/s':>34}{'evaluation, k events/s':>34}{'encoder':>10}")
        print(f"{'':8}{'ours':>12}{'EasyTPP':>12}{'ratio':>10}{'ours':>12}{'EasyTPP':>12}{'ratio':>10}")
        for kind in given.models:
            torch.manual_seed(0)
            ours = Ours(kind, events)
            peer_train, peer_evaluate = peers(kind, events)[0], peers(kind, few)[1]
            passes = {
                "train": (ours.train, events), "peer_train": (peer_train, events), "encode": (ours.encode, events),
                "evaluate": (ours.evaluate, events), "peer_evaluate": (peer_evaluate, few),
            }  # fmt: skip
            speed: dict[str, list[float]] = {key: [] for key in passes}
            for repeat in range(given.repeats + 1):
                for key, (run, which) in passes.items():
                    if key == "peer_evaluate" and repeat > 1:  # one warm pass is enough: it takes minutes
                        continue
                    seconds = timed(run, clock)
                    if repeat or key == "peer_evaluate":
                        speed[key].append(which.time.size / seconds / 1e3)
            found = {key: statistics.median(values) for key, values in speed.items()}
            share = found["train"] / found["encode"]
            rows.append({"data": name, "model": kind, "encoder": share, **found, "all": speed, "padding": waste})
            print(
                f"{kind:8}{found['train']:12.1f}{found['peer_train']:12.1f}{found['train'] / found['peer_train']:10.2f}"
                f"{found['evaluate']:12.1f}{found['peer_evaluate']:12.1f}"
                f"{found['evaluate'] / found['peer_evaluate']:10.1f}{share:10.0%}",
                flush=True,
            )
    if given.json:
        about = {"torch": torch.__version__, "threads": given.threads, "clock": given.clock, "rows": rows}
        given.json.write_text(json.dumps(about, indent=1))


def peers(kind: str, events: tpp.Events) -> tuple[Callable[[], object], Callable[[], object]]:
    """Training and evaluation of the peer's model on the same sequences."""
    cuts = list(zip(events.offsets[:-1], events.offsets[1:], strict=True))
    sequences = [(events.time[a:b].tolist(), events.mark[a:b].tolist()) for a, b in cuts]
    return easytpp(PAIRS[kind], HIDDEN, len(events.marks), sequences)


if __name__ == "__main__":
    main()
