"""Scans read row by row: the setting in which an early and a late loss share recurrent weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss

import accord
from accord import through_time

STEPS_IN_TIME, EARLY = 20, 3  # T steps; the early loss is taken after three of them
ROW = 3  # what it predicts: the fourth row of the scan, of which it has seen less than one
SCALE = 10.0  # of its mean squared error, as in the specification
TRAIN, TEST = 1000, 497
TASKS = ("A", "B")
Kind = Literal["RNN", "GRU"]


class Part(NamedTuple):
    """Sequences x (T, N, 8), a row of each scan (N, 8), its digit (N,)."""

    x: Tensor
    row: Tensor
    digit: Tensor

    def at(self, i: Tensor) -> Part:
        """Some of the scans."""
        return Part(self.x[:, i], self.row[i], self.digit[i])


def load(seed: int, shuffled: bool = False) -> dict[str, Part]:
    """Training, validation and test scans of a seed; the eight rows are interpolated to 20 steps.

    Args:
        seed: of the split.
        shuffled: training digits in random order, so that there is nothing to learn.

    Example:
        >>> part = load(0)["test"]
        >>> tuple(part.x.shape), tuple(part.row.shape)
        ((20, 497, 8), (497, 8))
    """
    scans, digit = load_digits(return_X_y=True)
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(scans), generator=draw)
    rows = torch.as_tensor(scans, dtype=torch.float32).view(-1, 8, 8) / 16  # (N, 8 rows, 8)
    long = nn.functional.interpolate(rows.mT, STEPS_IN_TIME, mode="linear", align_corners=True)  # (N, 8, T)
    every = Part(long.permute(2, 0, 1).contiguous(), rows[:, ROW], torch.as_tensor(digit))
    sizes = [TRAIN, TEST, len(scans) - TRAIN - TEST]
    parts = {n: every.at(i) for n, i in zip(("train", "test", "validation"), order.split(sizes), strict=True)}
    if shuffled:
        labels = parts["train"].digit[torch.randperm(TRAIN, generator=draw)]  # (TRAIN,)
        parts["train"] = parts["train"]._replace(digit=labels)
    return parts


class Net(nn.Module):
    """A recurrent layer, read by two heads at two times.

    Args:
        seed: of the initial weights.
        kind: tanh-RNN or GRU.
        hidden: units of its state.

    Example:
        >>> net, part = Net(0, "RNN", 8), load(0)["validation"]
        >>> sorted(net.losses(part)), sorted(net.losses(part, window=5, tasks=("B",)))
        (['A', 'B'], ['B'])
    """

    def __init__(self, seed: int, kind: Kind, hidden: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.rnn = {"RNN": nn.RNN, "GRU": nn.GRU}[kind](8, hidden)
            self.early, self.late = nn.Linear(hidden, 8), nn.Linear(hidden, 10)

    def outputs(self, x: Tensor, window: int = STEPS_IN_TIME, late: bool = True) -> tuple[Tensor, Tensor | None]:
        """Both heads: (N, 8), and (N, 10) if it is wanted.

        Args:
            x: (T, N, 8).
            window: how many steps the late loss may teach. It reads no state that the early loss reads after the cut,
                so that detaching does it; where they overlap, ``accord.through_time.window`` is what is needed.
            late: whether the sequence is read to its end.
        """
        _, state = self.rnn(x[:EARLY])  # (1, N, hidden)
        early = self.early(state[0])  # (N, 8)
        if not late:
            return early, None
        cut = STEPS_IN_TIME - window
        if cut >= EARLY:
            if cut > EARLY:
                _, state = self.rnn(x[EARLY:cut], state)
            _, state = self.rnn(x[cut:], through_time.detached(state))
        else:
            _, state = self.rnn(x[EARLY:], state)
        return early, self.late(state[0])  # (N, 8), (N, 10)

    def losses(
        self, part: Part, window: int = STEPS_IN_TIME, tasks: Sequence[str] = TASKS, weights: Sequence[float] = (1, 1)
    ) -> dict[str, Tensor]:
        """The early loss A, ten times a mean squared error, and the late loss B, a cross entropy."""
        early, late = self.outputs(part.x, window, "B" in tasks)
        out = {"A": weights[0] * SCALE * mse_loss(early, part.row)} if "A" in tasks else {}
        return out if late is None else out | {"B": weights[1] * cross_entropy(late, part.digit)}

    def by_step(self, part: Part) -> Tensor:
        """Gramians of both losses on two halves of the scans, split by the time step through which they come.

        ``accord.uses`` hands the recurrent weights out once for every step; the contributions add up to the gradient.

        Args:
            part: N scans.

        Returns:
            (4, T, 4, T) of A and B on the first half, then on the second.
        """
        steps = accord.uses(dict(self.rnn.named_parameters()), STEPS_IN_TIME)
        count, half = len(part.digit), len(part.digit) // 2
        state = torch.zeros(1, count, self.rnn.hidden_size)  # (1, N, hidden)
        early = state
        for t, weights in enumerate(steps):
            _, state = functional_call(self.rnn, weights, (part.x[t : t + 1], state))
            early = state if t + 1 == EARLY else early
        row, digit = self.early(early[0]), self.late(state[0])  # (N, 8), (N, 10)
        losses = {}
        for name, chosen in (("first", slice(half)), ("second", slice(half, None))):
            losses[f"A {name}"] = SCALE * mse_loss(row[chosen], part.row[chosen])
            losses[f"B {name}"] = cross_entropy(digit[chosen], part.digit[chosen])
        return accord.contributions(losses, steps).gramian()

    @torch.no_grad()
    def evaluate(self, part: Part) -> dict[str, float]:
        """``A loss`` (mean squared error), ``B loss`` and ``B accuracy``."""
        early, late = self.outputs(part.x)
        assert late is not None
        right = (late.argmax(1) == part.digit).double().mean()
        return {
            "A loss": float(mse_loss(early, part.row)),
            "B loss": float(cross_entropy(late, part.digit)),
            "B accuracy": float(right),
        }

    def radius(self) -> float:
        """Spectral radius of the recurrent weights; of the candidate's in a GRU, whose gates come on top."""
        weights = self.rnn.weight_hh_l0.detach()[-self.rnn.hidden_size :]  # (hidden, hidden)
        return float(torch.linalg.eigvals(weights).abs().max())
