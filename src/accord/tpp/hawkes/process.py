"""The multivariate Hawkes process with exponential kernels: a ground truth whose likelihood is known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Floats


@dataclass(frozen=True, eq=False)
class HawkesProcess:
    """Every event of mark j raises the intensity of mark i, and the rise decays exponentially.

    ``lambda_i(t) = base_i + sum_{events (s, j), s < t} adjacency_ij decay_ij exp(-decay_ij (t - s))``: ``adjacency_ij``
    is the expected number of events of mark i that one event of mark j causes directly. Any spectral radius is legal,
    because in a finite window the number of events is finite almost surely; at 1 and above it grows without bound
    with the window, and only `stationary_rate` refuses.

    Args:
        base: (M,) events per unit of time without any history, >= 0.
        adjacency: (M, M), effect of the column on the row, >= 0.
        decay: (M, M) per unit of time, > 0.

    Raises:
        TPPError: if shapes do not fit, or a number is out of its range.

    Source: Hawkes, "Spectra of some self-exciting and mutually exciting point processes", Biometrika 58 (1971),
    https://doi.org/10.1093/biomet/58.1.83.

    Example:
        >>> process = HawkesProcess([1.0, 0.5], [[0.5, 0.0], [0.25, 0.5]], [[2.0, 1.0], [1.0, 2.0]])
        >>> process.spectral_radius, process.stationary_rate().tolist()
        (0.5, [2.0, 2.0])
    """

    base: Floats
    adjacency: Floats
    decay: Floats

    def __post_init__(self) -> None:
        for name in ("base", "adjacency", "decay"):
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64))
        square = (self.base.size, self.base.size)
        if self.base.ndim != 1 or not self.base.size or {self.adjacency.shape, self.decay.shape} != {square}:
            raise TPPError(
                f"base {self.base.shape}, adjacency {self.adjacency.shape} and decay {self.decay.shape} do not fit; "
                "expected (M,), (M, M) and (M, M)."
            )
        for name, least in (("base", 0.0), ("adjacency", 0.0), ("decay", np.finfo(np.float64).tiny)):
            values = getattr(self, name)
            wrong = values[~((values >= least) & np.isfinite(values))]
            if wrong.size:
                sign = "> 0" if least else ">= 0"
                raise TPPError(f"{name} holds {wrong[0]}; expected finite numbers {sign}.")

    def __repr__(self) -> str:
        return f"HawkesProcess(M={self.base.size}, spectral radius {self.spectral_radius:.3g})"

    @property
    def spectral_radius(self) -> float:
        """Largest absolute eigenvalue of ``adjacency``; the process is stationary in the long run if it is below 1."""
        return float(np.abs(np.linalg.eigvals(self.adjacency)).max())

    def stationary_rate(self) -> Floats:
        """(M,) events per unit of time after a long time: ``(I - adjacency)^-1 base``.

        Raises:
            TPPError: if the spectral radius is 1 or more, for then the rates grow for ever.
        """
        if self.spectral_radius >= 1:
            raise TPPError(
                f"the spectral radius of adjacency is {self.spectral_radius:.3g}: rates grow for ever; "
                "expected less than 1, scale adjacency down."
            )
        return np.asarray(np.linalg.solve(np.eye(self.base.size) - self.adjacency, self.base), np.float64)
