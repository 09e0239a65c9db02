"""Per-task masks: each task trains its own part of the selected scalars, with as much overlap as one likes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from accord.engines.start import refuse_unreduced
from accord.errors import AccordError
from accord.sparse.evidence import Evidence
from accord.sparse.looks import Looks
from accord.sparse.mask import Mask
from accord.sparse.placed import Placed, digest
from accord.sparse.selection import Flat, narrow
from accord.sparse.top import top_columns

if TYPE_CHECKING:
    from accord.balancer import Balancer

WRAPPERS = ("module.", "_orig_mod.")  # what distributed and compiled models put before names


@dataclass(frozen=True, eq=False)
class PerTask:
    """Masks ``M_t`` inside one mask: which of its selected scalars each task trains.

    A task's gradient is zero in all selected scalars but its own, whatever the method. What the mask trains whole
    (biases, norms) stays common to all tasks.

    Args:
        tasks: K names.
        inside: by parameter, (K, ...) bool in the shape of its compact values.
        places: by parameter, SHA-256 of the selection that is divided.

    Example:
        >>> parts = PerTask(("a", "b"), {"w": torch.tensor([[True, True, False], [False, True, True]])})
        >>> parts.sizes, round(parts.overlap, 3)
        ({'a': 2, 'b': 2}, 0.333)
    """

    tasks: tuple[str, ...]
    inside: Mapping[str, Tensor]
    places: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{task}: {size:,}" for task, size in self.sizes.items())
        return f"PerTask({sizes}; overlap {self.overlap:.3f})"

    @property
    def sizes(self) -> dict[str, int]:
        """How many selected scalars each task trains."""
        return {task: sum(int(part[i].sum()) for part in self.inside.values()) for i, task in enumerate(self.tasks)}

    @property
    def overlap(self) -> float:
        """The share of the selected scalars that more than one task trains."""
        several = sum(int((part.sum(0) > 1).sum()) for part in self.inside.values())
        return several / max(1, sum(part[0].numel() for part in self.inside.values()))

    def attach(self, balancer: Balancer) -> None:
        """From now on the Balancer sets each task's gradient to zero outside its part: K backward passes in each step.

        Args:
            balancer: of a model that trains the mask's selected scalars (``accord.SparseTraining`` with the order
                ``mask-then-combine``), with ``engine="auto"`` or ``"stacked"``.

        Raises:
            AccordError: if the model has no such scalars, or others; or the Balancer never has the task gradients.
        """
        if balancer.engine not in ("auto", "stacked"):
            raise AccordError(f"per-task masks need the task gradients, which engine={balancer.engine!r} never has.")
        if balancer.method.needs_validation:
            raise AccordError(f"{balancer.method!r} looks at gradients elsewhere, which per-task masks do not reach.")
        # What was one backward pass that a distributed wrapper averaged is now K that it does not see.
        refuse_unreduced(balancer.model, balancer.starter.reduce, one_backward=False)
        if _whole(balancer):
            raise AccordError("per-task masks divide what is trained; train it with order='mask-then-combine'.")
        found = {name: self._placed(balancer.model, name) for name in self.inside}
        balancer.starter.parts = {
            task: {placed.values: self.inside[name][i].to(placed.values.device) for name, placed in found.items()}
            for i, task in enumerate(self.tasks)
        }
        for placed in found.values():
            placed.divided = True

    def detach(self, balancer: Balancer) -> None:
        """Every task trains all selected scalars again.

        Args:
            balancer: that this was attached to.
        """
        balancer.starter.parts = None
        for name in self.inside:
            self._placed(balancer.model, name).divided = False

    def _placed(self, model: nn.Module, name: str) -> Placed:
        """What holds the compact values of a parameter."""
        owner, _, attribute = name.rpartition(".")
        place = f"{owner}.parametrizations.{attribute}.0".removeprefix(".")
        for full, module in model.named_modules(remove_duplicate=False):
            while full.startswith(WRAPPERS) and full != place:
                full = full.partition(".")[2]
            if full == place and isinstance(module, Placed):
                if digest(module.selection).hex() != self.places.get(name):
                    raise AccordError(
                        f"these masks divide other places of {name!r} than the model trains. Were they selected again? "
                        "Then divide the new mask."
                    )
                return module
        raise AccordError(
            f"the model has no selected scalars of {name!r}; make accord.SparseTraining(model, mask) of the same mask "
            "before attaching its per-task masks."
        )

    def state_dict(self) -> dict[str, Any]:
        """Task names, masks, and what they divide."""
        return {"tasks": list(self.tasks), "inside": dict(self.inside), "places": dict(self.places)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What ``state_dict`` gave.

        Raises:
            AccordError: if it is something else.
        """
        if missing := {"tasks", "inside", "places"} - set(state):
            raise AccordError(f"this is no state of per-task masks: it lacks {', '.join(sorted(missing))}.")
        inside = {name: part.bool() for name, part in state["inside"].items()}
        return cls(tuple(state["tasks"]), inside, dict(state["places"]))


def _whole(balancer: Balancer) -> bool:
    """Whether the method is to see whole gradients in every step, and not in that of a look alone."""
    attached = [observer for observer in balancer.observers if isinstance(observer, Looks)]
    if attached:
        return any(looks.always for looks in attached)
    lists = (m for m in balancer.model.modules() if isinstance(m, ParametrizationList) and isinstance(m[0], Placed))
    return any(each.original.requires_grad for each in lists)


def divide(
    mask: Mask,
    tasks: Sequence[str],
    *,
    overlap: float = 0.0,
    evidence: Mapping[str, Evidence] | None = None,
    by: str = "magnitude",
    seed: int = 0,
) -> PerTask:
    """Divide a mask's selected scalars among tasks, row by row, so that its budget stays what it is.

    Of each row's ``k_r`` scalars, ``round(overlap * k_r)`` belong to all tasks, the rest to one each, in parts as equal
    as can be. With evidence, the common ones are those that even the task with the least use for them uses most, and
    each task in turn takes those that it uses more than the others; without, they are dealt at random.

    Args:
        mask: of the union.
        tasks: K names, those of the losses.
        overlap: 0: no scalar belongs to two tasks; 1: each belongs to all.
        evidence: from ``accord.sparse.evidence.collect`` for the mask's selected parameters.
        by: the statistic of the evidence that says how much a task uses a scalar.
        seed: of the random deal.

    Raises:
        AccordError: for fewer than two tasks, an overlap outside [0, 1], or evidence of other tasks or parameters.
    """
    if len(tasks) < 2 or len(set(tasks)) < len(tasks):
        raise AccordError(f"tasks={list(tasks)}; expected at least two different names.")
    if not 0 <= overlap <= 1:
        raise AccordError(f"overlap={overlap!r} is outside [0, 1]: the share of the scalars that all tasks train.")
    scores = _dealt(mask, len(tasks), seed) if evidence is None else _used(mask, tasks, evidence, by)
    return _of(mask, tasks, {name: _draft(score, overlap) for name, score in scores.items()})


def _of(mask: Mask, tasks: Iterable[str], inside: Mapping[str, Tensor]) -> PerTask:
    return PerTask(tuple(tasks), inside, {name: digest(s).hex() for name, s in mask.selections.items()})


def _shape(mask: Mask, name: str) -> torch.Size:
    """Of the compact values."""
    return mask.selections[name].gather(torch.empty(mask.shapes[name])).shape


def _dealt(mask: Mask, k: int, seed: int) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {name: torch.rand(k, *_shape(mask, name), generator=source) for name in mask.selections}


def _used(mask: Mask, tasks: Sequence[str], evidence: Mapping[str, Evidence], by: str) -> dict[str, Tensor]:
    """(K, ...) for each parameter: how much each task uses each scalar, relative to the task's mean over all."""
    scores = {}
    for name, selection in mask.selections.items():
        if name not in evidence:
            raise AccordError(f"there is no evidence about {name!r}, which the mask selects in.")
        each = [evidence[name].of(task).mean(by)[0].abs() for task in tasks]
        scores[name] = torch.stack([selection.gather(score).cpu() for score in each])
    sums = [score.flatten(1).sum(1, dtype=torch.float64) for score in scores.values()]  # each (K,)
    means = torch.stack(sums).sum(0) / sum(score[0].numel() for score in scores.values())  # (K,)
    means = torch.where(means > 0, means, 1)
    return {name: score / means.to(score).view(-1, *[1] * (score.ndim - 1)) for name, score in scores.items()}


def _draft(scores: Tensor, overlap: float) -> Tensor:
    """Which scalars each task gets.

    Args:
        scores: (K, rows, k) or (K, s), which is one row.
        overlap: see ``divide``.

    Returns:
        bool of the same shape; the sizes of two tasks' parts differ by no more than 1 in each row.
    """
    table = scores if scores.ndim == 3 else scores[:, None]  # (K, rows, k)
    tasks, rows, k = table.shape
    common = round(overlap * k)
    free = torch.ones(rows, k, dtype=torch.bool)
    inside = torch.zeros(tasks, rows, k, dtype=torch.bool)
    if common:
        free.scatter_(1, top_columns(table.amin(0), common), value=False)
        inside |= ~free
    every = torch.arange(rows)
    for turn in range(tasks):
        size = (k - common) // tasks + (turn < (k - common) % tasks)
        if not size:
            break
        picks = (every + turn) % tasks  # (rows,): another task goes first in each row
        gain = table[picks, every]  # (rows, k)
        later = [table[(every + other) % tasks, every] for other in range(turn + 1, tasks)]
        if later:
            gain = gain - torch.stack(later).amax(0)
        taken = top_columns(gain.masked_fill(~free, -torch.inf), size)  # (rows, size)
        free.scatter_(1, taken, value=False)
        inside[picks[:, None], every[:, None], taken] = True
    return inside.view(scores.shape)


def unite(masks: Mapping[str, Mask]) -> tuple[Mask, PerTask]:
    """One mask from one for each task: the union, and in it each task's own.

    How much the parts overlap follows from the rules and data that chose them; see ``PerTask.overlap``.

    Args:
        masks: by task, of the same model, heads and regime.

    Returns:
        The mask to train with, and the parts to attach to a Balancer.

    Raises:
        AccordError: for fewer than two masks, or masks of different weights or heads.
    """
    if len(masks) < 2:
        raise AccordError(f"masks has {len(masks)} task(s); expected one mask for each of at least two tasks.")
    (first_task, first), *others = masks.items()
    for task, mask in others:
        if mask.origin != first.origin or mask.heads != first.heads:
            raise AccordError(
                f"the masks of {first_task!r} and {task!r} are of different weights, or have different heads. Select "
                "both from the model as it is before training, with the same heads=."
            )
    selections, inside = {}, {}
    for name, shape in first.shapes.items():
        forms = {_form(mask, name) for mask in masks.values()}
        if len(forms) == 1 and "some" not in forms:  # trained whole by all tasks, or by none
            continue
        member = torch.stack([_places(mask, name) for mask in masks.values()])  # (K, P)
        places = member.any(0).nonzero()[:, 0]  # (s,)
        selections[name] = Flat(narrow(places, shape.numel()))
        inside[name] = member[:, places]  # (K, s)
    rule = f"unite({', '.join(f'{task}: {mask.rule}' for task, mask in masks.items())})"
    whole, frozen = (tuple(name for name in names if name not in selections) for names in (first.whole, first.frozen))
    union = dataclasses.replace(first, rule=rule, selections=selections, whole=whole, frozen=frozen)
    return union, _of(union, masks, inside)


def _form(mask: Mask, name: str) -> str:
    """Whether all, some or none of a parameter's scalars are trained."""
    return "some" if name in mask.selections else "none" if name in mask.frozen else "all"


def _places(mask: Mask, name: str) -> Tensor:
    """(P,) bool."""
    shape = mask.shapes[name]
    found = torch.full((shape.numel(),), _form(mask, name) == "all")
    if name in mask.selections:
        found[mask.selections[name].places(shape).cpu()] = True
    return found
