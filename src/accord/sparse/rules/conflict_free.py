"""ConflictFree: leave out where the tasks pull apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.errors import AccordError, nearest
from accord.sparse.rule import Budgeted, Target
from accord.sparse.scores import best_columns, evidence_of

BY = ("magnitude", "product")


@dataclass(frozen=True, repr=False)
class ConflictFree(Budgeted):
    """Of each row, drop the inputs in which the tasks conflict most, then take the largest of the rest.

    ``c = mean_b Σ_{i<j} u_i(b) u_j(b)`` per scalar, over pairs of tasks and batches b, with ``u_i = g_i/‖g_i‖``: summed
    over all scalars it is the sum of the cosines, so that dropping the most negative ones raises these most.
    ``by="magnitude"``: of the inputs with ``c >= 0`` the largest weights; where a row has fewer than ``k_r`` of them,
    the least conflicting others fill it up. ``by="product"``: the largest c, whatever the weights.

    In few batches c is mostly noise: half of all inputs conflict by chance.

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.
        by: ``magnitude`` or ``product``.
        unit: gradients of length 1 in each batch; False: as they are, so that tasks with large losses decide.

    Raises:
        AccordError: for another word; when choosing, for fewer than two tasks.

    Example:
        >>> from accord.sparse.evidence import Evidence
        >>> seen = Evidence(("a", "b"), 1, {"unit product": torch.tensor([[[-0.3, 0.1, 0.2]]])})
        >>> target = Target("w", torch.tensor([[9.0, 2.0, -1.0]]), keep=1, evidence=seen)
        >>> [ConflictFree(k=1, by=by).choose([target], torch.Generator())["w"].tolist() for by in BY]
        [[[1]], [[2]]]
    """

    by: str = "magnitude"
    unit: bool = True

    name: ClassVar[str] = "ConflictFree"
    needs_evidence: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in BY:
            raise AccordError(f"by={self.by!r} is not known.{nearest(str(self.by), BY)}")

    @property
    def statistics(self) -> tuple[str, ...]:
        """See ``Rule.statistics``."""
        return ("unit product" if self.unit else "product",)

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Rule.choose``."""
        found = {}
        for target in targets:
            evidence = evidence_of(target)
            if len(evidence.tasks) < 2:
                raise AccordError(f"{self!r} compares tasks, and there is one only; take GPS or PSN.")
            score = evidence.mean(self.statistics[0])[0]  # (out, fan_in)
            if self.by == "magnitude":
                score = score.clamp(max=0)  # of equal scores, here the inputs without conflict, the largest weights
            found[target.name] = best_columns(score, target.matrix, target.keep)
        return found
