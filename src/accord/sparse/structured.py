"""Structured layers: rows of a group share their trained inputs, so the weight's gradient is a smaller product.

With ``y = x Wᵀ``, the gradient of the trained columns c of W is ``δᵀ x[:, c]``: 2·N·out·k operations instead of
2·N·out·fan_in, and of the layer's input only ``x[:, c]`` has to be kept for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrize import type_before_parametrizations

from accord.sparse.placed import Placed
from accord.sparse.products import Conv, Linear, Product
from accord.sparse.selection import Columns

MOST_GROUPS = 64  # each is a product of its own; many small ones are slower than one that is dense


def fits(module: nn.Module, attribute: str, placed: Placed) -> str:
    """Why a weight cannot have the smaller product; empty if it can.

    Args:
        module: parametrised or not.
        attribute: name of the weight there.
        placed: its parametrisation.

    Example:
        >>> from accord.sparse.selection import Rows
        >>> layer = nn.Linear(3, 2)
        >>> fits(layer, "weight", Placed(layer.weight, Columns(torch.tensor([[0, 2]]), group=2)))
        ''
        >>> fits(layer, "weight", Placed(layer.weight, Rows(torch.tensor([[0], [2]]))))
        'rows have columns of their own'
    """
    kind = type_before_parametrizations(module)
    if not isinstance(placed.selection, Columns):
        return "rows have columns of their own"
    if len(placed.selection.index) > MOST_GROUPS:
        return f"more than {MOST_GROUPS} groups of rows"
    if attribute != "weight" or kind not in (nn.Linear, nn.Conv2d):
        return f"{kind.__name__} computes in its own way"
    if isinstance(module, nn.Conv2d):
        if module.groups != 1:
            return "a grouped convolution"
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            return "padding that is not a number of zeros"
        if placed.selection.run % (module.kernel_size[0] * module.kernel_size[1]):
            return "columns that are no whole input channels"
    return ""


def structure(module: nn.Module) -> None:
    """Give a parametrised layer the smaller product; it ends with the parametrisation.

    PyTorch gives each parametrised module a class of its own, so that this forward pass is copied with the module and
    goes with the class.

    Args:
        module: for which ``fits`` has nothing against it.
    """
    type(module).forward = _conv if isinstance(module, nn.Conv2d) else _linear


def _linear(self: Any, input: Tensor) -> Tensor:
    return _run(self, input) if _ready(self) else nn.Linear.forward(self, input)


def _conv(self: Any, input: Tensor) -> Tensor:
    return _run(self, input) if input.ndim == 4 and _ready(self) else nn.Conv2d.forward(self, input)


def _ready(module: Any) -> bool:
    """Whether a graph is recorded, and the weight may be written to; ``Placed`` serves all else."""
    found = module.parametrizations["weight"]
    placed = found[0]
    structured = isinstance(placed.selection, Columns) and not fits(module, "weight", placed)  # it may be another now
    return structured and torch.is_grad_enabled() and placed.values.requires_grad and placed.ready(found.original)


def _run(module: Any, x: Tensor) -> Tensor:
    found = module.parametrizations["weight"]
    bias, device = module.bias, x.device.type
    dtype = None
    if torch.is_autocast_enabled(device) and x.is_floating_point() and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        x, bias = x.to(dtype), None if bias is None else bias.to(dtype)
    with torch.autocast(device, enabled=False):
        result: Tensor = _Structured.apply(x, found[0].values, found.original, bias, found[0], module, dtype)
    return result


def _product(module: Any, placed: Placed) -> Product:
    assert isinstance(placed.selection, Columns)
    index, group = placed.selection.index.long(), placed.selection.group
    if isinstance(module, nn.Conv2d):
        settings: Any = module.stride, module.padding, module.dilation
        return Conv(index, group, module.kernel_size, *settings)  # type: ignore[arg-type]
    return Linear(index, group)


class _Structured(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, dense: Tensor, bias: Tensor | None, placed: Placed, module: Any,
        dtype: torch.dtype | None,
    ) -> Tensor:  # fmt: skip
        ctx.placed, ctx.product, ctx.shape, ctx.bias = placed, _product(module, placed), x.shape, bias is not None
        ctx.dtypes = values.dtype, dense.dtype
        weight = dense if dtype is None else dense.to(dtype)
        kept = ctx.product.keep(x)
        whole = x if ctx.needs_input_grad[2] and kept is not x else None  # somebody looks at the rest
        # The weight itself is saved, not a detached view of it: what is written to it too early is noticed.
        ctx.save_for_backward(weight if ctx.needs_input_grad[0] else None, kept, whole)
        ctx.same = kept is x
        ctx.weight = weight.shape
        return ctx.product.forward(x, weight.detach(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, kept, whole = ctx.saved_tensors
        wants_input, wants_values, wants_rest, wants_bias, *_ = ctx.needs_input_grad
        product, (values_dtype, dense_dtype) = ctx.product, ctx.dtypes
        ctx.placed.doubt()
        own = product.values(gradient, kept, ctx.shape).to(values_dtype) if wants_values else None
        rest = None
        if wants_rest:
            dense = product.weight(gradient, kept if ctx.same else whole, ctx.weight).to(dense_dtype)
            rest = ctx.placed.selection.clear(dense)
        back = product.input(gradient, weight, ctx.shape) if wants_input else None
        return back, own, rest, product.bias(gradient) if wants_bias and ctx.bias else None, None, None, None
