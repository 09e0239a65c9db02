"""Uses: a tensor that is used in several places, and what each place contributes to its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from accord import losses as checked
from accord.errors import AccordError
from accord.rows import Rows
from accord.sharing import root, walk

Use = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
Losses = Tensor | Mapping[str, Tensor]


class _Use(torch.autograd.Function):
    """The identity, as a node of its own. PyTorch refuses to change its result in place, which would reach all uses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def _use(x: Tensor) -> Tensor:
    found: Tensor = _Use.apply(x) if x.requires_grad and torch.is_grad_enabled() else x.detach()
    return found


@overload
def uses(tensors: Tensor, n: int) -> tuple[Tensor, ...]: ...


@overload
def uses(tensors: Mapping[str, Tensor], n: int) -> tuple[dict[str, Tensor], ...]: ...


@overload
def uses(tensors: Sequence[Tensor], n: int) -> tuple[tuple[Tensor, ...], ...]: ...


def uses(tensors: Use, n: int) -> tuple[Any, ...]:
    """The same tensor n times, so that each place which uses it has a gradient of its own.

    ``L(x, x, ..., x)`` has the gradient ``Σ_u ∂L/∂x_u``: the chain rule adds up over the uses, and PyTorch does so
    before anybody can look. With ``x_1, ..., x_n = uses(x, n)`` handed to n places, ``contributions`` gives the terms.
    Values, gradients and training stay the same; the results share the memory of ``x``.

    Args:
        tensors: what is used several times: a stem's output, a recurrent weight, a tied embedding; or several tensors
            that are used together, as a sequence or by name (``dict(cell.named_parameters())`` for
            ``torch.func.functional_call``).
        n: how many places.

    Returns:
        n tensors, or n tuples or dicts of tensors.

    Raises:
        AccordError: for n below 1, or what holds no tensor.

    Example:
        >>> import torch, accord
        >>> w = torch.tensor(2.0, requires_grad=True)
        >>> first, second = uses(w, 2)
        >>> loss = first * second * 3 + second  # w is used three times, two of them as `second`
        >>> [float(part[0]) for part in contributions(loss, (first, second)).parts[0]]
        [6.0, 7.0]
    """
    if n < 1:
        raise AccordError(f"uses(n={n}): expected at least one place.")
    if isinstance(tensors, Tensor):
        return tuple(_use(tensors) for _ in range(n))
    if isinstance(tensors, Mapping):
        _flat(tensors)
        return tuple({name: _use(x) for name, x in tensors.items()} for _ in range(n))
    return tuple(tuple(_use(x) for x in _flat(tensors)) for _ in range(n))


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each use of a tensor contributes to the gradient of each of K losses.

    Args:
        tasks: (K,) names of the losses.
        parts: ``parts[i][u][p]``, the gradient of loss i in parameter p through use u alone; None where it does not
            get there. K·n·P numbers.

    Example:
        >>> import torch
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> a, b = uses(w, 2)
        >>> found = contributions({"up": (a - b * b).sum()}, (a, b))
        >>> found.gramian()[0, :, 0].tolist()  # of the two uses: [1, 1] and [-2, -4]
        [[2.0, -6.0], [-6.0, 20.0]]
        >>> found.total()[0][0].tolist()
        [-1.0, -3.0]
    """

    tasks: tuple[str, ...]
    parts: list[list[list[Tensor | None]]]

    def total(self) -> list[list[Tensor | None]]:
        """For each loss the sum over uses, ``Σ_u g_iu``: its gradient, where it comes through these uses alone."""
        return [Rows(part).combine([1.0] * len(part), keep=True) for part in self.parts]

    def gramian(self) -> Tensor:
        """Inner products of all parts over all parameters: ``G_iu,jv = g_iu · g_jv``.

        ``G[i, :, i]`` (n, n) are the uses under one loss, ``G[:, u, :, u]`` (K, K) the losses at one use; both are
        Gramians for ``accord.conflict``.

        Returns:
            (K, n, K, n) float64, on the CPU.
        """
        k, n = len(self.parts), len(self.parts[0])
        rows = Rows([part for parts in self.parts for part in parts])
        return rows.gramian().view(k, n, k, n).cpu()  # (K, n, K, n)


def contributions(
    losses: Losses, copies: Sequence[Use], parameters: Tensor | Sequence[Tensor] | None = None
) -> Contributions:
    """The gradient of each loss, split by the use through which it comes.

    ``g_iu = (∂x/∂θ)ᵀ ∂L_i/∂x_u``, and ``Σ_u g_iu = ∂L_i/∂θ`` where the loss reaches θ through these uses alone. One
    backward pass per loss down to the uses, and one per loss and use from there to the parameters. The graph is kept,
    so that the step's own backward pass can follow; no ``.grad`` is touched.

    Args:
        losses: K scalar losses by task, or one.
        copies: the n results of ``uses``; several calls can be put together: ``list(zip(uses(v, n), uses(w, n)))``.
        parameters: P tensors below the uses. None: the tensors that were handed out; then nothing is passed below.

    Returns:
        K·n·P numbers; ``use_gramians`` gives inner products without holding them all.

    Raises:
        AccordError: for no uses, for uses that depend on each other, for uses of unlike numbers of tensors, and for
            losses that are no scalars or reach nothing.

    Example:
        >>> import torch
        >>> stem = torch.nn.Linear(3, 4)
        >>> z = stem(torch.ones(2, 3))
        >>> left, right = uses(z, 2)
        >>> found = contributions(left.mean() - right.square().mean(), (left, right), stem.weight)
        >>> [list(part[0].shape) for part in found.parts[0]]
        [[4, 3], [4, 3]]
    """
    named, flat, below = _checked(losses, copies, parameters)
    at = {name: _at_uses(loss, flat) for name, loss in named.items()}
    parts = [[_below(flat[u], at[name][u], below) for u in range(len(flat))] for name in named]
    return Contributions(tuple(named), parts)


def use_gramians(
    losses: Losses,
    copies: Sequence[Use],
    parameters: Tensor | Sequence[Tensor] | None = None,
    within: Literal["use", "loss"] = "use",
) -> Tensor:
    """Gramians of the contributions, of the losses at each use or of the uses under each loss.

    The two diagonals of ``contributions(...).gramian()``, with K·P or n·P numbers held below the uses in place of
    K·n·P; what lies at the uses themselves is held for all K losses at once (``within="use"``) or one loss at a time.

    Args:
        losses: K scalar losses by task, or one.
        copies: the n results of ``uses``.
        parameters: as for ``contributions``.
        within: ``use``: do the losses agree at this place (in this time step)? ``loss``: do the uses (branches) agree
            about this loss?

    Returns:
        (n, K, K) or (K, n, n) float64, on the CPU.

    Raises:
        AccordError: as ``contributions``, and for another ``within``.

    Example:
        >>> import torch
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> a, b = uses(w, 2)
        >>> use_gramians({"up": (a + b).sum(), "down": -a.sum()}, (a, b)).tolist()
        [[[2.0, -2.0], [-2.0, 2.0]], [[2.0, 0.0], [0.0, 0.0]]]
    """
    named, flat, below = _checked(losses, copies, parameters)
    if within == "loss":
        found = []
        for loss in named.values():
            at = _at_uses(loss, flat)
            found.append(Rows([_below(use, g, below) for use, g in zip(flat, at, strict=True)]).gramian().cpu())
        return torch.stack(found)  # (K, n, n)
    if within != "use":
        raise AccordError(f"use_gramians(within={within!r}): expected 'use' or 'loss'.")
    every = [_at_uses(loss, flat) for loss in named.values()]
    each = (Rows([_below(use, at[u], below) for at in every]).gramian().cpu() for u, use in enumerate(flat))
    return torch.stack(list(each))  # (n, K, K)


def _flat(use: Use) -> list[Tensor]:
    """The tensors of one use, in order."""
    found = [use] if isinstance(use, Tensor) else list(use.values() if isinstance(use, Mapping) else use)
    if not found or not all(isinstance(x, Tensor) for x in found):
        raise AccordError(f"a use holds {[type(x).__name__ for x in found] or 'nothing'}; expected tensors.")
    return found


def _checked(
    losses: Losses, copies: Sequence[Use], parameters: Tensor | Sequence[Tensor] | None
) -> tuple[dict[str, Tensor], list[list[Tensor]], list[Tensor] | None]:
    """Losses by name, tensors of each use, and parameters, all of them fit for a backward pass."""
    named = checked.check({"loss": losses} if isinstance(losses, Tensor) else losses)
    for name, loss in named.items():
        root(name, loss)  # says which loss reaches nothing
    flat = [_flat(use) for use in copies]
    if not flat or len({len(use) for use in flat}) > 1:
        raise AccordError(f"the uses hold {[len(u) for u in flat]} tensors; expected some, and equally many in each.")
    if not all(x.requires_grad for use in flat for x in use):
        raise AccordError("a use requires no gradient: hand out, with gradients enabled, what the parameters made.")
    edges = [get_gradient_edge(x) for use in flat for x in use]
    nodes = {edge.node for edge in edges}
    if len(nodes) < len(edges):
        raise AccordError(f"{len(edges)} uses, of which {len(nodes)} are different: name each result of uses() once.")
    if any(child in nodes for children in walk(edges).edges.values() for child, _ in children):
        raise AccordError("one use depends on another, and would be counted twice: hand out all uses from one tensor.")
    return named, flat, None if parameters is None else _flat(parameters)


def _at_uses(loss: Tensor, flat: list[list[Tensor]]) -> list[list[Tensor | None]]:
    """The loss's gradient at every tensor of every use, by one backward pass."""
    found = iter(torch.autograd.grad(loss, [x for use in flat for x in use], retain_graph=True, allow_unused=True))
    return [[next(found) for _ in use] for use in flat]


def _below(use: list[Tensor], gradients: list[Tensor | None], parameters: list[Tensor] | None) -> list[Tensor | None]:
    """What one use contributes to the parameters, by one backward pass from there."""
    if parameters is None:
        return gradients
    reached = [(x, g) for x, g in zip(use, gradients, strict=True) if g is not None]
    if not reached:
        return [None] * len(parameters)
    outputs, given = zip(*reached, strict=True)
    return list(torch.autograd.grad(outputs, parameters, given, retain_graph=True, allow_unused=True))
