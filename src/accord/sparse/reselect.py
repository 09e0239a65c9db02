"""Dynamic sparse training: choose again on the way, and carry the optimiser's state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from accord.balancer.write import drop
from accord.errors import AccordError
from accord.sparse.mask import Mask
from accord.sparse.rule import Rule
from accord.sparse.selection import Rows, Selection
from accord.sparse.training import SparseTraining

STARTS_ELSEWHERE = {"step_size": "Rprop", "ax": "ASGD"}  # a zero is not where these begin


def reselect(
    training: SparseTraining,
    optimizer: Optimizer,
    rule: Rule | str | None = None,
    *,
    share: float = 1.0,
    losses: Iterable[Mapping[str, Tensor]] | None = None,
) -> int:
    """Choose again from the present values; what is dropped stays where it is, in the weight.

    Moments of scalars that are kept are carried, those of new ones begin at zero, whatever the optimiser, as long as
    its state has one number per scalar. (A step count belongs to a tensor: Adam's first steps of a new scalar are up to
    ``(1 - β1) / sqrt(1 - β2)``, 3.2 times, as long as later ones.) Call it between ``optimizer.step()`` and the next
    forward pass. Gradients are dropped. ``training.verify()`` looks at what is frozen from here on.

    Args:
        training: gets the new mask.
        optimizer: that of ``training.parameters()``.
        rule: by default the one that chose first. Which tensors are trained must not change.
        share: of the trained scalars of a row at most this share is exchanged, drawn from those that the rule would.
        losses: for rules that need data.

    Returns:
        How many scalars are trained now that were not before.

    Raises:
        AccordError: for a state that cannot be carried, a share out of range, or other tensors.

    Source: RigL (arXiv 1911.11134) and SET for exchanging a share; NanoAdam (arXiv 2506.21374) for small values.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))
        >>> training = SparseTraining(model, "Smallest(k=2)", heads="2")
        >>> optimizer = torch.optim.AdamW(training.parameters(), 0.1)
        >>> for _ in range(5):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(1, 6)).sum().backward()
        ...     optimizer.step()
        >>> reselect(training, optimizer) > 0, training.mask.hash == training.first
        (True, False)
    """
    if not 0 < share <= 1:
        raise AccordError(f"share={share!r}, expected a number above 0, up to 1.")
    _check(optimizer, {site.placed.values for site in training.sites.values()})
    before = {name: site.placed.selection for name, site in training.sites.items()}
    mask = training.select_again(rule, losses)
    if share < 1:
        mask = _partly(before, mask, training, share)
    moved = {
        name: _carried(optimizer, site.placed.values, before[name], mask.selections[name], site.dense)
        for name, site in training.sites.items()
        if name in mask.selections  # else the mask is refused
    }
    training.adopt(mask)
    for name, site in training.sites.items():
        optimizer.state.get(site.placed.values, {}).update(moved[name])
        drop([site.placed.values])
    training.reselections += 1
    sizes = {name: site.dense.shape for name, site in training.sites.items()}
    return sum(_new(before[name], mask.selections[name], shape) for name, shape in sizes.items())


class Reselection:
    """Chooses again every n steps of an optimiser, by a hook of it; skipped steps do not count.

    Args:
        training: see ``reselect``.
        optimizer: see ``reselect``.
        every: number of steps.
        rule: see ``reselect``.
        share: of the first exchange; with ``until`` it falls along a half cosine, ``share (1 + cos(π t / until)) / 2``.
        until: steps after which the mask stays; None: never.
        losses: makes the losses for rules that need data.

    Raises:
        AccordError: for numbers out of range.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(6, 4)
        >>> training = SparseTraining(model, "Smallest(k=2)")
        >>> optimizer = torch.optim.SGD(training.parameters(), 0.1)
        >>> dynamic = Reselection(training, optimizer, every=2, share=0.5, until=6)
        >>> for _ in range(8):
        ...     model(torch.ones(1, 6)).square().sum().backward()
        ...     optimizer.step()
        >>> training.reselections
        2
    """

    def __init__(
        self,
        training: SparseTraining,
        optimizer: Optimizer,
        every: int,
        *,
        rule: Rule | str | None = None,
        share: float = 1.0,
        until: int | None = None,
        losses: Callable[[], Iterable[Mapping[str, Tensor]]] | None = None,
    ) -> None:
        for name, value in (("every", every), ("until", 1 if until is None else until)):
            if not isinstance(value, int) or value < 1:
                raise AccordError(f"{name}={value!r}, expected a whole number of steps, at least 1.")
        if not 0 < share <= 1:
            raise AccordError(f"share={share!r}, expected a number above 0, up to 1.")
        self.training, self.every, self.rule, self.share, self.until = training, every, rule, share, until
        self.losses, self.steps = losses, 0
        self._handle = optimizer.register_step_post_hook(self._after)

    def now(self) -> float:
        """The share that would be exchanged at this step."""
        if self.until is None:
            return self.share
        return self.share * (1 + math.cos(math.pi * min(self.steps / self.until, 1))) / 2

    def stop(self) -> None:
        """Leave the mask as it is from now on."""
        self._handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """Steps so far; masks are the training's."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Args:
            state: what ``state_dict`` gave.
        """
        self.steps = int(state["steps"])

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        self.steps += 1
        if self.steps % self.every or (self.until is not None and self.steps >= self.until):
            return
        with torch.enable_grad():
            losses = None if self.losses is None else self.losses()
            reselect(self.training, optimizer, self.rule, share=self.now(), losses=losses)


def _check(optimizer: Optimizer, compact: Set[Tensor]) -> None:
    """Whether everything that the optimiser knows is per scalar, or of a tensor as a whole."""
    for p, state in optimizer.state.items():
        for key, entry in state.items():
            if not isinstance(entry, Tensor):
                wrong = not isinstance(entry, int | float | bool | None)  # L-BFGS keeps lists, of all tensors in one
            else:
                whole = entry.shape != p.shape and entry.numel() != 1
                wrong = p in compact and (key in STARTS_ELSEWHERE or whole)
            if wrong:
                raise AccordError(
                    f"{type(optimizer).__name__} keeps {key!r}, which cannot be carried to another selection. Use "
                    "Adam, AdamW, SGD, RMSprop or another optimiser with one number per scalar that begins at zero."
                )


def _carried(
    optimizer: Optimizer, values: Tensor, before: Selection, after: Selection, dense: Tensor
) -> dict[str, Tensor]:
    """The state of the new selection: by way of one dense tensor of zeros at a time."""
    moved = {}
    for key, entry in optimizer.state.get(values, {}).items():
        if isinstance(entry, Tensor) and entry.shape == values.shape:
            whole = torch.zeros(dense.shape, dtype=entry.dtype, device=entry.device)
            moved[key] = after.to(entry.device).gather(before.to(entry.device).scatter_(whole, entry))
    return moved


def _partly(before: Mapping[str, Selection], mask: Mask, training: SparseTraining, share: float) -> Mask:
    """Of the exchanges that a rule wants, a share."""
    generator = torch.Generator().manual_seed(training.seed + training.reselections + 1)
    selections = {}
    for name, selection in mask.selections.items():
        old = before.get(name)
        if old is None or type(old) is not type(selection) or old.index.shape != selection.index.shape:
            raise AccordError(f"share={share:g} needs as many trained scalars as before; {name!r} has others. Use 1.")
        selections[name] = replace(selection, index=exchange(old.index, selection.index, share, generator))
    return replace(mask, selections=selections)


def exchange(old: Tensor, new: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Go part of the way from one index to another: at most ``round(share k)`` places of a row are exchanged.

    Args:
        old: (..., k), ascending.
        new: of the same shape, ascending.
        share: above 0, up to 1.
        generator: draws which; on the CPU, so that all devices draw alike.

    Returns:
        Of the same shape and type, ascending.

    Example:
        >>> old, new = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[2, 3, 4, 5]])
        >>> found = exchange(old, new, 0.25, torch.Generator())
        >>> int(torch.isin(found, old).sum()), int(torch.isin(found, new).sum())
        (3, 3)
    """
    a, b = (i.detach().cpu().long().reshape(-1, i.shape[-1]) for i in (old, new))  # (rows, k)
    leaving, coming = ~_inside(a, b), ~_inside(b, a)
    quota = leaving.sum(1, keepdim=True).clamp(max=round(share * a.shape[1]))  # (rows, 1)
    leaving, coming = (_some(places, quota, generator) for places in (leaving, coming))
    result = a.clone()
    result[leaving] = b[coming]  # as many in each row, row by row
    return result.sort(1).values.reshape(old.shape).to(old)


def _inside(a: Tensor, b: Tensor) -> Tensor:
    """Whether each place of a's row is in b's; both ascending."""
    at = torch.searchsorted(b, a).clamp(max=b.shape[1] - 1)
    return b.gather(1, at) == a


def _some(places: Tensor, quota: Tensor, generator: torch.Generator) -> Tensor:
    """Of the marked places of each row as many as the quota says, at random."""
    noise = torch.rand(places.shape, generator=generator).masked_fill(~places, 2)
    return places & (noise.argsort(1).argsort(1) < quota)


def _new(before: Selection, after: Selection, shape: torch.Size) -> int:
    """Places of the one that are not in the other."""
    if isinstance(after, Rows) and isinstance(before, Rows) and len(after.index) == len(before.index):
        return int((~_inside(after.index.long(), before.index.long())).sum())
    return int((~torch.isin(after.places(shape), before.places(shape))).sum())
