"""phi: the mean of an exponential over the unit interval."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

GATE = 0.25  # below it the quotient in phi' loses digits; the series in z/2 is then exact to 1e-15


def phi(z: Tensor) -> Tensor:
    """``phi(z) = (e^z - 1)/z = int_0^1 e^(z x) dx``, with ``phi(0) = 1``.

    Value and gradient are accurate to a few units in the last place for every z, also at and around 0, where automatic
    differentiation of the quotient is not. Differentiable twice.

    Args:
        z: any shape.

    Returns:
        The same shape. Overflows to ``inf`` where ``e^z`` does.

    Example:
        >>> z = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        >>> (slope,) = torch.autograd.grad(phi(z).sum(), z)
        >>> phi(z).item(), slope.item()
        (1.0, 0.5)
    """
    return _Phi.apply(z)


class _Phi(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        zero = z == 0
        return torch.where(zero, 1.0, torch.expm1(z) / z.masked_fill(zero, 1.0))

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        z, value = ctx.saved_tensors
        return grads[0] * _slope(z, value)


def _slope(z: Tensor, value: Tensor) -> Tensor:
    """``phi'(z) = int_0^1 x e^(z x) dx``, from ``value`` = phi(z)."""
    near = z.abs() < GATE
    far = torch.where(near, 1.0, z)
    # phi = e^u sinh(u)/u with u = z/2, and (sinh(u)/u)' = u/3 + u^3/30 + u^5/840 + u^7/45360 + ...
    u = z.clamp(-GATE, GATE) / 2
    q = u * u
    odd = u * (((q / 45360 + 1 / 840) * q + 1 / 30) * q + 1 / 3)
    # (e^z - phi)/z is inf - inf where e^z overflows; with e^z = 1 + z phi it is not, but that loses digits for z < 0.
    rising = value * (1 - 1 / far) + 1 / far
    falling = (torch.exp(far.clamp(max=0.0)) - value) / far
    return torch.where(near, (value + torch.exp(u) * odd) / 2, torch.where(far > 0, rising, falling))
