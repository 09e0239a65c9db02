"""SignAgreement: large weights that the tasks push the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.sparse.rule import Budgeted, Target
from accord.sparse.scores import best_columns, evidence_of


@dataclass(frozen=True, repr=False)
class SignAgreement(Budgeted):
    """Of each row, the inputs with the largest product of magnitude and agreement.

    ``I_r = top k_r of |W| · mean_b |Σ_i sign g_i(b)| / K`` over tasks i and batches b. The agreement is 1 where all
    tasks push the same way in every batch, and for two tasks it is the share of batches in which they do. A task
    without a gradient counts as undecided, so inputs that only some tasks reach score lower. With one task this is
    the rule of magnitude.

    Tasks that push at random agree by chance: 0.5 on average for two, less for more; few batches tell little.

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.

    Example:
        >>> from accord.sparse.evidence import Evidence
        >>> seen = Evidence(("a", "b"), 2, {"agreement": torch.tensor([[[0.0, 2.0, 1.0]]])})
        >>> target = Target("w", torch.tensor([[9.0, 1.0, -3.0]]), keep=1, evidence=seen)
        >>> SignAgreement(k=1).choose([target], torch.Generator())["w"].tolist()
        [[2]]
    """

    name: ClassVar[str] = "SignAgreement"
    needs_evidence: ClassVar[bool] = True

    @property
    def statistics(self) -> tuple[str, ...]:
        """See ``Rule.statistics``."""
        return ("agreement",)

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Rule.choose``."""
        found = {}
        for target in targets:
            agreement = evidence_of(target).mean("agreement")[0]  # (out, fan_in)
            score = target.matrix.detach().abs() * agreement
            found[target.name] = best_columns(score, target.matrix, target.keep)
        return found
