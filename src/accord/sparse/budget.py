"""Budgets: how many inputs of every row are trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral

from accord.errors import AccordError
from accord.sparse import patterns


@dataclass(frozen=True)
class Budget:
    """Inputs per row: ``k_r = min(k, fan_in)``, or ``k_r = max(1, round(density * fan_in))``, or by layer.

    Args:
        k: so many in every row.
        density: this share of every row. Neither: the default of the regime.
        layers: by pattern (see ``accord.sparse.patterns``), a whole number (a ``k``) or a share (a ``density``) for
            the weights that it names; the first pattern that matches counts, and the rest have ``k`` or ``density``.

    Raises:
        AccordError: for anything that is no budget.

    Example:
        >>> Budget(k=300, layers={"fc2": 0.5}).keeps({"fc1.weight": 768, "fc2.weight": 3072}, default=0.3)
        {'fc1.weight': 300, 'fc2.weight': 1536}
    """

    k: int | None = None
    density: float | None = None
    layers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.k is not None and self.density is not None:
            raise AccordError(f"k={self.k!r} and density={self.density!r} are two budgets; give one of them.")
        if self.k is not None:
            _check_k(self.k, "k")
        if self.density is not None:
            _check_density(self.density, "density")
        if not isinstance(self.layers, Mapping):
            raise AccordError(f"layers={self.layers!r} is no mapping; write layers={{'fc2': 100}}.")
        for pattern, said in self.layers.items():
            check = _check_k if isinstance(said, Integral) else _check_density
            check(said, f"layers[{pattern!r}]")

    def keeps(self, fan_ins: Mapping[str, int], default: float) -> dict[str, int]:
        """``k_r`` for each weight, the same for all its rows.

        Args:
            fan_ins: inputs of a row, by the parameter's name.
            default: the density where nothing else is said.

        Raises:
            AccordError: if ``k`` exceeds every fan-in that it is for, or a pattern names nothing.
        """
        patterns.check(self.layers, fan_ins, "layers")
        rest = self.k if self.k is not None else self.density if self.density is not None else default
        said = {name: self._said(name, rest) for name in fan_ins}
        for k in {s for s in said.values() if isinstance(s, Integral)}:
            largest = max(fan_ins[name] for name in fan_ins if said[name] == k)
            if k > largest:
                raise AccordError(
                    f"k={k} is above every fan-in (the largest is {largest}), which trains these weights whole. "
                    "Take a smaller k, or ask for that with density=1.0."
                )
        return {name: keep(said[name], fan_in) for name, fan_in in fan_ins.items()}

    def _said(self, name: str, rest: float) -> float:
        found = patterns.first(self.layers, [name])
        return rest if found is None else found


def keep(said: float, fan_in: int) -> int:
    """``k_r`` of one row: from a ``k`` if a whole number is said, else from a density.

    Example:
        >>> keep(300, 768), keep(300, 27), keep(0.3, 768), keep(0.001, 27)
        (300, 27, 230, 1)
    """
    if isinstance(said, Integral):
        return min(int(said), fan_in)
    return min(fan_in, max(1, round(said * fan_in)))


def _check_k(k: object, name: str) -> None:
    if isinstance(k, bool) or not isinstance(k, Integral):
        raise AccordError(f"{name}={k!r} is no whole number; it counts the inputs of a row that are trained.")
    if k < 1:
        raise AccordError(f"{name}={k} trains nothing; it must be at least 1. To train biases alone, take BitFit().")


def _check_density(density: object, name: str) -> None:
    if isinstance(density, bool) or not isinstance(density, int | float) or not math.isfinite(density):
        raise AccordError(f"{name}={density!r} is no number; it is the share of each row that is trained.")
    if not 0 < density <= 1:
        raise AccordError(f"{name}={density} is outside (0, 1]; it is the share of each row that is trained.")
