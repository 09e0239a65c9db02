"""Figures of an evaluation as tables, with the conventions that they follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accord.cli import show
from accord.cli.tpp.about import words
from accord.cli.tpp.chosen import Chosen
from accord.cli.tpp.rows import Columns, head
from accord.conflict import PairConflict
from accord.tpp.evaluate import Evaluation

SHOWN = 10  # rows of a ranking
MEANING = """CG: share of tensors and steps whose gradients of time and mark have a negative cosine; published: entries
below 1e-6 count as zero, and undefined cosines as no conflict. GMS: how alike the two norms are where they conflict; 1
is equal. TPI: share of the conflicts in which the time has the larger gradient. Losses are summed over the batch and
event 1 is not scored, as published."""
IN_TIME = ("mae", "rmse", "crps")  # in units of time
# text, as published, corrected, what the corrected figure is
ROWS = (
    ("NLL of the time, nats per sequence", "nll_time", "nll_time_dequantised", "without the time grid"),
    ("  nats per event", "nll_time_per_event", None, ""),
    ("PCE, calibration of the time", "pce", "ks", "Kolmogorov-Smirnov distance"),
    ("MAE of the median gap, {unit}", None, "mae", ""),
    ("RMSE of the median gap, {unit}", None, "rmse", ""),
    ("CRPS of the gap, {unit}", None, "crps", ""),
    ("NLL of the mark, nats per sequence", "nll_mark", None, ""),
    ("  nats per event", "nll_mark_per_event", None, ""),
    ("ECE, calibration of the mark", "ece_published", "ece", "weighted by events"),
    ("accuracy at the true time", "accuracy", None, ""),
    ("  among the 3 likeliest", "accuracy@3", None, ""),
    ("  among the 5 likeliest", "accuracy@5", None, ""),
    ("  among the 10 likeliest", "accuracy@10", None, ""),
    ("MRR", "mrr", None, ""),
    ("F1", "f1_weighted", "f1_macro", "mean over marks"),
    ("Brier score", None, "brier", ""),
    ("accuracy without knowing the time", None, "accuracy_marginal", ""),
)


def recorded_units(found: Evaluation, factor: float) -> dict[str, float]:
    """The figures, those in units of time as recorded; likelihoods stay in the model's unit."""
    return {name: value / factor if name in IN_TIME else value for name, value in found.values.items()}


def evaluation(chosen: Chosen, found: Evaluation, values: Mapping[str, float], conventions: Sequence[str]) -> None:
    """Print everything.

    Args:
        chosen: what was evaluated.
        found: its evaluation.
        values: its figures in recorded units of time.
        conventions: sentences.
    """
    table = show.grid("figure", "as published", "corrected", "")
    for text, published, corrected, remark in ROWS:
        cells = [_cell(values.get(name)) if name else "" for name in (published, corrected)]
        if any(cells):
            table.add_row(text.format(unit=words(chosen.about.unit)), *cells, remark if cells[1] else "")
    show.console().print(table)
    if never := int(values.get("unresolved", 0)):
        print(f"{never:,} predicted gaps are infinite: the model says that no event may come. MAE is without them.")
    if found.baselines:
        beside = show.grid("predictor of the mark", "NLL, nats per sequence", "accuracy", "MRR")
        ours = {name: values[name] for name in ("nll_mark", "accuracy", "mrr")}
        for name, figures in {**found.baselines, "this model": ours}.items():
            beside.add_row(name, *(_cell(figures[key]) for key in ours))
        show.console().print(beside)
    for sentence in conventions:
        print(show.wrapped(sentence))


def conventions(chosen: Chosen, found: Evaluation, paper_compat: bool) -> list[str]:
    """What has to be known to compare the figures with others."""
    about, events = chosen.about, chosen.events
    scored = events.scored[events.offsets[:-1][events.lengths > 0]]  # first events
    dropped = paper_compat and not about.simulated
    windows = 0.0 if dropped or not len(events) else float(np.mean(~np.isnan(events.end)))
    if paper_compat or not scored.any():
        first = "event 1 is not scored"
    else:
        first = "event 1 is scored" if scored.all() else f"event 1 is scored in {scored.mean():.0%} of the sequences"
    if windows:
        window = f"the wait to the end of the window counts in {windows:.0%} of the sequences"
    else:
        window = "ends of windows are left out" if dropped else "ends of windows are unknown (censoring: unknown)"
    out = f", {found.dropped:,} without a scored event left out" if found.dropped else ""
    said = [
        f"Conventions: {first}; {window}. Likelihoods in nats, times in {about.model_unit}; "
        f"{found.sequences:,} sequences of {chosen.part}{out}, {len(found.scores.mark):,} events."
    ]
    if chosen.train is None:
        said.append(
            f"No baselines of the mark: {about.data}, on which the model was fitted, was not found or has changed. "
            "Whether some of these sequences are among those is not known either."
        )
    if chosen.seen:
        said.append(f"Careful: {chosen.seen:,} of these sequences are among those that the model was fitted on.")
    return said


def conflict(parts: Mapping[str, tuple[PairConflict, PairConflict]]) -> None:
    """Print CG, GMS and TPI of each part of a model, and what they mean.

    Args:
        parts: by part, the measures of the gradients and those of the thresholded gradients.
    """
    table = show.grid("part", "CG %\npublished", "CG %", "mean cosine", "GMS", "TPI", "cosines", "undefined")
    for name, (exact, thresholded) in parts.items():
        shares = [_percent(value) for value in (thresholded.incidence_published, exact.incidence)]
        others = [_cell(value) for value in (exact.cosine, exact.similarity, exact.priority)]
        table.add_row(name, *shares, *others, f"{exact.entries:,}", f"{exact.undefined:,}")
    show.console().print(table)
    print(show.wrapped(MEANING))


def measures(exact: PairConflict, thresholded: PairConflict) -> dict[str, Any]:
    """The same for a file."""
    values = {
        "cg_published": thresholded.incidence_published, "cg": exact.incidence, "cosine": exact.cosine,
        "gms": exact.similarity, "gms_all": exact.similarity_all, "tpi": exact.priority,
        "tpi_all": exact.priority_all,
    }  # fmt: skip
    defined = {name: None if math.isnan(value) else value for name, value in values.items()}
    return {
        **defined, "entries": exact.entries, "undefined": exact.undefined, "histogram": exact.histogram.tolist()
    }  # fmt: skip


def ranking(title: str, columns: Columns) -> None:
    """Print the first rows of columns."""
    print(f"\n{title}, surprise in nats:")
    table = show.grid(*(name.replace("_", " ") for name in columns))
    for row in head(columns, SHOWN):
        table.add_row(*(_short(name, value) for name, value in row.items()))
    show.console().print(table)


def _short(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if name == "time":  # all digits, as in the file
        return np.format_float_positional(value, trim="-")
    return f"{value:.4g}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3e}"
    return f"{value:.{4 if abs(value) < 10 else 2}f}"
