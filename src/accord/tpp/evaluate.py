"""Evaluate: every figure about a fitted model on a data set, published and corrected definitions side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.metrics import baselines, calibration, gaps, marks, scores
from accord.tpp.metrics.crps import crps_quadrature
from accord.tpp.metrics.dequantise import dequantise
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent
from accord.tpp.predict import following_events
from accord.tpp.score import Scores, score

DRAWS = 5  # of the noise of dequantised likelihoods
TOP = (1, 3, 5, 10)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures by name, and what pictures are made of.

    Args:
        values: figures by name; likelihoods in nats, times in units of the data.
        scores: what the model said about every event.
        mark_reliability: confidence against accuracy.
        time_reliability: level against share.
        sequences: with at least one scored event.
        dropped: sequences without one.
        baselines: mark likelihoods and accuracies of simple predictors, if training events were given.
    """

    values: dict[str, float]
    scores: Scores
    mark_reliability: calibration.MarkReliability
    time_reliability: calibration.TimeReliability
    sequences: int
    dropped: int
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4g}" for name, value in self.values.items())
        return f"Evaluation({self.sequences} sequences, {len(self.scores.mark)} events: {shown})"


@torch.no_grad()
def evaluate(
    model: PointProcess,
    events: Events,
    *,
    train: Events | None = None,
    predictions: bool = True,
    marginal: bool = False,
    crps: bool = False,
    paper_compat: bool = False,
    simulated: bool = False,
    batch: int = 256,
) -> Evaluation:
    """Score a model on a data set.

    ==================================  ===========================================================================
    Name                                Meaning
    ==================================  ===========================================================================
    ``nll_time``, ``nll_mark``          nats per sequence with a scored event; ``..._per_event`` per scored event
    ``nll_time_dequantised``            the same after U(0, tick) was added to every time, mean of 5 draws
    ``pce``, ``ks``                     calibration of the time: published grid; Kolmogorov-Smirnov distance
    ``ece``, ``ece_published``          calibration of the mark: weighted by events; as published
    ``accuracy``, ``accuracy@3``, ...   share of events whose mark is among the n likeliest at the true time
    ``mrr``                             mean of 1 / rank; ties by the smaller number
    ``f1_weighted``, ``f1_macro``       one mark against the rest
    ``brier``                           of the marks
    ``mae``, ``rmse``, ``unresolved``   of the median of the next gap; how many medians are infinite
    ``accuracy_marginal``               of the likeliest mark without knowing the time (``marginal=True``)
    ``crps``                            of the time (``crps=True``; hundreds of evaluations per event)
    ==================================  ===========================================================================

    Args:
        model: fitted.
        events: with the model's vocabulary.
        train: the events it was fitted on, for the mark baselines.
        predictions: predict gaps, which takes longer than the likelihood.
        marginal: predict marks without the time, which takes 16 times as long.
        crps: take the CRPS of the time.
        paper_compat: as the authors of the study: first events are not scored, ends of windows are ignored.
        simulated: with ``paper_compat``: keep the ends of the windows.
        batch: sequences at once.

    Returns:
        Everything as ``Evaluation``.

    Raises:
        TPPError: if no event can be scored, or vocabularies differ.

    Source: definitions of Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590; what is corrected says so in
        ``accord.tpp.metrics``.

    Example:
        >>> from accord.tpp.build import build
        >>> events = Events.of([[1.0, 2.0, 4.0]] * 5, [[0, 1, 0]] * 5, start=0.0)
        >>> found = evaluate(build("lnm", marks=2), events)
        >>> found.sequences, found.values["accuracy"] <= 1
        (5, True)
    """
    first = not paper_compat
    if paper_compat and not simulated:
        events = dataclasses.replace(events, end=np.full(len(events), np.nan))
    found = score(model, events, first=first, batch=batch)
    count, n = len(found.sequences), len(found.mark)
    values = {
        "nll_time": found.nll_time / count,
        "nll_mark": found.nll_mark / count,
        "nll_time_per_event": found.nll_time / n,
        "nll_mark_per_event": found.nll_mark / n,
    }
    if events.tick is not None:
        noisy = [score(model, dequantise(events, draw), first=first, batch=batch) for draw in range(DRAWS)]
        values["nll_time_dequantised"] = sum(part.nll_time for part in noisy) / DRAWS / count
    in_time = calibration.time_reliability(found.compensator)
    in_marks = calibration.mark_reliability(found.log_marks, found.mark)
    values |= {
        "pce": in_time.pce,
        "ks": calibration.kolmogorov_smirnov(found.compensator).distance,
        "ece": in_marks.ece,
        "ece_published": in_marks.ece_published,
    }
    values |= _marks(found)
    if predictions or marginal or crps:
        values |= _next(model, events, found, batch, (predictions, marginal, crps))
    simple = {} if train is None else _baselines(train, events, found)
    return Evaluation(values, found, in_marks, in_time, count, len(events) - count, simple)


def _marks(found: Scores) -> dict[str, float]:
    rank = marks.ranks(found.log_marks, found.mark).corrected
    f1 = marks.f1(found.log_marks, found.mark)
    top = {f"accuracy@{n}": marks.accuracy_at(rank, n) for n in TOP if n < found.log_marks.shape[1]}
    return {
        "accuracy": marks.accuracy_at(rank, 1),
        **{name: value for name, value in top.items() if name != "accuracy@1"},
        "mrr": marks.reciprocal_rank(rank),
        "f1_weighted": f1.f1_weighted,
        "f1_macro": f1.f1_macro,
        "brier": float(scores.brier(found.log_marks, found.mark).mean()),
    }


def _next(
    model: PointProcess, events: Events, found: Scores, batch: int, wanted: tuple[bool, bool, bool]
) -> dict[str, float]:
    """Figures of predicted gaps and marks: medians, marginal marks, CRPS."""
    indices, *columns = zip(*_columns(model, events, batch, wanted), strict=True)
    index = np.concatenate(indices)
    keep = np.isin(index, found.index)  # not the first events, where those are not scored
    order = np.argsort(index[keep], kind="stable")
    gap, likely, crps = (torch.cat(column)[keep][order] for column in columns)
    values: dict[str, float] = {}
    if wanted[0]:
        errors = gaps.gap_errors(gap, torch.from_numpy(events.gaps[found.index]))
        values |= {"mae": errors.mae, "rmse": errors.rmse, "unresolved": float(errors.unresolved)}
    if wanted[1]:
        values["accuracy_marginal"] = float((likely == found.mark).double().mean())
    if wanted[2]:
        values["crps"] = float(crps.mean())
    return values


def _columns(
    model: PointProcess, events: Events, batch: int, wanted: tuple[bool, bool, bool]
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor, torch.Tensor]]:
    for index, following in following_events(model, events, batch):
        nothing = torch.zeros(len(following))
        gap = following.median().double().cpu() if wanted[0] else nothing
        likely = torch.nan_to_num(following.marginal_marks(), -1).argmax(1).cpu() if wanted[1] else nothing
        crps = _crps(following, torch.from_numpy(events.gaps[index])) if wanted[2] else nothing
        yield index, gap, likely, crps


def _crps(following: NextEvent, gaps_: torch.Tensor) -> torch.Tensor:
    part, h = following.model.time_part, following.h_time
    return crps_quadrature(lambda u: part.compensator(h, u.to(h)).double(), gaps_.to(h.device)).value.cpu()


def _baselines(train: Events, events: Events, found: Scores) -> dict[str, dict[str, float]]:
    """Mark likelihood per sequence and accuracy of predictors that know no time and no network."""
    if train.marks != events.marks:
        raise TPPError("training events and these have different vocabularies; map them to one first.")
    simple = {}
    for name, fitted in (
        ("unigram", baselines.unigram),
        ("repeat-last", baselines.repeat_last),
        ("markov", baselines.markov),
    ):
        log_p = baselines.log_marks(fitted(train), events, found.index)  # (n, M)
        own = scores.log_score(log_p, found.mark)
        rank = marks.ranks(log_p, found.mark).corrected
        simple[name] = {
            "nll_mark": float(own.sum()) / len(found.sequences),
            "accuracy": marks.accuracy_at(rank, 1),
            "mrr": marks.reciprocal_rank(rank),
        }
    return simple
