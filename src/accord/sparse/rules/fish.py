"""FISH: the largest Fisher information of all weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from accord.sparse.rule import Budgeted, Target
from accord.sparse.scores import best_places, over_tasks
from accord.sparse.selection import Flat


@dataclass(frozen=True, repr=False)
class FISH(Budgeted):
    """Fisher-induced sparse unchanging mask: of all weights together, those with the largest empirical Fisher.

    ``F = Σ_i mean_b g_i(b)² / m_i`` over tasks i and batches b, ``m_i`` the task's mean over all weights; the S
    largest, S the sum of the rows' budgets, so that rows and layers get unequal shares.

    The Fisher information is the mean of squared gradients *of single samples*. It is exact when each batch that
    ``losses=`` yields is one sample; with larger ones the square of their mean gradient is a biased stand-in, smaller
    where the samples disagree. The paper takes about a thousand samples; more change little. Of equal scores the
    largest weights are taken.

    Source: Sung, Nair, Raffel 2021 (NeurIPS), "Training Neural Networks with Fixed Sparse Masks",
    [arXiv 2111.09839](https://arxiv.org/abs/2111.09839), section 3; the mean over tasks is ours.

    Args:
        k: see ``Budgeted``; here all rows' budgets make one total.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.

    Example:
        >>> from accord.sparse.evidence import Evidence
        >>> seen = Evidence(("a",), 1, {"square": torch.tensor([[[1.0, 2.0], [9.0, 4.0]]])})
        >>> target = Target("w", torch.ones(2, 2), keep=1, evidence=seen)
        >>> FISH(k=1).choose([target], torch.Generator())["w"].index.tolist()
        [2, 3]
    """

    name: ClassVar[str] = "FISH"
    needs_evidence: ClassVar[bool] = True
    everywhere: ClassVar[bool] = True

    @property
    def statistics(self) -> tuple[str, ...]:
        """See ``Rule.statistics``."""
        return ("square",)

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Flat]:
        """See ``Rule.choose``."""
        scores = over_tasks(targets, lambda evidence: evidence.mean("square"))
        found = best_places(scores, [t.matrix for t in targets], sum(self.size(t) for t in targets))
        return {target.name: flat for target, flat in zip(targets, found, strict=True)}
