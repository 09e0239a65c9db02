"""Placed: a weight of which only the selected scalars are parameters, so that everything that is made per trained
scalar (gradients of K tasks, moments of an optimiser, what ranks exchange) is compact by itself."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from accord.sparse.selection import Selection


class Placed(nn.Module):
    """A parametrisation (``torch.nn.utils.parametrize``) that puts ``values`` into their places of a frozen weight.

    ``W[places] = values``, all else as it was. The dense tensor itself holds the result: values are written into it
    when they have changed, so no second copy of it is ever made. Its gradient exists for one layer at a time: the
    backward pass gathers the selected scalars and drops the rest at once.

    Where the dense tensor requires a gradient of its own, it gets that of all other places, with zeros at the selected
    ones: the two parts add up to the gradient of the whole.

    Args:
        dense: the weight; it keeps its memory.
        selection: the places.

    Example:
        >>> from accord.sparse.selection import Rows
        >>> layer = nn.Linear(3, 2, bias=False)
        >>> placed = Placed(layer.weight, Rows(torch.tensor([[0], [2]])))
        >>> nn.utils.parametrize.register_parametrization(layer.requires_grad_(False), "weight", placed)
        ParametrizedLinear(
          in_features=3, out_features=2, bias=False
          (parametrizations): ModuleDict(
            (weight): ParametrizationList(
              (0): Placed()
            )
          )
        )
        >>> layer(torch.ones(1, 3)).sum().backward()
        >>> placed.values.grad
        tensor([[1.],
                [1.]])
    """

    def __init__(self, dense: Tensor, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        # Weights of 16 bits keep their selected scalars in 32: steps of an optimiser would be lost in rounding.
        wide = torch.promote_types(dense.dtype, torch.float32)
        self.values = nn.Parameter(selection.gather(dense.detach()).to(wide))
        self._written = self._state()

    def forward(self, dense: Tensor) -> Tensor:
        """The weight with the values in place."""
        if torch.compiler.is_compiling():  # a compiler cannot see whether the values have changed
            return self._functional(dense)
        self.write(dense)
        placed: Tensor = _Place.apply(self.values, dense, self.selection)  # type: ignore[no-untyped-call]
        return placed

    def write(self, dense: Tensor) -> None:
        """Bring the dense tensor up to date, if the values have changed since the last time."""
        now = self._state()
        if now != self._written:
            with torch.no_grad():
                self.selection.scatter_(dense, self.values.to(dense.dtype))
            self._written = now

    def _state(self) -> tuple[int, int]:
        """Changes whenever something writes to the values."""
        return self.values._version, self.values.data_ptr()

    def _functional(self, dense: Tensor) -> Tensor:
        """The same by PyTorch's own operations, with a copy of the dense tensor."""
        places = self.selection.places(dense.shape)
        flat = dense.reshape(-1).scatter(0, places, self.values.to(dense.dtype).reshape(-1))
        return flat.view(dense.shape)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """The places follow the values to another device. They are no buffer: nobody should send or convert them."""
        super()._apply(fn, recurse)
        self.selection = self.selection.to(self.values.device)
        return self


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, dense: Tensor, selection: Selection) -> Tensor:  # type: ignore[override]
        ctx.selection, ctx.dtype = selection, values.dtype
        return dense.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        wants_values, wants_rest, _ = ctx.needs_input_grad
        values = ctx.selection.gather(gradient).to(ctx.dtype) if wants_values else None
        rest = None
        if wants_rest:
            rest = gradient.clone(memory_format=torch.contiguous_format)
            ctx.selection.scatter_(rest, torch.zeros((), dtype=rest.dtype, device=rest.device).expand_as(
                ctx.selection.gather(rest)))
        return values, rest, None
