"""Intensity curves: how likely each mark is at every moment of one sequence, given what came before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from accord.tpp.batch import collate
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats
from accord.tpp.model import PointProcess


@dataclass(frozen=True, eq=False)
class IntensityCurves:
    """Conditional intensities on a grid of times; at an event, the last moment before it and the first behind it.

    Pieces without extent are left out: between tied events, before a first event that starts the observation, and
    behind a last one that ends it.

    Args:
        time: (G,) in units of the data, never decreasing; an event's time stands twice.
        marks: (G, M) lambda_k, events per unit of time.
        compensator: (G,) of the ground process since the origin.
        events: (L,) times of the events.
        event_marks: (L,) their marks.
    """

    time: Floats
    marks: Floats
    compensator: Floats
    events: Floats
    event_marks: np.ndarray

    @property
    def ground(self) -> Floats:
        """(G,) sum over the marks."""
        return self.marks.sum(1)


@torch.no_grad()
def intensity(model: PointProcess, events: Events, sequence: int = 0, points: int = 20) -> IntensityCurves:
    """Conditional intensities along one sequence, each from the events strictly before.

    Args:
        model: fitted.
        events: with the model's vocabulary.
        sequence: its number.
        points: of the grid from one event to the next, both ends among them.

    Raises:
        TPPError: for an unknown number, another vocabulary, or fewer than two points.

    Example:
        >>> from accord.tpp.build import build
        >>> events = Events.of([[1.0, 2.0]], start=0.0, names=["a", "b"])
        >>> curves = intensity(build("poisson", marks=2), events, points=3)
        >>> curves.time.tolist(), curves.marks.shape
        ([0.0, 0.25, 1.0, 1.0, 1.25, 2.0], (6, 2))
    """
    model.accept(events)
    if not 0 <= sequence < len(events):
        raise TPPError(f"there is no sequence {sequence}; expected 0..{len(events) - 1}.")
    if points < 2:
        raise TPPError(f"points={points}; expected at least 2.")
    model.eval()
    one = events.subset([sequence])
    batch = collate(one, None, model.dtype).to(model.device)
    h_time, h_mark = model.encode(batch)  # (L + 1, D)
    begins = np.concatenate([one.origin, one.time])  # (L + 1,) of the token before each piece
    lengths = np.concatenate([one.gaps, one.tails])  # (L + 1,)
    some = np.flatnonzero(lengths > 0)  # ties, an unknown start and an unknown end have no extent
    # squares: denser behind an event, where heads that see the logarithm of the gap move most
    tau = lengths[some, None] * np.linspace(0, 1, points) ** 2  # (S, points)
    time = begins[some, None] + tau
    time[:, -1] = np.append(one.time, one.end)[some]  # sums would miss it by rounding
    rows = torch.from_numpy(np.repeat(some, points)).to(model.device)
    gap = torch.from_numpy(tau.reshape(-1)).to(h_time)
    found = model.decode(h_time[rows], h_mark[rows], gap)
    since = torch.where(gap > 0, found.compensator, 0.0).double().cpu().numpy().reshape(tau.shape)
    before = np.cumsum(np.append(0.0, since[:-1, -1]))  # (S,) up to each piece; never decreasing, also when rounded
    return IntensityCurves(
        time.reshape(-1),
        torch.exp(found.log_intensities).double().cpu().numpy(),
        (before[:, None] + since).reshape(-1),
        one.time,
        one.mark,
    )
