"""The largest scores of each row or of all, with ties settled by place, so that every device chooses alike."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 22  # scores at a time: temporaries stay in the cache, and small


def top_columns(scores: Tensor, keep: int, *, magnitude: bool = False) -> Tensor:
    """The columns of the ``keep`` largest scores of each row; of equal ones at the cut, the lowest columns.

    The same as the first ``keep`` of a stable descending sort. Low precision is compared as it is, which is exact.

    Args:
        scores: (rows, columns), none of them NaN.
        keep: from 1 to the number of columns.
        magnitude: compare ``|score|``, without a copy of all scores.

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
        parts.append(_top(part.abs() if magnitude else part, keep))
    return torch.cat(parts) if parts else torch.empty(0, keep, dtype=torch.int64, device=scores.device)


def _top(scores: Tensor, keep: int) -> Tensor:
    wide = scores if scores.dtype == torch.float64 else scores.float()  # sorting 16 bits is slow on the CPU
    cut = wide.topk(keep, dim=1, sorted=False).values.amin(1, keepdim=True)  # (rows, 1)
    taken = wide >= cut  # (rows, columns): more than `keep` where others equal the last one
    crowded = (taken.sum(1) > keep).nonzero()[:, 0]
    if len(crowded):
        above, equal = wide[crowded] > cut[crowded], wide[crowded] == cut[crowded]
        room = keep - above.sum(1, keepdim=True)  # (crowded, 1)
        taken[crowded] = above | (equal & (equal.cumsum(1) <= room))
    return taken.nonzero()[:, 1].view(len(scores), keep)
