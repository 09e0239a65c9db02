"""Scope: which parameters are trained whole, which row by row, and which not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from accord.errors import AccordError, nearest
from accord.sparse import patterns
from accord.sparse.families import families
from accord.sparse.fitness import check_apart, check_model, check_type, check_values
from accord.sparse.layout import Layout
from accord.sparse.owners import Owner, owners
from accord.sparse.placed import Placed

Regime = Literal["pretrained", "scratch"]
Treatment = Literal["rows", "whole", "frozen"]


@dataclass(frozen=True, eq=False)
class Part:
    """One parameter and what becomes of it.

    Args:
        name: its first name in the model, without the traces of a ``Placed``.
        parameter: the dense tensor.
        treatment: ``rows`` (some inputs of every row are trained), ``whole``, ``frozen``, or ``head`` (trained whole,
            and not shared).
        layout: how it is seen as a matrix.
        kind: see ``Target``.
        block: see ``Target``.
        placed: the parametrisation of ours that it is under.
    """

    name: str
    parameter: Tensor
    treatment: str
    layout: Layout
    kind: str = "other"
    block: str = ""
    placed: Placed | None = None

    @property
    def taps(self) -> int:
        """See ``Target``."""
        return self.parameter.shape[2:].numel() if self.kind == "conv" else 1


def scope(
    model: nn.Module,
    heads: str | Sequence[str] = (),
    regime: Regime = "pretrained",
    overrides: Mapping[str, Treatment] | None = None,
) -> list[Part]:
    """What becomes of every parameter.

    Weights of linear, convolutional, attention and recurrent layers go by rows, their biases are trained whole.
    Scales of norm layers, embedding tables, tokens and positions are frozen in a pre-trained model and trained whole
    in one from scratch. Heads are trained whole. What does not require a gradient stays frozen.

    Source: Zhang et al. 2024, https://arxiv.org/abs/2411.18615; that tables and norms are frozen reproduces its counts.

    Args:
        model: with the tasks' heads.
        heads: names of modules or parameters that belong to single tasks, or patterns with ``*``.
        regime: ``pretrained`` or ``scratch``.
        overrides: by pattern (see ``accord.sparse.patterns``), the treatment of the parameters that it names, heads
            included; the first pattern that matches counts.

    Raises:
        AccordError: for names that are nowhere, and parameters that cannot be selected from.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> [part.treatment for part in scope(net, heads="2")]
        ['rows', 'whole', 'frozen', 'frozen', 'head', 'head']
    """
    heads, overrides = _asked(heads, overrides)
    if regime not in get_args(Regime):
        raise AccordError(f"regime {regime!r} is unknown.{nearest(str(regime), get_args(Regime))}")
    for said in overrides.values():
        if said not in get_args(Treatment):
            raise AccordError(f"overrides: the treatment {said!r} is unknown.{nearest(str(said), get_args(Treatment))}")
    check_model(model)
    groups: dict[int, list[Owner]] = {}
    for owner in owners(model):
        groups.setdefault(id(owner.parameter), []).append(owner)
    names = [owner.name for group in groups.values() for owner in group]
    patterns.check(heads, names, "heads", patterns.is_head)
    patterns.check(overrides, names, "overrides")
    parts = [_part(group, heads, regime, overrides) for group in groups.values()]
    check_apart([(part.name, part.parameter) for part in parts if part.treatment == "rows"],
                [(part.name, part.parameter) for part in parts])  # fmt: skip
    found = families(model, [part.name for part in parts if part.treatment == "rows"])
    return [Part(**{**vars(part), "block": found.get(part.name, "")}) for part in parts]


def _asked(
    heads: str | Sequence[str], overrides: Mapping[str, Treatment] | None
) -> tuple[tuple[str, ...], Mapping[str, Treatment]]:
    """What the caller says, in one form."""
    many = (heads,) if isinstance(heads, str) or not isinstance(heads, Iterable) else tuple(heads)
    for head in many:
        if not isinstance(head, str):
            raise AccordError(f"heads holds {type(head).__name__}; expected names of modules or parameters, such as "
                              "heads=('depth', 'normal'), or () if there are none.")  # fmt: skip
    if overrides is not None and not isinstance(overrides, Mapping):
        raise AccordError(f"overrides is {type(overrides).__name__}; expected a dict by pattern, such as "
                          "{'encoder.*': 'frozen'}.")  # fmt: skip
    return many, {} if overrides is None else overrides


def _part(group: list[Owner], heads: tuple[str, ...], regime: Regime, overrides: Mapping[str, Treatment]) -> Part:
    """One parameter, whoever holds it."""
    owner, parameter = group[0], group[0].parameter
    said: str | None = patterns.first(overrides, [o.name for o in group])
    if said is None:
        said = _agreed(group, heads, regime)
        kept = parameter.requires_grad or owner.placed is not None  # under a Placed, the dense tensor never does
        if not kept and said != "head":
            if said == "rows":
                check_type(owner.name, parameter)  # quantised weights are frozen by nature, which is worth a word
            said = "frozen"
    elif said == "rows":
        _check_rows(group)
    if said != "frozen":
        check_values(owner.name, parameter, rows=said == "rows")
    return Part(owner.name, parameter, said, owner.layout, owner.kind, placed=owner.placed)


def _agreed(group: list[Owner], heads: tuple[str, ...], regime: Regime) -> str:
    """The treatment that all owners of a parameter agree on."""
    wishes = {}
    for owner in group:
        scale = "frozen" if regime == "pretrained" else "whole"
        by_role = {"weight": "rows", "bias": "whole", "scale": scale}[owner.role]
        wishes[owner.name] = "head" if any(patterns.is_head(head, owner.name) for head in heads) else by_role
    (name, first), *others = wishes.items()
    for other, wish in others:
        if wish != first:
            raise AccordError(
                f"{name} ({first}) and {other} ({wish}) are one tied parameter; say what becomes of it, as in "
                f"overrides={{{name!r}: 'frozen'}}."
            )
    if first == "rows":
        _check_rows(group)
    return first


def _check_rows(group: list[Owner]) -> None:
    """Only plain weights can be selected from."""
    for owner in group:
        if owner.derived:
            raise AccordError(
                f"{owner.name} is under a parametrisation, so that its scalars are not those of the weight; remove "
                f"that, or say overrides={{{owner.name!r}: 'frozen'}} (or 'whole')."
            )
        if owner.parameter.ndim < 2:
            raise AccordError(f"{owner.name} has no rows to select from (shape {tuple(owner.parameter.shape)}); "
                              "it can be 'whole' or 'frozen'.")  # fmt: skip
