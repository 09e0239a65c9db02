"""select: from a model and a rule to a mask; count: the same from shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord.errors import AccordError
from accord.sparse.evidence import Evidence, collect
from accord.sparse.fitness import check_finite
from accord.sparse.mask import Mask
from accord.sparse.origin import origin
from accord.sparse.rule import Rule, Target
from accord.sparse.rules import parse_rule
from accord.sparse.scope import Part, Regime, Treatment, scope
from accord.sparse.selection import Rows, Selection, narrow

DENSITY = {"pretrained": 0.3, "scratch": 0.6}  # near the best shares of the paper's two kinds of models


@dataclass(frozen=True)
class Count:
    """How many scalars are trained.

    Args:
        trainable: trained scalars, heads included.
        total: scalars of the model.
    """

    trainable: int
    total: int

    @property
    def share(self) -> float:
        """Trained share."""
        return self.trainable / self.total if self.total else 0.0


def select(
    model: nn.Module,
    rule: Rule | str,
    *,
    heads: str | Sequence[str] = (),
    regime: Regime = "pretrained",
    overrides: Mapping[str, Treatment] | None = None,
    losses: Iterable[Mapping[str, Tensor]] | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Mask:
    """Choose what is trained. The model is left as it is.

    Args:
        model: with the values from which it is chosen.
        rule: or its spelling.
        heads: names of the modules or parameters that belong to single tasks; see ``scope``.
        regime: ``pretrained`` or ``scratch``.
        overrides: by pattern, ``rows``, ``whole`` or ``frozen``; see ``scope``.
        losses: for rules that need data: yields the tasks' losses of one batch after another, with their graphs.
        seed: of random rules.
        generator: instead of the seed; on the CPU.

    Returns:
        The mask, with its places on the parameters' devices.

    Raises:
        AccordError: for a model, names or a budget that do not fit, or values that cannot be compared.

    Example:
        >>> from accord.sparse import PSN, select
        >>> net = nn.Sequential(nn.Linear(10, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> mask = select(net, PSN(k=4), heads="2")
        >>> mask.selections["0.weight"].index.shape, mask.whole, mask.heads
        (torch.Size([3, 4]), ('0.bias',), ('2.weight', '2.bias'))
    """
    rule = _rule(rule)
    parts, keeps = plan(model, rule, heads, regime, overrides)
    for part in parts:
        if part.placed is not None and not part.parameter.is_meta:
            part.placed.write(part.parameter)
        if part.treatment == "rows" or part.parameter.is_meta:
            check_finite(part.name, part.parameter)
    found = _evidence(model, rule, [part for part in parts if part.treatment == "rows"], losses)
    targets = [_target(part, keeps[part.name], found.get(part.name)) for part in parts if part.treatment == "rows"]
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    chosen = rule.choose(targets, generator) if targets else {}
    selections, treatments = {}, {part.name: part.treatment for part in parts}
    for part in parts:
        if part.name in chosen:
            selection = _placed(part, chosen[part.name])
            if selection.index.numel() in (0, part.parameter.numel()):  # of competing weights: nothing or everything
                treatments[part.name] = "whole" if selection.index.numel() else "frozen"
            else:
                selections[part.name] = selection
    return Mask(
        rule=repr(rule),
        selections=selections,
        whole=_with(treatments, "whole"),
        frozen=_with(treatments, "frozen"),
        heads=_with(treatments, "head"),
        shapes={part.name: part.parameter.shape for part in parts},
        origin=origin({part.name: part.parameter for part in parts if part.treatment != "head"}),
    )


def count(
    model: nn.Module,
    rule: Rule | str,
    *,
    heads: str | Sequence[str] = (),
    regime: Regime = "pretrained",
    overrides: Mapping[str, Treatment] | None = None,
) -> Count:
    """How many scalars ``select`` would train, from shapes alone: the model may be on the device ``meta``.

    Args:
        model: see ``select``.
        rule: see ``select``.
        heads: see ``select``.
        regime: see ``select``.
        overrides: see ``select``.

    Raises:
        AccordError: for a model, names or a budget that do not fit.

    Example:
        >>> from accord.sparse import count
        >>> with torch.device("meta"):
        ...     net = nn.Sequential(nn.Linear(768, 3072), nn.Linear(3072, 768))
        >>> count(net, "PSN(k=300)")
        Count(trainable=1155840, total=4722432)
    """
    rule = _rule(rule)
    parts, keeps = plan(model, rule, heads, regime, overrides)
    trainable = 0
    for part in parts:
        if part.treatment == "rows":
            with torch.device("meta"):
                matrix = part.layout.matrix(torch.empty(part.parameter.shape))
            trainable += rule.size(Target(part.name, matrix, keeps[part.name], part.block, part.kind, part.taps))
        elif part.treatment != "frozen":
            trainable += part.parameter.numel()
    return Count(trainable, sum(part.parameter.numel() for part in parts))


def _rule(rule: Rule | str) -> Rule:
    """The rule, or what its spelling means."""
    if isinstance(rule, str):
        return parse_rule(rule)
    if not isinstance(rule, Rule):
        said = f"the class {rule.__name__}" if isinstance(rule, type) else f"of type {type(rule).__name__}"
        raise AccordError(f"the rule is {said}; expected a rule or its spelling, such as PSN(k=300) or 'PSN(k=300)'.")
    return rule


def plan(
    model: nn.Module,
    rule: Rule,
    heads: str | Sequence[str],
    regime: Regime,
    overrides: Mapping[str, Treatment] | None,
) -> tuple[list[Part], dict[str, int]]:
    """What becomes of every parameter under a rule and its budget, and ``k_r`` of those that are selected from.

    Raises:
        AccordError: see ``scope`` and ``Budget``.
    """
    parts = scope(model, heads, regime, overrides)
    rows = [part for part in parts if part.treatment == "rows"]
    if all(part.treatment == "frozen" for part in parts):
        raise AccordError("nothing is left to train: every parameter is frozen, by overrides= or before.")
    if not rule.trains_weights:
        return [_become(part, "frozen") if part.treatment == "rows" else part for part in parts], {}
    if not rows and not overrides:
        raise AccordError("the model has no weight to select from: all are heads, frozen or of another kind; "
                          "see heads= and overrides=.")  # fmt: skip
    fan_ins = {part.name: _fan_in(part) for part in rows}
    keeps = rule.budget.keeps(fan_ins, DENSITY[regime])
    if not rule.everywhere:
        full = {name for name, keep in keeps.items() if keep >= fan_ins[name]}
        parts = [_become(part, "whole") if part.name in full else part for part in parts]
        keeps = {name: keep for name, keep in keeps.items() if name not in full}
    return parts, keeps


def _become(part: Part, treatment: str) -> Part:
    return Part(**{**vars(part), "treatment": treatment})


def _fan_in(part: Part) -> int:
    with torch.device("meta"):
        return part.layout.matrix(torch.empty(part.parameter.shape)).shape[1]


def _target(part: Part, keep: int, evidence: Evidence | None) -> Target:
    matrix = part.layout.matrix(part.parameter.detach())
    return Target(part.name, matrix, keep, part.block, part.kind, part.taps, evidence)


def _placed(part: Part, chosen: Tensor | Selection) -> Selection:
    """What a rule chose, in the parameter's own coordinates and the smallest index type."""
    if isinstance(chosen, Tensor):
        chosen = Rows(narrow(chosen, part.parameter.numel() // max(1, len(chosen))))
    return part.layout.place(chosen, part.parameter.shape, part.parameter.device)


def _with(treatments: Mapping[str, str], treatment: str) -> tuple[str, ...]:
    return tuple(name for name, said in treatments.items() if said == treatment)


def _evidence(
    model: nn.Module, rule: Rule, parts: Sequence[Part], losses: Iterable[Mapping[str, Tensor]] | None
) -> Mapping[str, Evidence]:
    """What the tasks' gradients say about each weight, if the rule needs it."""
    if not rule.needs_evidence:
        return {}
    if losses is None:
        raise AccordError(f"{rule!r} needs data: pass losses=, which yields the tasks' losses of batch after batch.")
    found = collect(model, losses, [part.name for part in parts], rule.statistics)
    return {part.name: found[part.name].viewed(part.layout.matrix) for part in parts}
