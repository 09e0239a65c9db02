"""Placed: a weight of which only the selected scalars are parameters.

Everything that is made per trained scalar (gradients of K tasks, moments of an optimiser, what ranks exchange) is
compact by itself then.
"""

from __future__ import annotations

import hashlib
from typing import Any, Self

import torch
from torch import Tensor, nn

from accord.errors import AccordError
from accord.sparse.selection import Selection


class Placed(nn.Module):
    """A parametrisation (``torch.nn.utils.parametrize``) that puts ``values`` into their places of a frozen weight.

    ``W[places] = values``, all else as it was. The dense tensor itself holds the result: values are written into it
    when they have changed, so no second copy of it is ever made. Its gradient exists for one layer at a time: the
    backward pass gathers the selected scalars and drops the rest at once.

    A change that autograd cannot see is safe, too: fused optimisers and whatever goes through ``.data`` leave no trace
    in a tensor's version, so values are written anew after each backward pass and in each pass without gradients.
    Values that stand elsewhere for a moment (``values.data = ...``, ``torch.func.functional_call``) are not written at
    all, lest a graph lose the weight that it has saved; then, and in compiled models, the forward pass makes a copy.

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
              (0): Placed(Rows, 2 trained)
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
        self.values = nn.Parameter(_compact(dense, selection))
        self.divided = False  # among tasks, by a PerTask that knows these places
        self._turn_to(selection)

    def _turn_to(self, selection: Selection) -> None:
        self.selection = selection
        self._written: tuple[int, ...] | None = None  # versions at the last write
        self._unsure = True  # somebody may have changed the values without a trace
        self._home = self.values.data_ptr()

    def forward(self, dense: Tensor) -> Tensor:
        """The weight with the values in place."""
        if not self.ready(dense):
            return self._functional(dense)
        placed: Tensor = _Place.apply(self.values, dense, self)
        return placed

    def ready(self, dense: Tensor) -> bool:
        """Bring the dense tensor up to date for a forward pass, if it may be written to.

        Args:
            dense: the weight.

        Returns:
            False where the pass has to make a copy instead.
        """
        if torch.compiler.is_compiling() or not self._at_home():  # a compiler cannot see whether they have changed
            return False
        recording = torch.is_grad_enabled() and (self.values.requires_grad or dense.requires_grad)
        if self._unsure or not recording:
            self.write(dense)
        else:
            self._catch_up(dense)
        self._unsure = not recording
        return True

    def doubt(self) -> None:
        """A backward pass came through: an optimiser's step is near, and some leave no trace."""
        self._unsure = True

    def write(self, dense: Tensor) -> None:
        """Bring the dense tensor up to date.

        Args:
            dense: the weight.
        """
        if not self._catch_up(dense):
            # No new version: either the bits stay as they are, or the values were changed where autograd never looks.
            self.selection.scatter_(dense.data, self.values.detach().to(dense.dtype))

    def _catch_up(self, dense: Tensor) -> bool:
        """Write what has visibly changed; graphs that saved the old weight notice, as with any parameter."""
        if self._written == self._versions(dense):
            return False
        with torch.no_grad():
            self.selection.scatter_(dense, self.values.to(dense.dtype))
        self._written = self._versions(dense)
        return True

    def reselect(self, dense: Tensor, selection: Selection) -> None:
        """Train other places from now on; what was trained so far stays in the weight.

        Args:
            dense: the weight.
            selection: the new places.
        """
        self.write(dense)
        wide = self.values.dtype
        self.values.data = selection.gather(dense.detach()).to(wide)
        self._turn_to(selection)

    def _versions(self, dense: Tensor) -> tuple[int, ...]:
        return self.values._version, dense._version, dense.data_ptr()

    def _at_home(self) -> bool:
        return isinstance(self.values, nn.Parameter) and self.values.data_ptr() == self._home

    def _functional(self, dense: Tensor) -> Tensor:
        """The same by PyTorch's own operations, with a copy of the dense tensor."""
        places = self.selection.places(dense.shape)
        flat = dense.reshape(-1).scatter(0, places, self.values.to(dense.dtype).reshape(-1))
        return flat.view(dense.shape)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """The places follow the values to another device. They are no buffer: nobody should send or convert them."""
        super()._apply(fn, recurse)
        self._turn_to(self.selection.to(self.values.device))
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies have memory of their own."""
        super().__setstate__(state)
        self._turn_to(self.selection)

    def get_extra_state(self) -> Tensor:
        """(32,) uint8: SHA-256 of the places, so that values never get into the places of others."""
        return torch.frombuffer(bytearray(digest(self.selection)), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare.

        Args:
            state: of a checkpoint.

        Raises:
            AccordError: for values of other places.
        """
        if bytes(state.cpu().tolist()) != digest(self.selection):
            raise AccordError(
                "these values belong to other places of the weight. Load the state of SparseTraining first, or build "
                "it with the mask of the checkpoint: SparseTraining(model, mask)."
            )

    def extra_repr(self) -> str:
        """For ``print(model)``."""
        return f"{type(self.selection).__name__}, {self.values.numel()} trained"


def digest(selection: Selection) -> bytes:
    """SHA-256 of the places.

    Args:
        selection: on any device.
    """
    index = selection.index.cpu().contiguous()
    text = f"{type(selection).__name__} {getattr(selection, 'group', 1)} {tuple(index.shape)} {index.dtype}"
    return hashlib.sha256(text.encode() + index.numpy().tobytes()).digest()


def _compact(dense: Tensor, selection: Selection) -> Tensor:
    """Weights of 16 bits keep their selected scalars in 32: steps of an optimiser would be lost in rounding."""
    return selection.gather(dense.detach()).to(torch.promote_types(dense.dtype, torch.float32))


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, dense: Tensor, placed: Placed) -> Tensor:
        ctx.placed, ctx.selection, ctx.dtype = placed, placed.selection, values.dtype
        return dense.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        wants_values, wants_rest, _ = ctx.needs_input_grad
        ctx.placed.doubt()
        gradient = gradient.to_dense() if gradient.is_sparse else gradient  # of an embedding
        values = ctx.selection.gather(gradient).to(ctx.dtype) if wants_values else None
        rest = ctx.selection.clear(gradient) if wants_rest else None
        return values, rest, None
