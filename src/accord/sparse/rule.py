"""Rule: from weights to the places that are trained."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from accord.sparse.budget import Budget
from accord.sparse.selection import Selection

if TYPE_CHECKING:
    from accord.sparse.evidence import Evidence


@dataclass(frozen=True, eq=False)
class Target:
    """One weight of which some scalars will be trained, seen as a matrix with a row for each output unit.

    Args:
        name: of the parameter.
        matrix: (out, fan_in) its values; without memory (device ``meta``) where only shapes are asked for.
        keep: the budget of each row, from 1 to ``fan_in``.
        block: the transformer or residual block that it belongs to; "" if none.
        kind: ``linear``, ``conv`` or ``other``.
        taps: how many neighbouring columns belong to one input channel: the places of a kernel; else 1.
        evidence: what the tasks' gradients say about it, in the same form as ``matrix``; None without data.
    """

    name: str
    matrix: Tensor
    keep: int
    block: str = ""
    kind: str = "linear"
    taps: int = 1
    evidence: Evidence | None = None


class Rule(ABC):
    """How the trained scalars are chosen, as a frozen dataclass whose ``repr`` is its spelling: ``PSN(k=300)``.

    Attributes:
        name: the class's name in spellings.
        needs_evidence: whether ``Target.evidence`` has to be there.
        trains_weights: False where no weight is trained, and only what is trained whole remains.
        everywhere: whether all weights compete for one total; then also those that the budget would train whole are
            targets. Otherwise these are left out, and trained whole.
    """

    name: ClassVar[str]
    needs_evidence: ClassVar[bool] = False
    trains_weights: ClassVar[bool] = True
    everywhere: ClassVar[bool] = False

    @property
    def budget(self) -> Budget:
        """Of rows; from the fields ``k``, ``density`` and ``layers`` where there are such."""
        return Budget(getattr(self, "k", None), getattr(self, "density", None), getattr(self, "layers", {}))

    @property
    def statistics(self) -> tuple[str, ...]:
        """What has to be collected about the tasks' gradients; see ``accord.sparse.evidence.STATISTICS``."""
        return ()

    @abstractmethod
    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> Mapping[str, Tensor | Selection]:
        """The places of each target, by name.

        Args:
            targets: all weights in question.
            generator: the only source of random numbers; on the CPU, so that devices agree.

        Returns:
            Columns (out, keep), int64, ascending in each row; or a ``Selection`` in coordinates of the matrix.
        """

    def size(self, target: Target) -> int:
        """How many scalars of a target are trained, from shapes alone; under ``everywhere`` only the sum counts."""
        return len(target.matrix) * target.keep

    def __repr__(self) -> str:
        fields = [f for f in dataclasses.fields(self) if getattr(self, f.name) != _default(f)]  # type: ignore[arg-type]
        return f"{self.name}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields)})"


@dataclass(frozen=True, repr=False)
class Budgeted(Rule):
    """A rule with a budget.

    Args:
        k: inputs per row.
        density: share of the inputs of each row. Neither: 0.3 of pre-trained weights, 0.6 from scratch.
        layers: by pattern, a ``k`` or a density of its own; see ``Budget``.
    """

    k: int | None = None
    density: float | None = None
    layers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self.budget  # it checks itself


def _default(of: dataclasses.Field[object]) -> object:
    return of.default_factory() if of.default_factory is not dataclasses.MISSING else of.default
