"""One colour, dash and marker per method and per task, the same in every chart of a page.

Methods take the colours of Okabe and Ito, https://jfly.uni-koeln.de/color/ (the plain sum is grey: it is what the
others are compared with); tasks take Paul Tol's "muted" set, https://sronpersonalpages.nl/~pault/, so that a task
is never mistaken for a method. Both sets stay apart under the common kinds of colour blindness. Where there are more
names than colours, the dash and the marker change.
"""

from __future__ import annotations

from dataclasses import dataclass

# (on white, on the dark page): dark partners are lightened where the colour would sink into the background
METHODS = (
    ("#0072b2", "#4ba3dd"),
    ("#d55e00", "#f08b42"),
    ("#009e73", "#2fc49a"),
    ("#c066a0", "#dd92c1"),
    ("#c98a00", "#f0b93a"),
    ("#3d9ed9", "#8fd0f7"),
)
TASKS = (
    ("#332288", "#9a8cf0"),
    ("#cc6677", "#ee8f9e"),
    ("#2f9688", "#5cc9b9"),
    ("#882255", "#d8649c"),
    ("#8a8a2e", "#c4c45c"),
    ("#4d9fc7", "#a6dcf5"),
    ("#117733", "#4fb56f"),
    ("#aa4499", "#d77fca"),
    ("#b79a3c", "#e6d488"),
)
REFERENCE = ("#5f6773", "#aab1bd")
INK = ("#1d2128", "#e9ebef")
PAPER = ("#ffffff", "#1b1e24")
GRID = ("#e4e6ea", "#2f343d")
HATCH = ("#9aa1ac", "#6c7480")
DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "x")

# conflict is warm, agreement is blue, the middle is the paper (after ColorBrewer's RdBu and OrRd)
DIVERGING = (
    ("#b2182b", "#ff7a63"),
    ("#ef8a62", "#b4533f"),
    ("#fbe3d6", "#523530"),
    ("#f6f6f6", "#2c3037"),
    ("#d9e9f3", "#2f4257"),
    ("#67a9cf", "#3f7fb5"),
    ("#2166ac", "#7cc0ff"),
)
SEQUENTIAL = (
    ("#f6f6f7", "#2c3038"),
    ("#fdd3ae", "#5b3c2d"),
    ("#fc8d59", "#a5553a"),
    ("#b9301f", "#ff8a66"),
)
BAND = 0.16  # opacity of the band around a line


@dataclass(frozen=True)
class Style:
    """How a series looks: a colour on white as ``#rrggbb``, a dash, a marker."""

    colour: str
    dash: str = "solid"
    marker: str = "circle"


def method_style(i: int) -> Style:
    """The style of the i-th method beside the plain sum."""
    return _nth(i, METHODS, MARKERS[1:])


def task_style(i: int) -> Style:
    """The style of the i-th task."""
    return _nth(i, TASKS, MARKERS)


def reference_style() -> Style:
    """The style of the plain sum."""
    return Style(REFERENCE[0])


def single_style() -> Style:
    """The style of single-task training."""
    return Style(INK[0], marker="star")


def rgba(colour: str, opacity: float) -> str:
    """``#rrggbb`` with an opacity, as both renderers' band colour.

    Example:
        >>> rgba("#0072b2", 0.5)
        'rgba(0,114,178,0.5)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def dark() -> dict[str, str]:
    """Every colour on white, and every band, with its partner on the dark page."""
    pairs = (*METHODS, *TASKS, *DIVERGING, *SEQUENTIAL, REFERENCE, INK, PAPER, GRID, HATCH)
    return dict(pairs) | {rgba(light, BAND): rgba(night, BAND + 0.06) for light, night in pairs}


def _nth(i: int, colours: tuple[tuple[str, str], ...], markers: tuple[str, ...]) -> Style:
    lap, place = divmod(i, len(colours))
    return Style(colours[place][0], DASHES[lap % len(DASHES)], markers[i % len(markers)])
