"""Gauss-Legendre quadrature on the unit interval."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def _rule(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    x, w = np.polynomial.legendre.leggauss(n)
    # A tensor made in inference mode could never be saved for a backward pass, and this one outlives its caller.
    with torch.inference_mode(False):
        return (
            torch.tensor((x + 1) / 2, dtype=dtype, device=device),
            torch.tensor(w / 2, dtype=dtype, device=device),
        )


def nodes(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes x_j and weights w_j with ``sum_j w_j q(x_j) = int_0^1 q(x) dx`` for polynomials q of degree < 2n.

    Computed in float64 and cast once for each dtype and device: do not change them in place.

    Args:
        n: number of nodes.
        like: gives dtype and device.

    Returns:
        Two tensors (n,): the nodes in increasing order, and weights that sum to 1.

    Example:
        >>> x, w = nodes(2, torch.zeros(1, dtype=torch.float64))
        >>> round(float(w @ x**3), 12)
        0.25
    """
    return _rule(n, like.dtype, like.device)


def unit_mean(f: Callable[[Tensor], Tensor], n: int, like: Tensor) -> Tensor:
    """``int_0^1 f(x) dx`` with n nodes, for every entry of ``like`` at once.

    Args:
        f: takes the nodes as (n, 1, ..., 1), with as many ones as ``like`` has axes, and returns (n, ...).
        n: number of nodes.
        like: gives dtype, device and the number of axes.

    Returns:
        The mean over the first axis of what ``f`` returned.

    Example:
        >>> rate = torch.tensor([0.5, 2.0], dtype=torch.float64)
        >>> mean = unit_mean(lambda x: torch.exp(rate * x), 8, rate)
        >>> torch.allclose(mean, torch.expm1(rate) / rate)
        True
    """
    x, w = nodes(n, like)
    return torch.tensordot(w, f(x.reshape(n, *(1,) * like.dim())), dims=1)
