"""GPS: the largest accumulated gradients of each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.sparse.rule import Budgeted, Target
from accord.sparse.scores import best_columns, over_tasks


@dataclass(frozen=True, repr=False)
class GPS(Budgeted):
    """Gradient-based parameter selection: of each row, the inputs with the largest gradient over a pass of the data.

    ``I_r = top k_r of Σ_i |Σ_b g_i(b)| / m_i`` over tasks i and batches b, ``m_i`` the task's mean over all weights.

    The paper accumulates one gradient and takes its magnitude at the end, as its public code does (no ``zero_grad``
    between batches), so noise that changes its sign cancels; ``absolute=True`` adds up magnitudes instead. Its loss is
    a contrastive one without heads, its k is one to fifteen; here the losses are the tasks', whose mean is ours. Of
    equal scores (inputs that never had a gradient) the largest weights are taken.

    Source: Zhang et al. 2024 (CVPR), "Gradient-based Parameter Selection for Efficient Fine-Tuning",
    [arXiv 2312.10136](https://arxiv.org/abs/2312.10136), section 3, and the authors' ``utils/pruning.py``.

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.
        absolute: add up ``|g_i(b)|``.

    Example:
        >>> from accord.sparse.evidence import Evidence
        >>> seen = Evidence(("a",), 2, {"gradient": torch.tensor([[[0.1, -3.0, 2.0]]])})
        >>> GPS(k=1).choose([Target("w", torch.ones(1, 3), keep=1, evidence=seen)], torch.Generator())["w"].tolist()
        [[1]]
    """

    absolute: bool = False

    name: ClassVar[str] = "GPS"
    needs_evidence: ClassVar[bool] = True

    @property
    def statistics(self) -> tuple[str, ...]:
        """See ``Rule.statistics``."""
        return ("magnitude" if self.absolute else "gradient",)

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Rule.choose``."""
        scores = over_tasks(targets, lambda evidence: evidence.mean(self.statistics[0]).abs())
        return {t.name: best_columns(s, t.matrix, t.keep) for t, s in zip(targets, scores, strict=True)}
