"""An answer with its reason, and the fit that it rests on.

``y_t = mean + slope (t - t̄) + noise``, by least squares. Letters: `T` points of a curve, `n` of its last part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError

Array = NDArray[np.float64]
Word = Literal["yes", "no", "cannot tell"]

LAST = 0.5  # of the curve
LEAST = 8  # points in the last part: a line through fewer says little about its own error
SURE = 2.5  # standard errors; Student's t of 95 % for LEAST points and two fitted numbers is 2.45


@dataclass(frozen=True)
class Answer:
    """An answer to a question about a curve, and the numbers that it rests on.

    Args:
        word: ``yes``, ``no``, or ``cannot tell``: too short a curve, a value that is no number, or noise that hides it.
        found: what was found, a sentence.

    Example:
        >>> bool(Answer("yes", "gap 0.5")), bool(Answer("cannot tell", "3 points"))
        (True, False)
    """

    word: Word
    found: str

    def __bool__(self) -> bool:
        return self.word == "yes"


@dataclass(frozen=True)
class Line:
    """A straight line through the last part of a curve, with the standard errors of independent noise.

    Args:
        mean: its height in the middle.
        mean_error: standard error of that.
        rise: what it rises from the first to the last point.
        rise_error: standard error of that.

    Example:
        >>> line = Line.through(np.array([1.0, 2.0, 3.0, 4.0]))
        >>> line.mean, line.rise, round(line.rise_error, 9)
        (2.5, 3.0, 0.0)
    """

    mean: float
    mean_error: float
    rise: float
    rise_error: float

    @classmethod
    def through(cls, values: Array) -> Line:
        """The line of least squares through (n,) values, n at least 3."""
        n = len(values)
        time = np.arange(n) - (n - 1) / 2  # (n,), mean 0
        spread = float((time**2).sum())
        mean, slope = float(values.mean()), float(time @ values) / spread
        noise = float(np.sqrt(((values - mean - slope * time) ** 2).sum() / (n - 2)))
        return cls(mean, noise / n**0.5, slope * (n - 1), noise * (n - 1) / spread**0.5)


def compare(difference: float, error: float, sure: float) -> Word:
    """Whether a difference is surely not below 0, surely below, or hidden by its error."""
    if abs(difference) < sure * error:
        return "cannot tell"
    return "yes" if difference >= 0 else "no"


def plain(values: Any) -> Any:
    """Tensors as float64 arrays, from any device and graph; anything else as it is."""
    return values.detach().cpu().double().numpy() if hasattr(values, "detach") else values


def curve(values: Any) -> Array:
    """(T,) a curve as float64.

    Raises:
        AccordError: for another shape.
    """
    out = np.asarray(plain(values), dtype=np.float64)
    if out.ndim != 1:
        raise AccordError(f"curves: a curve of shape {out.shape}, expected (T,); give one task and one run at a time.")
    return out


def difference(train: Any, validation: Any) -> Array:
    """(T,) validation minus training loss.

    Raises:
        AccordError: for curves of unlike lengths.
    """
    one, other = curve(train), curve(validation)
    if len(one) != len(other):
        raise AccordError(
            f"curves: {len(one)} training and {len(other)} validation losses; give them at the same steps."
        )
    return other - one


def ending(values: Array, last: float) -> Array:
    """(n,) the last part of a curve, rounded up to whole points.

    Raises:
        AccordError: for a part outside (0, 1].
    """
    if not 0 < last <= 1:
        raise AccordError(f"curves: last={last}, expected a part in (0, 1].")
    return values[len(values) - int(np.ceil(last * len(values) - 1e-9)) :]


def unknown(part: Array, least: int, sure: float) -> Answer | None:
    """Why a part of a curve (n,) gives no answer; None if it does.

    Raises:
        AccordError: for settings out of range.
    """
    if least < 3 or sure < 0:
        raise AccordError(f"curves: least={least}, sure={sure}; expected at least 3 points and 0 standard errors.")
    if len(part) < least:
        return Answer("cannot tell", f"{len(part)} points in the last part of the curve; at least {least} are needed")
    if missing := int((~np.isfinite(part)).sum()):
        return Answer("cannot tell", f"{missing} of the last {len(part)} values are no finite number")
    return None
