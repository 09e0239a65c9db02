"""Softplus, its logarithm, its integral and its mean over a segment, accurate over the whole line."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

OFFSET = 1e-3  # b' = b + OFFSET keeps sp_b defined at b = 0
LOWEST = -37.0  # below it softplus(x) = e^x to the last bit of float64
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # B_2, B_4, ..., B_14
TERMS = {torch.float64: 7, torch.float32: 3}  # of the Bernoulli series, for full precision at y = log 2
# Below the gate the mean over a segment is a Taylor series, above it a difference quotient; at the gate both err least.
GATE = {torch.float64: 1 / 32, torch.float32: 1 / 2}


def softplus(x: Tensor) -> Tensor:
    """``log(1 + e^x)`` to the last digits also in float64, where PyTorch's own default stops at x = 20.

    Args:
        x: any shape.

    Returns:
        The same shape, >= 0.

    Example:
        >>> float(softplus(torch.tensor(21.0, dtype=torch.float64)) - 21) > 0
        True
    """
    return F.softplus(x, threshold=40.0)


def log_softplus(x: Tensor) -> Tensor:
    """``log log(1 + e^x)``, finite with finite gradients for every x.

    Args:
        x: any shape.

    Returns:
        The same shape; close to x for x << 0, to log x for x >> 0.

    Example:
        >>> log_softplus(torch.tensor([-1e4, 0.0])).tolist()
        [-10000.0, -0.3665129244327545]
    """
    # Two clamps would both pass the gradient at their common end; relu does not.
    return softplus(x.clamp(min=LOWEST)).log() - F.relu(LOWEST - x)


def scaled_softplus(x: Tensor, b: Tensor) -> Tensor:
    """``sp_b(x) = softplus(b' x)/b'`` with ``b' = b + 1e-3``: a softplus with learnable sharpness.

    Args:
        x: any shape.
        b: >= 0, broadcast against x.

    Returns:
        The common shape, >= 0.

    Example:
        >>> round(scaled_softplus(torch.tensor(-1.0), torch.tensor(0.0)).item(), 1)  # nearly log(2)/b'
        692.6
    """
    sharpness = b + OFFSET
    return softplus(sharpness * x) / sharpness


def log_scaled_softplus(x: Tensor, b: Tensor) -> Tensor:
    """``log sp_b(x)``; see ``scaled_softplus`` and ``log_softplus``.

    Args:
        x: any shape.
        b: >= 0, broadcast against x.

    Returns:
        The common shape.

    Example:
        >>> x, b = torch.tensor(2.0), torch.tensor(1.0)
        >>> torch.allclose(log_scaled_softplus(x, b).exp(), scaled_softplus(x, b))
        True
    """
    sharpness = b + OFFSET
    return log_softplus(sharpness * x) - sharpness.log()


def softplus_integral(x: Tensor) -> Tensor:
    """``I(x) = int_(-inf)^x softplus(s) ds = -Li2(-e^x)``, a dilogarithm; its gradient is ``softplus(x)``.

    For x <= 0 and ``y = softplus(x)`` it is ``int_0^y t/(1 - e^-t) dt``, a series in Bernoulli numbers; for x > 0
    ``I(x) = x^2/2 + pi^2/6 - I(-x)``. Differentiable any number of times.

    Args:
        x: any shape.

    Returns:
        The same shape, > 0, increasing.

    Example:
        >>> x = torch.zeros((), dtype=torch.float64)
        >>> math.isclose(softplus_integral(x).item(), math.pi**2 / 12)
        True
    """
    return _Integral.apply(x)


def softplus_mean(x0: Tensor, z: Tensor) -> Tensor:
    """``S(x0, z) = int_0^1 softplus(x0 + z x) dx``, the mean of softplus over the segment from x0 to x0 + z.

    Value and both gradients are accurate for every x0 and z, at and around z = 0 too. Differentiable twice.

    Args:
        x0: start, any shape.
        z: signed length of the segment, broadcast against x0.

    Returns:
        The common shape.

    Example:
        >>> x0, z = torch.tensor([0.0, 1e4]), torch.tensor([0.0, 200.0])
        >>> [round(float(s), 4) for s in softplus_mean(x0, z)]
        [0.6931, 10100.0]
    """
    x0, z = torch.broadcast_tensors(x0, z)
    slopes = torch.is_grad_enabled() and (x0.requires_grad or z.requires_grad)
    return _Mean.apply(x0, z, slopes)[0]


@cache
def _series(dtype: torch.dtype) -> list[float]:
    """Coefficients B_2k/(2k + 1)! of y^3, y^5, ...: highest first, for Horner's rule."""
    used = BERNOULLI[: TERMS[dtype]]
    return [number / math.factorial(2 * k + 3) for k, number in enumerate(used)][::-1]


def _lower_integral(y: Tensor) -> Tensor:
    """I(x) for x <= 0, from y = softplus(x) in (0, log 2]."""
    q = y * y
    first, *others = _series(y.dtype)
    total = q * first
    for c in others[:-1]:
        total = (total + c) * q
    # y + y^2/4 + y q (others[-1] + total)
    return y * (1 + y / 4 + q * (total + others[-1]))


class _Integral(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        lower = _lower_integral(F.softplus(-x.abs()))
        return torch.where(x > 0, x * x / 2 + math.pi**2 / 6 - lower, lower)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * softplus(x)


class _Mean(torch.autograd.Function):
    """Carries both slopes from the forward pass, where they share most of their work with the value."""

    @staticmethod
    def forward(x0: Tensor, z: Tensor, slopes: bool) -> tuple[Tensor, ...]:
        return _mean(x0, z, slopes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:2], *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:
            return None, None, None
        x0, z, by_x0, by_z = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: the slopes need a graph of their own
            _, by_x0, by_z = _mean(x0, z, slopes=True)
        return grads[0] * by_x0, grads[0] * by_z, None

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], x0: Tensor, z: Tensor, slopes: bool) -> tuple[Any, int]:
        # Entries are independent, so a batch is only one more axis; a generated rule could not look for wide entries.
        x0, z = (x if axis is None else x.movedim(axis, 0) for x, axis in zip((x0, z), axes[:2], strict=True))
        return _Mean.apply(*torch.broadcast_tensors(x0, z), slopes), 0


def _mean(x0: Tensor, z: Tensor, slopes: bool) -> tuple[Tensor, ...]:
    """S, and with ``slopes`` also dS/dx0 and dS/dz."""
    # Looking for the few wide segments of a batch is cheap on CPU; elsewhere the host would wait for the device.
    return _chosen(x0, z, slopes, look=z.device.type == "cpu")


def _chosen(x0: Tensor, z: Tensor, slopes: bool, look: bool) -> tuple[Tensor, ...]:
    """The series below the gate, quotients above it: of all entries, or with ``look`` of the wide ones alone."""
    gate = GATE[z.dtype]
    size = z.abs()
    excess = size - gate
    close = _mean_of_short(x0, z.clamp(-gate, gate), slopes)
    if look:
        at = excess.flatten().clamp(min=0).nonzero()[:, 0]
        wide = _mean_of_long(x0.flatten()[at], z.flatten()[at], slopes)
        return tuple(a.flatten().index_copy(0, at, b).view_as(a) for a, b in zip(close, wide, strict=True))
    # Finite also below the gate, so that 0 * inf never reaches a gradient.
    wide = _mean_of_long(x0, torch.copysign(size.clamp(min=gate), z), slopes)
    chosen = excess.sign().clamp(min=0)
    return tuple(torch.lerp(a, b, chosen) for a, b in zip(close, wide, strict=True))


def _mean_of_short(x0: Tensor, z: Tensor, slopes: bool) -> tuple[Tensor, ...]:
    """Taylor series around the middle m: ``softplus(m) + s'(m) z^2/24 + s'''(m) z^4/1920``, s the logistic.

    With ``p = s (1 - s)``, the derivatives of s are ``s' = p`` and ``s''' = p (1 - 6 p)``, and ``p' = p (1 - 2 s)``.
    """
    m = torch.add(x0, z, alpha=0.5)
    s = torch.sigmoid(m)
    p = torch.addcmul(s, s, s, value=-1)
    square = z * z
    scaled = p * square
    third = torch.rsub(p, 1, alpha=6) * square
    value = torch.addcmul(softplus(m), scaled, third / 1920 + 1 / 24)
    if not slopes:
        return (value,)
    inner = torch.rsub(p, 1, alpha=12) * square / 1920 + 1 / 24
    by_m = torch.addcmul(s, scaled * torch.rsub(s, 1, alpha=2), inner)
    by_z = torch.addcmul(by_m / 2, p * z, third / 480 + 1 / 12)
    return value, by_m, by_z


def _mean_of_long(x0: Tensor, z: Tensor, slopes: bool) -> tuple[Tensor, ...]:
    """``softplus(x) = max(x, 0) + softplus(-|x|)``: the mean of the first in closed form, of the second a quotient.

    The antiderivative of the second lies in [0, pi^2/6], so its difference keeps its digits however large x0 is.
    Choosing by multiplication is much faster on CPU than by ``where``: there a random mask costs one misprediction in
    two entries.
    """
    ends = torch.stack((x0, x0 + z))  # (2, ...)
    y = F.softplus(-ends.abs())
    lower = _lower_integral(y)
    above = ends.sign().clamp(min=0)  # 1 where x > 0
    start, stop = torch.addcmul(lower, above, torch.rsub(lower, math.pi**2 / 6, alpha=2)).unbind()
    inverse = z.reciprocal()
    rest = (stop - start) * inverse
    share = (torch.maximum(*ends.unbind()) * inverse.abs()).clamp(0, 1)  # of the segment, where x > 0
    first, last = ends.clamp(min=0).unbind()
    value = torch.addcmul(rest, share, first + last, value=0.5)
    if not slopes:
        return (value,)
    at_start, at_stop = y.unbind()
    by_x0 = torch.addcmul(share, at_stop - at_start, inverse)
    rising = z.sign().clamp(min=0)
    middle = torch.addcmul(share / 2, rising, 1 - share)  # mean position, from 0 to 1, of the part where x > 0
    by_z = torch.addcmul(share * middle, at_stop - rest, inverse)
    return value, by_x0, by_z
