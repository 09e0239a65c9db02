"""Figures of the page: means over seeds with Student's 95 % bands, one panel per problem."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from claims import Claims
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from plan import COMPARED, DENSITIES, METHODS, RATES, RULES, SWEEP, psn
from reading import Array, Facts, Key, at_loss

from accord.bench.stats import Interval, interval
from accord.report.palette import BAND, GRID, INK, REFERENCE
from accord.report.palette import MARKERS as NAMES
from accord.report.palette import METHODS as COLOURS
from accord.report.render_matplotlib import MARKERS, settings

CHANCE = 50.0  # per cent of conflict between directions that know nothing of each other
WIDTH, HEIGHT = 3.2, 2.5  # inches of a panel
MAIN = psn(DENSITIES[0])
# name, rule, what is seen, colour, dash
SERIES = (
    ("dense", "", "full", REFERENCE[0], "-"),
    (f"density {DENSITIES[0]:g}, all shared", psn(DENSITIES[0]), "full", COLOURS[0][0], "-"),
    (f"density {DENSITIES[0]:g}, trained only", psn(DENSITIES[0]), "masked", COLOURS[0][0], ":"),
    (f"density {DENSITIES[1]:g}, all shared", psn(DENSITIES[1]), "full", COLOURS[1][0], "-"),
    (f"density {DENSITIES[1]:g}, trained only", psn(DENSITIES[1]), "masked", COLOURS[1][0], ":"),
)
BINS, WINDOWS = 8, 10


def write(claims: Claims, folder: Path) -> None:
    """Every figure as PDF and PNG.

    Args:
        claims: with the runs.
        folder: that is there.
    """
    drawers: dict[str, Callable[[Claims, str, Axes], None]] = {
        "incidence": _incidence, "matched": _matched, "sweep": _sweep, "sweep-incidence": _sweep_incidence,
        "sizes": _sizes, "rules": _rules, "methods": _methods,
    }  # fmt: skip
    with settings():
        for name, draw in drawers.items():
            figure = Figure(figsize=(WIDTH * len(claims.homes), HEIGHT), layout="constrained")
            FigureCanvasAgg(figure)
            panels = figure.subplots(1, len(claims.homes), squeeze=False)[0]
            for problem, axes in zip(claims.homes, panels, strict=True):
                axes.set_title(problem, loc="left")
                draw(claims, problem, axes)
            handles, labels = panels[0].get_legend_handles_labels()
            if handles:
                figure.legend(handles, labels, loc="outside lower left", ncols=min(5, len(handles)))
            for kind in ("pdf", "png"):
                # no date inside, so that the same runs give the same bytes
                figure.savefig(folder / f"{name}.{kind}", metadata={"CreationDate": None} if kind == "pdf" else None)


def _incidence(claims: Claims, problem: str, axes: Axes) -> None:
    """Incidence by epoch, or by a few epochs together, under the plain sum at the first rate."""
    for name, rule, what, colour, dash in SERIES:
        runs = claims.book.get(claims.key(problem, sparse=rule)).values()
        curves = [looks.by_epoch() for facts in runs if (looks := getattr(facts, what)) is not None]
        epochs = np.arange(1.0, len(curves[0]) + 1) if curves else np.zeros(0)
        _band(axes, _windows(epochs), [_windows(curve) for curve in curves], name, colour, dash)
    _chance(axes)
    axes.set_xlabel("epoch")
    axes.set_ylabel("pairs in conflict, %")


def _matched(claims: Claims, problem: str, axes: Axes) -> None:
    """Incidence over all shared parameters against the smoothed training loss; training goes from right to left."""
    dense = claims.book.get(claims.key(problem))
    for name, rule, what, colour, dash in SERIES:
        runs = claims.book.get(claims.key(problem, sparse=rule))
        found = [at_loss(facts, dense[seed].first_losses()) for seed, facts in runs.items() if seed in dense]
        places = [place for place in found if place is not None]
        if what != "full" or not places:
            continue
        edges = np.quantile(np.concatenate([x for x, _ in places]), np.linspace(0, 1, BINS + 1))
        edges[-1] += 1e-9
        curves = [np.array([_mean(y[(x >= a) & (x < b)]) for a, b in itertools.pairwise(edges)]) for x, y in places]
        _band(axes, (edges[:-1] + edges[1:]) / 2, curves, name, colour, dash)
    _chance(axes)
    axes.invert_xaxis()
    axes.set_xlabel("training loss, of that at the beginning")
    axes.set_ylabel("pairs in conflict, %")


def _sweep(claims: Claims, problem: str, axes: Axes) -> None:
    _over_density(claims, problem, axes, claims.dm, "Δm minus that of dense, points")


def _sweep_incidence(claims: Claims, problem: str, axes: Axes) -> None:
    _over_density(claims, problem, axes, lambda facts: _looks(facts, "full"), "pairs in conflict, minus dense, points")


def _over_density(claims: Claims, problem: str, axes: Axes, value: Callable[[Facts], float], label: str) -> None:
    keys = {density: claims.key(problem, sparse=psn(density)) for density in SWEEP}
    found = [_paired(claims, key, claims.key(problem), value) for key in keys.values()]
    _dots(axes, list(keys), found, "PSN", COLOURS[0][0], 0)
    axes.axhline(0, color=REFERENCE[0], linewidth=1, label="dense")
    axes.set_xlabel("density")
    axes.set_ylabel(label)


def _sizes(claims: Claims, problem: str, axes: Axes) -> None:
    for number, (name, sparse, colour) in enumerate((("dense", "", REFERENCE[0]), (MAIN, MAIN, COLOURS[0][0]))):
        keys = [claims.key(problem, encoder=encoder, sparse=sparse) for encoder in claims.sizes[problem]]
        dense = [claims.book.get(claims.key(problem, encoder=encoder)) for encoder in claims.sizes[problem]]
        counts = [max((f.result["shared_parameters"] for f in runs.values()), default=math.nan) for runs in dense]
        found = [_interval(claims, key, lambda facts: _looks(facts, "full")) for key in keys]
        _dots(axes, counts, found, name, colour, number)
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count / 1000:.0f} k" for count in counts])
    axes.minorticks_off()
    _chance(axes)
    axes.set_xlabel("shared parameters")
    axes.set_ylabel("pairs in conflict, %")


def _rules(claims: Claims, problem: str, axes: Axes) -> None:
    """Every rule: gain against incidence, both less those of dense training with the same seed."""
    rules = {"PSN": psn(COMPARED)} | {rule: f"{rule}(density={COMPARED:g})" for rule in RULES}
    means = []
    for number, (name, sparse) in enumerate(rules.items()):
        key, dense = claims.key(problem, sparse=sparse), claims.key(problem)
        x = _paired(claims, key, dense, lambda facts: _looks(facts, "full"))
        y = _paired(claims, key, dense, claims.dm)
        colour = COLOURS[number % len(COLOURS)][0]
        marker = MARKERS[NAMES[number // len(COLOURS) + 1]]
        axes.errorbar(
            [x.mean], [y.mean], xerr=_half(x), yerr=_half(y), fmt=marker, color=colour, markersize=4, elinewidth=0.4,
            label=name,
        )  # fmt: skip
        means.append((x.mean, y.mean))
    # the means would sit on one spot if the longest interval had to fit in; lines may leave the panel
    low, high = np.nanmin([*means, (0, 0)], axis=0), np.nanmax([*means, (0, 0)], axis=0)
    axes.set_xlim(low[0] - 3, high[0] + 3)
    axes.set_ylim(low[1] - 3, high[1] + 3)
    axes.axhline(0, color=REFERENCE[0], linewidth=0.8)
    axes.axvline(0, color=REFERENCE[0], linewidth=0.8)
    axes.set_xlabel("pairs in conflict, minus dense, points")
    axes.set_ylabel("Δm minus that of dense, points")


def _methods(claims: Claims, problem: str, axes: Axes) -> None:
    """Sparse less dense training with the same method, rate and seed."""
    for number, density in enumerate(DENSITIES):
        found = [
            _paired(
                claims, claims.key(problem, method=m, sparse=psn(density)), claims.key(problem, method=m), claims.dm
            )
            for m in METHODS
        ]
        places = [place + 0.2 * (number - 0.5) for place in range(len(METHODS))]
        _dots(axes, places, found, psn(density), COLOURS[number][0], number)
    axes.axhline(0, color=REFERENCE[0], linewidth=1, label="dense")
    axes.set_xticks(range(len(METHODS)), [method.split("(")[0] for method in METHODS])
    axes.set_ylabel(f"Δm minus that of dense, rate {RATES[0]:g}")


def _dots(
    axes: Axes, x: Sequence[float], found: Sequence[Interval], name: str, colour: str, number: int
) -> None:  # fmt: skip
    means, halves = [one.mean for one in found], [_half(one) or 0.0 for one in found]
    axes.errorbar(
        x, means, yerr=halves, fmt=MARKERS[NAMES[number]], color=colour, markersize=4, elinewidth=0.8, label=name
    )


def _band(axes: Axes, x: Array, curves: Sequence[Array], name: str, colour: str, dash: str) -> None:
    if not curves:
        return
    found = [interval(column) for column in np.array(curves).T]
    axes.plot(x, [one.mean for one in found], color=colour, linestyle=dash, linewidth=1.2, label=name)
    axes.fill_between(
        x, [one.low for one in found], [one.high for one in found], color=colour, alpha=BAND / 2, linewidth=0
    )


def _chance(axes: Axes) -> None:
    axes.axhline(CHANCE, color=INK[0], linewidth=0.6, linestyle="--", zorder=0)
    axes.set_ylim(0, max(60, min(100, axes.get_ylim()[1])))
    axes.text(0.01, CHANCE, " chance", transform=axes.get_yaxis_transform(), va="bottom", fontsize=6.5, color=INK[0])
    axes.grid(color=GRID[0])


def _interval(claims: Claims, key: Key, value: Callable[[Facts], float]) -> Interval:
    runs: Mapping[int, Facts] = claims.book.get(key)
    return interval(value(facts) for facts in runs.values())


def _paired(claims: Claims, key: Key, reference: Key, value: Callable[[Facts], float]) -> Interval:
    """Over the seeds that both have: far narrower than either by itself."""
    one, other = claims.book.get(key), claims.book.get(reference)
    return interval(value(one[seed]) - value(other[seed]) for seed in one.keys() & other.keys())


def _windows(values: Array) -> Array:
    """At most ``WINDOWS`` means of neighbours: a few looks per epoch give 0, 1/2 or 1."""
    return (
        np.array([_mean(part) for part in np.array_split(values, min(WINDOWS, len(values)))]) if len(values) else values
    )


def _looks(facts: Facts, what: str) -> float:
    looks = getattr(facts, what)
    return math.nan if looks is None else float(looks.mean())


def _half(found: Interval) -> float | None:
    return None if math.isnan(found.low) else found.half


def _mean(values: Array) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
