"""Scores from evidence, and the best places by score: of equal ones, the larger weight, then the lower place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from accord.errors import AccordError
from accord.sparse.evidence import Evidence
from accord.sparse.rule import Target
from accord.sparse.selection import Flat, narrow
from accord.sparse.top import top_columns, top_places


def evidence_of(target: Target) -> Evidence:
    """The target's evidence.

    Raises:
        AccordError: if there is none.
    """
    if target.evidence is None:
        raise AccordError(f"there is no evidence about {target.name!r}: give select(..., losses=...).")
    return target.evidence


def over_tasks(targets: Sequence[Target], score: Callable[[Evidence], Tensor]) -> list[Tensor]:
    """Each task's score divided by its mean over all targets, then averaged over the tasks.

    So a task with large gradients has no more say than one with small ones; one without any has none.

    Args:
        targets: with evidence.
        score: (K, out, fan_in) from the evidence of one target, none of it negative.

    Returns:
        (out, fan_in) for each target.
    """
    if not targets:
        return []
    sums = [score(evidence_of(target)).flatten(1).sum(1, dtype=torch.float64) for target in targets]  # each (K,)
    means = torch.stack(sums).sum(0) / sum(target.matrix.numel() for target in targets)  # (K,)
    share = torch.where(means > 0, 1 / (len(means) * means), 0)  # (K,)
    found = []
    for target in targets:  # the scores are made again, so that they are held for one target at a time
        own = score(evidence_of(target))  # (K, out, fan_in)
        found.append(torch.tensordot(share.to(own), own, dims=1))
    return found


def best_columns(score: Tensor, matrix: Tensor, keep: int) -> Tensor:
    """The columns with the largest scores of each row; of equal ones the largest weights, then the lowest columns.

    Args:
        score: (out, fan_in).
        matrix: (out, fan_in), the weights.
        keep: columns of each row.

    Returns:
        (out, keep) int64, ascending in each row.

    Example:
        >>> best_columns(torch.tensor([[0.0, 0.0, 5.0]]), torch.tensor([[1.0, -2.0, 0.1]]), 2)
        tensor([[1, 2]])
    """
    found = top_columns(score, keep)
    cut = score.gather(1, found).amin(1, keepdim=True)  # (out, 1), the last score that is taken
    crowded = (score >= cut).sum(1).gt(keep).nonzero()[:, 0]  # rows in which others have it, too
    if len(crowded):
        own, cut = score[crowded], cut[crowded]
        weights = matrix[crowded].detach().abs().to(own.dtype)
        key = torch.where(own > cut, torch.inf, weights.masked_fill(own < cut, -1.0))
        found[crowded] = top_columns(key, keep)
    return found


def best_places(scores: Sequence[Tensor], matrices: Sequence[Tensor], total: int) -> list[Flat]:
    """The places with the largest scores of all targets together; equal ones are settled as in ``best_columns``.

    Args:
        scores: (out, fan_in) for each target, not negative.
        matrices: the weights.
        total: how many places.

    Example:
        >>> score, weight = torch.tensor([[3.0, 0.0]]), torch.ones(1, 2)
        >>> [flat.index.tolist() for flat in best_places([score, 0 * score], [weight, 2 * weight], 2)]
        [[0], [0]]
    """
    found = top_places(scores, total)
    cut = min(s.reshape(-1)[at].min().item() for s, at in zip(scores, found, strict=True) if len(at))
    above = [(s.reshape(-1) > cut).nonzero()[:, 0] for s in scores]
    equal = [(s.reshape(-1) == cut).nonzero()[:, 0] for s in scores]
    room = total - sum(map(len, above))
    if room < sum(map(len, equal)):
        weights = [m.detach().reshape(-1)[at] for m, at in zip(matrices, equal, strict=True)]
        taken = top_places(weights, room, magnitude=True)
        equal = [at[t] for at, t in zip(equal, taken, strict=True)]
        found = [torch.cat(both).sort().values for both in zip(above, equal, strict=True)]
    return [Flat(narrow(at, s.numel())) for at, s in zip(found, scores, strict=True)]
