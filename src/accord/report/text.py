"""Numbers and names as text: short, exact, and harmless in whatever shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNDEFINED = "–"
SPACE = "\u00a0"  # no line break between a number and its unit


def number(value: float, digits: int = 3) -> str:
    """The number with so many significant digits; an en dash where it is undefined.

    Example:
        >>> number(1234.5), number(-0.01234), number(float("nan"))
        ('1234', '−0.0123', '–')
    """
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value) or value == 0:
        return "0" if value == 0 else ("∞" if value > 0 else "−∞")
    size = math.floor(math.log10(abs(value)))
    text = f"{value:.{digits - 1}e}" if not -4 <= size < 6 else f"{value:.{max(digits - 1 - size, 0)}f}"
    return text.replace("-", "−")


def fixed(value: float, decimals: int = 3, sign: bool = False) -> str:
    """The number with so many decimals, so that a column lines up.

    Example:
        >>> fixed(0.93456), fixed(-0.0004, 2, sign=True), fixed(0.5, 1, sign=True)
        ('0.935', '0.00', '+0.5')
    """
    if not math.isfinite(value):
        return number(value)
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    if float(text) == 0:  # neither "-0.00" nor "+0.00"
        text = text.lstrip("+-")
    return text.replace("-", "−")


def share(value: float) -> str:
    """A share in [0, 1] as a percentage; small shares keep one decimal.

    Example:
        >>> share(0.4321).replace(SPACE, " "), share(0.0321).replace(SPACE, " "), share(float("nan"))
        ('43 %', '3.2 %', '–')
    """
    if math.isnan(value):
        return UNDEFINED
    decimals = 0 if value == 0 or abs(value) >= 0.0995 else 1
    return f"{fixed(100 * value, decimals)}{SPACE}%"


def trimmed(value: float) -> str:
    """The number without needless zeros: ``0.25``, ``−1``."""
    return f"{value:g}".replace("-", "−")


def percent(value: float, decimals: int = 2, sign: bool = True) -> str:
    """A relative difference as a signed percentage: ``+1.25 %``."""
    return f"{fixed(100 * value, decimals, sign)}{SPACE}%" if math.isfinite(value) else number(value)


def listing(names: Sequence[str]) -> str:
    """Names as words: ``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def shorten(name: str, limit: int = 26) -> str:
    """The name, its middle cut out if it is longer than the limit.

    Example:
        >>> shorten("encoder.layers.11.attention.output.weight", 20)
        'encoder.la…ut.weight'
    """
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 2
    return f"{name[: limit - 1 - tail]}…{name[-tail:]}"


def log_ticks(low: float, high: float) -> list[float]:
    """Round places on a logarithmic axis: 1, 2 and 5 in each decade, or the decades alone if there are many.

    An axis that is too short for three of them gets places at even distances.

    Example:
        >>> log_ticks(0.4, 3.0), log_ticks(0.01, 1000.0), log_ticks(2.12, 2.33)
        ([0.5, 1.0, 2.0], [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0], [2.15, 2.2, 2.25, 2.3])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    digits = (1, 2, 5) if last - first <= 3 else (1,)
    every = [float(f"{digit}e{decade}") for decade in range(first, last + 1) for digit in digits]
    inside = [place for place in every if low * 0.999 <= place <= high * 1.001]
    if len(inside) > 2 or high <= low:
        return inside or [low]
    rough = (high - low) / 3
    decade = 10.0 ** math.floor(math.log10(rough))
    step = decade * max(digit for digit in (1, 2, 5) if digit * decade <= rough)
    return [float(f"{n * step:.6g}") for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def ticks(names: Sequence[str], limit: int = 22) -> list[str]:
    """Names for an axis: long ones lose their settings, their middle, their end or their beginning.

    The first of these forms is taken that keeps all names apart.

    Example:
        >>> ticks(["Sum()", "FAMO(lr=0.025, decay=0.001)"])
        ['Sum()', 'FAMO(…)']
        >>> ticks(["attribute_01_of_the_face", "attribute_02_of_the_face"], 14)
        ['attribute_01_…', 'attribute_02_…']
    """

    def brief(name: str) -> str:
        return shorten(f"{name.split('(')[0]}(…)" if "(" in name else name, limit)

    forms = (
        brief,
        lambda name: shorten(name, limit),
        lambda name: f"{name[: limit - 1]}…",
        lambda name: f"…{name[1 - limit :]}",
    )
    for form in forms:
        short = [form(name) if len(name) > limit else name for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)


def lines(name: str, width: int = 11) -> list[str]:
    """A name of several words broken into lines of about this width.

    Example:
        >>> lines("optimiser's step"), lines("left")
        (["optimiser's", 'step'], ['left'])
    """
    broken = [""]
    for word in name.split(" "):
        if broken[-1] and len(broken[-1]) + len(word) >= width:
            broken.append(word)
        else:
            broken[-1] = f"{broken[-1]} {word}".strip(" ")
    return broken


def whole(value: int) -> str:
    """A whole number with its thousands apart: ``61 706``, with spaces that do not break.

    Example:
        >>> whole(61706).replace(SPACE, " ")
        '61 706'
    """
    return f"{value:,}".replace(",", SPACE)


def times(count: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
