"""Scores from evidence, and the best places by score: of equal ones, the larger weight, then the lower place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from accord.errors import AccordError
from accord.sparse.evidence import Evidence
from accord.sparse.rule import Target
from accord.sparse.selection import Flat, narrow
from accord.sparse.top import top_columns


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
    order = matrix.detach().abs().argsort(dim=1, descending=True, stable=True)  # (out, fan_in), largest weight first
    found = top_columns(score.gather(1, order), keep)  # (out, keep), of equal ones the lowest
    return order.gather(1, found).sort(1).values


def best_places(scores: Sequence[Tensor], matrices: Sequence[Tensor], total: int) -> list[Flat]:
    """The places with the largest scores of all targets together; equal ones are settled as in ``best_columns``.

    Args:
        scores: (out, fan_in) for each target.
        matrices: the weights.
        total: how many places.

    Example:
        >>> score, weight = torch.tensor([[3.0, 0.0]]), torch.ones(1, 2)
        >>> [flat.index.tolist() for flat in best_places([score, -score], [weight, 2 * weight], 2)]
        [[0], [1]]
    """
    flat = torch.cat([s.reshape(-1) for s in scores])  # (P,)
    cut = flat.kthvalue(len(flat) - total + 1).values
    chosen = flat > cut  # fewer than `total`
    equal = (flat == cut).nonzero()[:, 0]
    weights = torch.cat([m.detach().reshape(-1) for m in matrices])[equal].abs()
    chosen[equal[weights.argsort(descending=True, stable=True)[: total - int(chosen.sum())]]] = True
    parts = chosen.split([s.numel() for s in scores])
    return [Flat(narrow(part.nonzero()[:, 0], len(part))) for part in parts]
