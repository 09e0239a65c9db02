"""Build: a model by its name, put together from encoders and decoder parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from accord.tpp.decoders.fnn import FNN
from accord.tpp.decoders.hawkes import Hawkes
from accord.tpp.decoders.joint_lnm import JointLNM
from accord.tpp.decoders.lnm import LNM
from accord.tpp.decoders.part import MarkPart, TimePart
from accord.tpp.decoders.poisson import Poisson
from accord.tpp.decoders.rmtpp import RMTPP
from accord.tpp.decoders.sahp import SAHP
from accord.tpp.decoders.sthp import STHP, STHPMarkHead
from accord.tpp.decoders.thp import THP
from accord.tpp.encoders.attention import AttentionEncoder
from accord.tpp.encoders.constant import ConstantEncoder
from accord.tpp.encoders.encoder import Encoder
from accord.tpp.encoders.gru import GRUEncoder
from accord.tpp.encoders.hawkes_state import HawkesState
from accord.tpp.errors import TPPError, nearest
from accord.tpp.heads import MarkHead
from accord.tpp.model import TASKS, PointProcess
from accord.tpp.presets import DISJOINT, PUBLISHED, VARIANTS, Widths

Parts = dict[str, TimePart | MarkPart]
NAMES = tuple(PUBLISHED)
HISTORIES = ("gru", "attention", "constant")
PAIRS = 20  # marks up to which M² decays are affordable
FLOOR = 1e-6  # smallest gap that decoders tell from none, in units of time


def build(
    name: str,
    marks: int,
    widths: Widths | None = None,
    *,
    history: str = "gru",
    encoding: str = "temporal_with_labels",
    time_encoding: str = "relative",
    position: str = "index",
    tick: float | None = None,
    nonneg: bool | None = None,
    decay: str | None = None,
    scale: float = 1.0,
) -> PointProcess:
    """A model with fresh parameters.

    ============  ==================================================================================
    Variant       What the two tasks share
    ============  ==================================================================================
    base          encoder and decoder (THP, SAHP, FNN, Joint-LNM); the encoder (LNM, RMTPP)
    ``+``         the encoder; the mark head is a network of its own that sees the time of the event
    ``++``        nothing: as ``+`` with two encoders
    ``-d``        the encoder; two copies of the base decoder, one for each task (THP, SAHP, FNN)
    ``-dd``       nothing: as ``-d`` with two encoders
    ============  ==================================================================================

    Args:
        name: a family, ``thp``, ``sahp``, ``sthp``, ``fnn``, ``lnm``, ``rmtpp``, with its variant, such as ``thp++``;
            or ``joint-lnm``, ``poisson``, ``hawkes``.
        marks: M.
        widths: sizes of layers; None: the published ones.
        history: ``gru``, ``attention`` or ``constant``; ``poisson`` and ``hawkes`` have their own.
        encoding: of events; see ``EventEncoding``.
        time_encoding: ``relative`` (gaps) or ``absolute`` (time since the window's start).
        position: of attention: ``index`` adds the event's number, ``none`` leaves the order out.
        tick: resolution of the recording in units of time; gaps below half of it, or below 1e-6, count as that.
        nonneg: whether mark embeddings are kept non-negative; None: as published, for FNN only.
        decay: of ``hawkes``: one for each ``pair`` of marks, or one ``global``; None: ``pair`` up to 20 marks.
        scale: of ``hawkes``: a usual gap, from which its rates start.

    Raises:
        TPPError: for an unknown name or option.

    Example:
        >>> model = build("thp++", marks=50)
        >>> sum(p.numel() for p in model.parameters()), model.disjoint
        (14602, True)
    """
    if name not in PUBLISHED:
        raise TPPError(f"there is no model {name!r}.{nearest(name, NAMES)}")
    if marks < 1:
        raise TPPError(f"marks={marks}; expected at least 1.")
    settings: dict[str, Any] = {
        "name": name, "marks": marks, "history": history, "encoding": encoding, "time_encoding": time_encoding,
        "position": position, "tick": tick, "nonneg": nonneg, "decay": decay, "scale": scale,
    }  # fmt: skip
    widths = PUBLISHED[name] if widths is None else widths
    settings["widths"] = dataclasses.asdict(widths)
    family, variant = split_name(name)
    floor = FLOOR if tick is None else min(FLOOR, tick / 2)
    if family == "hawkes":
        process = Hawkes(marks, decay or ("pair" if marks <= PAIRS else "global"), scale)
        return PointProcess({"shared": HawkesState(process)}, {"shared": process}, marks, floor, settings)
    if family == "poisson":
        return PointProcess({"shared": ConstantEncoder(1)}, {"shared": Poisson(marks)}, marks, floor, settings)

    def encoder() -> Encoder:
        if history == "constant":
            return ConstantEncoder(widths.dim)
        common: dict[str, Any] = {
            "encoding": encoding, "time_encoding": time_encoding, "emb": widths.emb, "mid": widths.mid,
            "dim": widths.dim, "floor": floor, "nonneg": family == "fnn" if nonneg is None else nonneg,
        }  # fmt: skip
        if history == "gru":
            return GRUEncoder(marks, rnn=widths.rnn, **common)
        if history == "attention":
            layers: dict[str, Any] = {"layers": widths.layers, "heads": widths.heads, "ffn": widths.ffn}
            return AttentionEncoder(marks, position=position, **layers, **common)
        raise TPPError(f"history={history!r} is not known.{nearest(history, HISTORIES)}")

    tags = TASKS if variant in DISJOINT else ("shared",)
    decoder = _decoder(family, variant, marks, widths, floor)
    return PointProcess({tag: encoder() for tag in tags}, decoder, marks, floor, settings)


def split_name(name: str) -> tuple[str, str]:
    """Family and variant of a model's name.

    Example:
        >>> split_name("thp-dd"), split_name("joint-lnm"), split_name("lnm++")
        (('thp', '-dd'), ('joint-lnm', ''), ('lnm', '++'))
    """
    for variant in sorted(VARIANTS, key=len, reverse=True):
        if variant and name.endswith(variant):
            return name.removesuffix(variant), variant
    return name, ""


def _decoder(family: str, variant: str, marks: int, w: Widths, floor: float) -> Parts:
    head = marks if w.head is None else w.head
    if family == "joint-lnm":
        return {"shared": JointLNM(w.dim, marks, w.components, head)}
    if family == "sthp":
        return {"time": STHP(w.dim, marks), "mark": STHPMarkHead(w.dim, marks)}
    if family in ("lnm", "rmtpp"):
        time = LNM(w.dim, w.components) if family == "lnm" else RMTPP(w.dim)
        return {"time": time, "mark": MarkHead(w.dim, marks, head, timed=variant != "", floor=floor)}
    per_mark, ground = _intensities(family, marks, w, floor)
    if variant == "":
        return {"shared": per_mark()}
    if variant in ("-d", "-dd"):
        return {"time": per_mark(), "mark": per_mark()}
    return {"time": ground(), "mark": MarkHead(w.dim, marks, head, timed=True, floor=floor)}


def _intensities(
    family: str, marks: int, w: Widths, floor: float
) -> tuple[Callable[[], FNN | SAHP | THP], Callable[[], FNN | SAHP | THP]]:
    """Makers of the form with one unit for each mark, and of the one whose C units are only summed."""
    if family == "fnn":
        return (
            lambda: FNN(w.dim, marks, w.fnn, floor=floor),
            lambda: FNN(w.dim, w.components, w.fnn, ground=True, floor=floor),
        )
    kind = {"thp": THP, "sahp": SAHP}[family]
    return lambda: kind(w.dim, marks), lambda: kind(w.dim, w.components)


def rebuild(settings: dict[str, Any]) -> PointProcess:
    """The model that ``build`` made with these settings, with fresh parameters."""
    return build(**{**settings, "widths": Widths(**settings["widths"])})


def match_width(name: str, marks: int, target: int, widths: Widths | None = None, **options: Any) -> Widths:
    """The widths with which a model has a wanted number of parameters, within 1 %.

    ``rnn`` (``ffn`` for attention) is solved for; where one unit of it weighs too much, as in small models with two
    encoders, ``mid`` moves by a few units as well.

    Args:
        name: of the model.
        marks: M.
        target: wanted number of parameters.
        widths: the others stay as they are here; None: the published ones.
        options: of ``build``.

    Raises:
        TPPError: if the nearest is off by more than 1 %.

    Example:
        >>> match_width("thp+", 50, 14602).rnn
        41
    """
    widths = PUBLISHED[name] if widths is None else widths
    field = "ffn" if options.get("history") == "attention" else "rnn"

    def count(trial: Widths) -> int:
        with torch.device("meta"):
            model = build(name, marks, trial, **options)
        return sum(p.numel() for p in model.parameters())

    def nearest_to(trial: Widths) -> tuple[int, Widths]:
        low, high = 1, 2
        while count(dataclasses.replace(trial, **{field: high})) < target and high < 1 << 16:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            small = count(dataclasses.replace(trial, **{field: middle})) < target
            low, high = (middle, high) if small else (low, middle)
        both = [dataclasses.replace(trial, **{field: size}) for size in (low, high)]
        return min(((abs(count(found) - target), found) for found in both), key=lambda pair: pair[0])

    best = nearest_to(widths)
    for shift in (1, -1, 2, -2, 3, -3):
        if best[0] <= 0.01 * target or widths.mid + shift < 1:
            break
        best = min(best, nearest_to(dataclasses.replace(widths, mid=widths.mid + shift)), key=lambda pair: pair[0])
    if best[0] > 0.01 * target:
        raise TPPError(
            f"{name} with {best[1]} has {count(best[1])} parameters, and {target} were wanted; change its other widths."
        )
    return best[1]
