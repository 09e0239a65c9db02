"""Inner products of long vectors, exact enough to decide signs: float32 products of short pieces, float64 sums.

One float32 ``J @ J.T`` at K = 2 and P = 1e7 is off by 2e-4; summing pieces of 4096 columns in float64 keeps the
error of a cosine below 1e-7, at the cost of one pass over the rows through the cache and no copy of K x P. What fits
into the cache in float64 is one float64 product, which costs less than the pieces would.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PIECE = 4096  # columns that one float32 product sums
CACHE = 1 << 18  # scalars that are gathered at once: 1 MiB of float32 stays in the cache


def squares(vectors: Tensor) -> Tensor:
    """``v_i · v_i``, the diagonal of the Gramian alone.

    Args:
        vectors: (k, ...).

    Returns:
        (k,) float64.
    """
    if 2 * vectors.numel() > CACHE:
        return torch.cat([dots([v], v) for v in vectors])
    return _real(vectors).reshape(len(vectors), -1).double().square().sum(1)


def gramian(vectors: Sequence[Tensor] | Tensor) -> Tensor:
    """``G_ij = v_i · v_j`` for k tensors of equal size.

    Args:
        vectors: k tensors of n scalars each, of any shape, or one tensor (k, ...).

    Returns:
        (k, k) float64, symmetric, on the device of the vectors.
    """
    size = vectors.numel() if isinstance(vectors, Tensor) else len(vectors) * vectors[0].numel()
    total = _at_once(vectors) if 2 * size <= CACHE else _in_pieces([_flat(v) for v in vectors])  # (k, k)
    return (total + total.T) / 2  # kernels may round G_ij and G_ji differently


def _at_once(vectors: Sequence[Tensor] | Tensor) -> Tensor:
    if not isinstance(vectors, Tensor):
        vectors = torch.stack([_flat(v) for v in vectors])  # (k, n)
    rows = _real(vectors).reshape(len(vectors), -1).double()  # (k, n)
    return rows @ rows.T  # (k, k)


def _in_pieces(flat: list[Tensor]) -> Tensor:
    k, n = len(flat), flat[0].numel()
    total = torch.zeros(k, k, dtype=torch.float64, device=flat[0].device)  # (k, k)
    width = max(PIECE, CACHE // k // PIECE * PIECE)
    wide = torch.promote_types(flat[0].dtype, torch.float32)
    buffer = torch.empty(
        k * min(n, width), dtype=wide, device=flat[0].device
    )  # one, or the system clears a new one each time
    for start in range(0, n, width):
        pieces = [v[start : start + width] for v in flat]
        rows = torch.stack(pieces, out=buffer[: k * len(pieces[0])].view(k, -1))  # (k, <= width)
        whole = rows.shape[1] // PIECE * PIECE
        if whole:
            short = rows[:, :whole].view(k, -1, PIECE).transpose(0, 1)  # (pieces, k, PIECE)
            total += torch.bmm(short, short.transpose(1, 2)).sum(0, dtype=torch.float64)
        if whole < rows.shape[1]:
            rest = rows[:, whole:]  # (k, < PIECE)
            total += (rest @ rest.T).double()
    return total


def dots(vectors: Sequence[Tensor], other: Tensor) -> Tensor:
    """``v_i · other`` for k tensors.

    Returns:
        (k,) float64.
    """
    flat, against = [_flat(v) for v in vectors], _flat(other)
    n = against.numel()
    width = max(PIECE, CACHE // PIECE * PIECE)
    total = torch.zeros(len(flat), dtype=torch.float64, device=against.device)  # (k,)
    for start in range(0, n, width):
        b = against[start : start + width].double()  # (<= width,)
        total += torch.stack([v[start : start + width].double() @ b for v in flat])
    return total


def _flat(v: Tensor) -> Tensor:
    v = _real(v.to_dense() if v.is_sparse else v)
    return v if v.ndim == 1 else v.reshape(-1)


def _real(v: Tensor) -> Tensor:
    return torch.view_as_real(v) if v.is_complex() else v
