"""Questions about the learning curves of one task."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from accord.curves.answer import LAST, LEAST, SURE, Answer, Line, compare, curve, difference, ending, plain, unknown
from accord.errors import AccordError

MARGIN = 0.3  # nat between validation and training loss
WITHIN = 0.1  # of the chance level
ROUNDING = 1e-9  # of the values: a rise below it is none


def chance_level(targets: Any, loss: Literal["cross-entropy", "squared error"] = "cross-entropy") -> float:
    """The mean loss of the best answer that does not look at the input.

    Cross-entropy: ``-Σ_c p_c ln p_c`` of the label frequencies, in nat: ``ln C`` for C equally frequent classes.
    Squared error: the variance of the targets, summed over the outputs of one example divided by their number.

    Args:
        targets: (N,) labels, or (N, ...) numbers, of the part that the loss is measured on.
        loss: which loss.

    Returns:
        The chance level.

    Raises:
        AccordError: for no targets, values that are no number, or another loss.

    Example:
        >>> round(chance_level([0, 1, 0, 1]), 4), chance_level([1.0, 3.0], "squared error")
        (0.6931, 1.0)
    """
    values = np.asarray(plain(targets))
    if values.size == 0 or values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise AccordError(
            f"chance_level: {values.size} targets of type {values.dtype}, expected at least one, all of them finite "
            "numbers; give labels as integers."
        )
    if loss == "cross-entropy":
        if values.ndim != 1:
            raise AccordError(
                f"chance_level: labels of shape {values.shape}, expected (N,); give one column at a time."
            )
        share = np.unique(values, return_counts=True)[1] / values.size  # (C,)
        return float(-(share * np.log(share)).sum() + 0.0)  # + 0.0: a single class has 0, not -0
    if loss == "squared error":
        return float(values.astype(np.float64).var(axis=0).mean())
    raise AccordError(f"chance_level: loss={loss!r}, expected 'cross-entropy' or 'squared error'.")


def gap(train: Any, validation: Any, *, last: float = LAST) -> float:
    """Generalisation gap: the mean of ``validation - train`` over the last part of the curves.

    Args:
        train: (T,) losses on the training part.
        validation: (T,) losses on the validation part, at the same steps.
        last: which part of the curve counts.

    Returns:
        The gap, in the unit of the loss; NaN if any value of the last part is.

    Example:
        >>> gap([2.0, 1.0, 1.0], [2.0, 1.5, 2.0], last=0.6)
        0.75
    """
    part = ending(difference(train, validation), last)  # (n,)
    return float(part.mean()) if len(part) else np.nan


def overfitting(
    train: Any,
    validation: Any,
    *,
    margin: float = MARGIN,
    rising: bool = True,
    last: float = LAST,
    least: int = LEAST,
    sure: float = SURE,
) -> Answer:
    """Whether the gap between validation and training loss is wide and still rising.

    A line is fitted to the gap over the last part of the curve. ``yes``: its mean lies above ``margin`` and its slope
    above 0, each by ``sure`` standard errors of the fit; ``no``: the mean lies below by as much, or no rise is seen;
    ``cannot tell``: the noise hides the mean. Single noisy points do not decide. The standard errors are those of
    independent noise: give points some way apart rather than every step.

    Args:
        train: (T,) losses on the training part.
        validation: (T,) losses on the validation part, at the same steps.
        margin: how wide the gap has to be, in the unit of the loss; 0.3 is meant for cross-entropy in nat.
        rising: False asks for the width alone: a gap at rest counts.
        last: which part of the curve counts.
        least: how many points that part must have.
        sure: standard errors.

    Returns:
        The Answer.

    Raises:
        AccordError: for curves of unlike lengths, or settings out of range.

    Source:
        Accord's own definition.

    Example:
        >>> train, validation = [2.0 * 0.8**t for t in range(20)], [1.0 + 0.05 * t for t in range(20)]
        >>> overfitting(train, validation).word, overfitting(train, train).word, overfitting([1.0], [2.0]).word
        ('yes', 'no', 'cannot tell')
    """
    part = ending(difference(train, validation), last)  # (n,)
    if (silent := unknown(part, least, sure)) is not None:
        return silent
    line = Line.through(part)
    found = f"gap {line.mean:.3g}, its trend over the last {len(part)} points {line.rise:+.2g}"
    wide = compare(line.mean - margin, line.mean_error, sure)
    # a rise is only claimed if it is sure; a gap that may stand still is not rising
    grows = line.rise > sure * line.rise_error and line.rise > ROUNDING * float(np.abs(part).max())
    if wide == "no" or (rising and not grows):
        return Answer("no", f"{found}; expected a gap above {margin:g}{' that rises' if rising else ''}")
    return Answer(wide, found)


def underfitting(
    train: Any,
    chance: float,
    *,
    within: float = WITHIN,
    last: float = LAST,
    least: int = LEAST,
    sure: float = SURE,
) -> Answer:
    """Whether the training loss ends near chance: ``mean(train) >= (1 - within) chance`` over the last part.

    Args:
        train: (T,) losses on the training part.
        chance: level of the best constant answer, see ``chance_level``; positive.
        within: how near, as a share of it. A loss above chance counts.
        last: which part of the curve counts.
        least: how many points that part must have.
        sure: standard errors of the mean that must lie between it and the limit.

    Returns:
        The Answer. A loss on its way down, that is not there yet, may be ``yes``: then the run was too short.

    Raises:
        AccordError: for a chance level that is not positive, or settings out of range.

    Source:
        Accord's own definition.

    Example:
        >>> underfitting([2.31, 2.30, 2.31] * 6, chance=2.3026).word, underfitting([0.5] * 18, chance=2.3026).word
        ('yes', 'no')
    """
    limit = _limit(chance, within)
    part = ending(curve(train), last)  # (n,)
    if (silent := unknown(part, least, sure)) is not None:
        return silent
    line = Line.through(part)
    found = f"training loss {line.mean:.4g}, chance {chance:.4g}, limit {limit:.4g}"
    return Answer(compare(line.mean - limit, line.mean_error, sure), found)


def stuck(
    train: Any,
    chance: float,
    *,
    within: float = WITHIN,
    parts: int = 3,
    least: int = LEAST,
    sure: float = SURE,
) -> Answer:
    """Whether the training loss never left chance: every third of the curve is near it, not only the last part.

    A task that learned and was undone later underfits, but is not stuck.

    Args:
        train: (T,) losses on the training part.
        chance: level of the best constant answer, see ``chance_level``; positive.
        within: how near, as in ``underfitting``.
        parts: into how many parts the curve is cut.
        least: how many points each part must have.
        sure: as in ``underfitting``.

    Returns:
        The Answer: ``yes`` if all parts say so, ``no`` if one surely does not.

    Raises:
        AccordError: for a chance level that is not positive, or settings out of range.

    Source:
        Accord's own definition.

    Example:
        >>> forgotten = [2.3] * 8 + [0.5] * 8 + [2.3] * 8
        >>> stuck(forgotten, 2.3026).word, stuck([2.3] * 24, 2.3026).word
        ('no', 'yes')
    """
    if parts < 1:
        raise AccordError(f"curves: parts={parts}, expected at least 1.")
    _limit(chance, within)
    answers = [
        underfitting(piece, chance, within=within, last=1.0, least=least, sure=sure)
        for piece in np.array_split(curve(train), parts)
    ]
    for word in ("no", "cannot tell"):
        for number, answer in enumerate(answers, 1):
            if answer.word == word:
                return Answer(answer.word, f"part {number} of {parts}: {answer.found}")
    return Answer("yes", f"all {parts} parts near chance; the last: {answers[-1].found}")


def relative(losses: Any, single: Any, *, last: float = LAST) -> float:
    """A loss over that of the same task trained alone: ratio of the means over the last parts.

    Args:
        losses: (T,) losses of the task among others.
        single: (T',) losses of the task alone, on the same part of the data.
        last: which part of each curve counts.

    Returns:
        1 where the others cost nothing; NaN for undefined values or a single-task loss that is not positive.

    Example:
        >>> relative([3.0, 2.0, 2.0], [3.0, 1.0, 1.0])
        2.0
    """
    own, alone = ending(curve(losses), last), ending(curve(single), last)
    if not len(own) or not len(alone) or not alone.mean() > 0:
        return np.nan
    return float(own.mean() / alone.mean())


def _limit(chance: float, within: float) -> float:
    if not (np.isfinite(chance) and chance > 0 and 0 <= within < 1):
        raise AccordError(f"curves: chance={chance}, within={within}; expected a positive level and a share in [0, 1).")
    return chance * (1 - within)
