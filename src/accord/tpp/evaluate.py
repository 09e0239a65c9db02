"""Evaluate: every figure about a fitted model on a data set, published and corrected definitions side by side."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.metrics import baselines, calibration, gaps, marks, scores
from accord.tpp.metrics.crps import crps_quadrature, crps_time
from accord.tpp.metrics.dequantise import dequantise
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent, mixture_of
from accord.tpp.predict import extent, following, likeliest
from accord.tpp.score import Scores, encoded, gathered, score
from accord.tpp.stiffness import quadrature_change

DRAWS = 5  # of the noise of dequantised likelihoods
TOP = (3, 5, 10)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures by name, and what pictures are made of.

    Args:
        values: figures by name; likelihoods in nats, times in units of the data.
        scores: what the model said about every event.
        mark_reliability: confidence against accuracy.
        time_reliability: level against share.
        sequences: with at least one scored event.
        dropped: sequences without one; no figure knows of them.
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
    ``f1_weighted``, ``f1_macro``, ...  precision, recall and F1 of one mark against the rest; see ``metrics.marks.F1``
    ``brier``                           of the marks
    ``quadrature_change``               nats per event by which twice as many nodes change the first batch, if any are
    ``mae``, ``rmse``, ``unresolved``   of the median of the next gap, where finite; how many medians are infinite
    ``accuracy_marginal``               of the likeliest mark without knowing the time (``marginal=True``); a mark that
                                        never comes counts as wrong
    ``crps``                            of the time (``crps=True``; hundreds of evaluations per event, closed for
                                        mixtures); inf where one event may never come
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
    model.accept(events)
    if train is not None and train.marks != events.marks:
        raise TPPError("training events and these have different vocabularies; map them to one first.")
    first, windows = not paper_compat, simulated or not paper_compat
    wanted = (predictions, marginal, crps)
    parts: list[tuple[Tensor, ...]] = []
    predicted: list[dict[str, Tensor]] = []
    limit, scale = extent(events)
    change = None
    for part in encoded(model, events, batch, first=first):
        if not parts:
            b = part.batch
            change = quadrature_change(model.time_part, part.h_time[b.prev], b.gap[b.event].clamp(min=model.floor))
        parts.append(part.terms(model))
        source = part.batch.source.cpu().numpy()
        predicted.append(_predicted(following(model, part, limit, scale), source, events, wanted))
    found = _windowed(gathered(parts), windows)
    count, n = len(found.sequences), len(found.mark)
    values = {
        "nll_time": found.nll_time / count,
        "nll_mark": found.nll_mark / count,
        "nll_time_per_event": found.nll_time / n,
        "nll_mark_per_event": found.nll_mark / n,
    }
    if events.tick is not None:
        noisy = (score(model, dequantise(events, draw), first=first, batch=batch) for draw in range(DRAWS))
        values["nll_time_dequantised"] = sum(_windowed(one, windows).nll_time for one in noisy) / DRAWS / count
    in_time = calibration.time_reliability(found.compensator)
    in_marks = calibration.mark_reliability(found.log_marks, found.mark)
    values |= {
        "pce": in_time.pce,
        "ks": calibration.kolmogorov_smirnov(found.compensator).distance,
        "ece": in_marks.ece,
        "ece_published": in_marks.ece_published,
    }
    values |= _marks(found) | _next(predicted)
    if change is not None:
        values["quadrature_change"] = change
    simple = {} if train is None else _baselines(train, events, found)
    return Evaluation(values, found, in_marks, in_time, count, len(events) - count, simple)


def _windowed(found: Scores, windows: bool) -> Scores:
    """The same, without the ends of the windows unless these count."""
    return found if windows else dataclasses.replace(found, window=torch.zeros_like(found.window))


def _marks(found: Scores) -> dict[str, float]:
    rank = marks.ranks(found.log_marks, found.mark).corrected
    return {
        "accuracy": marks.accuracy_at(rank, 1),
        **{f"accuracy@{n}": marks.accuracy_at(rank, n) for n in TOP if n < found.log_marks.shape[1]},
        "mrr": marks.reciprocal_rank(rank),
        **dataclasses.asdict(marks.f1(found.log_marks, found.mark)),
        "brier": float(scores.brier(found.log_marks, found.mark).mean()),
    }


def _predicted(
    ahead: NextEvent, source: np.ndarray, events: Events, wanted: tuple[bool, bool, bool]
) -> dict[str, Tensor]:
    """Columns (n,) about the scored events of a batch: gaps as they were and as predicted, marks that are hit, CRPS."""
    gap, found = torch.from_numpy(events.gaps[source]), {}
    predictions, marginal, crps = wanted
    if predictions:
        found["median"] = ahead.median().double()
    if marginal:
        found["marginal"] = likeliest(ahead.marginal_marks())
    if crps:
        found["crps"] = _crps(ahead, gap.to(ahead.h_time.device))
    return {"gap": gap, "mark": torch.from_numpy(events.mark[source]), **found}


def _crps(ahead: NextEvent, gap: Tensor) -> Tensor:
    part, h = ahead.model.time_part, ahead.h_time
    mixture = mixture_of(part, h)
    if mixture is not None:
        logits, mean, log_std = mixture
        return crps_time(torch.log_softmax(logits, 1), mean, log_std.exp(), gap)
    return crps_quadrature(lambda u: part.compensator(h, u.clamp(max=ahead.limit).to(h)), gap).value


def _next(parts: list[dict[str, Tensor]]) -> dict[str, float]:
    """Figures of predicted gaps and marks."""
    columns = {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}
    values: dict[str, float] = {}
    if "median" in columns:
        errors = gaps.gap_errors(columns["median"], columns["gap"])
        values |= {"mae": errors.mae, "rmse": errors.rmse, "unresolved": float(errors.unresolved)}
    if "marginal" in columns:
        values["accuracy_marginal"] = float((columns["marginal"] == columns["mark"]).double().mean())
    if "crps" in columns:
        values["crps"] = float(columns["crps"].mean())
    return values


def _baselines(train: Events, events: Events, found: Scores) -> dict[str, dict[str, float]]:
    """Mark likelihood per sequence and accuracy of predictors that know no time and no network."""
    simple = {}
    for name, fitted in baselines.BASELINES.items():
        log_p = baselines.log_marks(fitted(train), events, found.index)  # (n, M)
        rank = marks.ranks(log_p, found.mark).corrected
        simple[name] = {
            "nll_mark": float(scores.log_score(log_p, found.mark).sum()) / len(found.sequences),
            "accuracy": marks.accuracy_at(rank, 1),
            "mrr": marks.reciprocal_rank(rank),
        }
    return simple
