"""The largest scores of each row or of all, with ties settled by place, so that every device chooses alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 22  # scores at a time: temporaries stay in the cache, and small


def top_columns(scores: Tensor, keep: int, *, magnitude: bool = False, smallest: bool = False) -> Tensor:
    """The columns of the ``keep`` largest scores of each row; of equal ones at the cut, the lowest columns.

    The same as the first ``keep`` of a stable descending sort. Low precision is compared as it is, which is exact.

    Args:
        scores: (rows, columns), none of them NaN.
        keep: from 1 to the number of columns.
        magnitude: compare ``|score|``, without a copy of all scores.
        smallest: the smallest instead of the largest.

    Returns:
        (rows, keep) int64, ascending in each row.

    Example:
        >>> top_columns(torch.tensor([[1.0, 3.0, 1.0, 2.0, 1.0]]), 3)
        tensor([[0, 1, 3]])
    """
    rows, columns = scores.shape
    step = max(1, CHUNK // max(1, columns))
    parts = []
    for start in range(0, rows, step):
        part = scores[start : start + step]
        part = part.abs() if magnitude else part
        parts.append(_top(-part if smallest else part, keep))
    return torch.cat(parts) if parts else torch.empty(0, keep, dtype=torch.int64, device=scores.device)


def _top(scores: Tensor, keep: int) -> Tensor:
    rows, columns = scores.shape
    wide = (scores if scores.dtype == torch.float64 else scores.float()).contiguous()  # 16 bits are slow on the CPU
    cut = _cut(wide, keep)  # (rows, 1)
    taken = wide >= cut  # (rows, columns): more than `keep` where others equal the last one
    places = _where(taken.view(-1))
    if len(places) > rows * keep:
        crowded = _where(taken.sum(1) > keep)
        above, equal = wide[crowded] > cut[crowded], wide[crowded] == cut[crowded]
        room = keep - above.sum(1, keepdim=True)  # (crowded, 1)
        taken[crowded] = above | (equal & (equal.cumsum(1) <= room))
        places = _where(taken.view(-1))
    first = torch.arange(rows, device=scores.device)[:, None] * columns  # (rows, 1)
    return places.view(rows, keep) - first


def _cut(scores: Tensor, keep: int) -> Tensor:
    """(rows, 1): the smallest score that is kept. NumPy partitions several times faster, on the CPU."""
    if scores.is_cuda:
        return scores.topk(keep, dim=1, sorted=False).values.amin(1, keepdim=True)
    last = scores.shape[1] - keep
    return torch.from_numpy(np.partition(scores.cpu().numpy(), last, axis=1)[:, last : last + 1]).to(scores.device)


def _where(mask: Tensor) -> Tensor:
    """(n,) int64: the places of what is true in a vector."""
    if mask.is_cuda:
        return mask.nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(mask.cpu().numpy())).to(mask.device)


def top_places(scores: Sequence[Tensor], keep: int, *, magnitude: bool = False) -> list[Tensor]:
    """The places of the ``keep`` largest scores of several tensors together; of equal ones at the cut, the first.

    The cut is found by counting leading bits, 16 at a time: no copy of all scores is sorted, or ever made.

    Args:
        scores: tensors of any shape, none of it NaN or negative.
        keep: from 0 to the number of scores.
        magnitude: compare ``|score|``, which may then be negative.

    Returns:
        For each tensor the places in it, flattened: int64, ascending.

    Example:
        >>> [places.tolist() for places in top_places([torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])], 3)]
        [[0, 1], [1]]
    """
    if keep == 0:
        return [torch.empty(0, dtype=torch.int64, device=part.device) for part in scores]
    width = 64 if any(part.dtype == torch.float64 for part in scores) else 32
    cut, left = 0, keep  # the leading bits of the last score that is kept; how many are still to be found below
    for shift in range(width - 16, -1, -16):
        counts = torch.zeros(1 << 16, dtype=torch.int64)
        for part in scores:
            for bits in _bits(part, width, magnitude):
                inside = bits if shift == width - 16 else bits[bits >> (shift + 16) == cut]
                counts += ((inside >> shift) & 0xFFFF).bincount(minlength=1 << 16).cpu()
        above = counts.flip(0).cumsum(0).flip(0)  # (65536,) scores with these 16 bits or larger ones
        digit = int((above >= left).nonzero()[-1])
        left -= int(above[digit] - counts[digit])
        cut = (cut << 16) | digit
    found = []
    for part in scores:
        places, start = [], 0
        for bits in _bits(part, width, magnitude):
            taken = bits > cut
            if left:
                equal = _where(bits == cut)[:left]
                taken[equal] = True
                left -= len(equal)
            places.append(_where(taken) + start)
            start += len(bits)
        found.append(torch.cat(places) if places else torch.empty(0, dtype=torch.int64, device=part.device))
    return found


def _bits(scores: Tensor, width: int, magnitude: bool) -> Iterator[Tensor]:
    """Scores as whole numbers of the same order, some at a time: floats above zero are ordered as their bits."""
    wide, whole = (torch.float64, torch.int64) if width == 64 else (torch.float32, torch.int32)
    for part in scores.reshape(-1).split(CHUNK):
        positive = part.abs() if magnitude else part + 0.0  # -0.0 becomes 0.0
        yield positive.to(wide).view(whole)
