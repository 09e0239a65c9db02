"""Every method on many random Gramians: no exception, nothing that is not finite, and the laws that it declares.

By default every method gets a sample, each Gramian with one of the method's laws in turn. The whole set, every law on
every Gramian, is a longer check in ten parts per method:

    python -m pytest -m slow tests/methods/test_many_gramians.py
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from test_conformance import ALONE, example
from torch import Tensor

from accord.errors import AccordError
from accord.methods import Method

import laws

logging.getLogger("accord").setLevel(logging.ERROR)

P = 60
SAMPLE, ALL, PARTS = 150, 10_000, 10
Draw = torch.Generator


def uniform(draw: Draw, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=draw, dtype=torch.float64))


def whole(draw: Draw, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=draw))


def normal(draw: Draw, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def beside(draw: Draw, columns: Tensor, count: int) -> Tensor:
    """(K, count) orthonormal columns that are orthogonal to the given orthonormal ones."""
    basis = torch.linalg.qr(torch.cat([columns, normal(draw, len(columns), count)], 1)).Q  # (K, ...)
    return basis[:, columns.shape[1] :]


def spectral(draw: Draw, left: Tensor) -> Tensor:
    """``U S Vᵀ`` with the columns of U given, |normal| singular values and a random V."""
    values = normal(draw, left.shape[1]).abs()
    return left * values @ beside(draw, torch.zeros(P, 0, dtype=torch.float64), left.shape[1]).T


def positive(draw: Draw, k: int) -> Tensor:
    """A positive unit vector."""
    vector = normal(draw, k).abs() + 1e-3
    return vector / vector.norm()


def gaussian(draw: Draw, k: int) -> Tensor:
    return normal(draw, k, P)


def negative(draw: Draw, k: int) -> Tensor:
    rows = normal(draw, k, P)
    return rows - (1 - 10 ** uniform(draw, -4, 0)) * rows.mean(0)


def agreeing(draw: Draw, k: int) -> Tensor:
    return normal(draw, k, P).abs()


def deficient(draw: Draw, k: int) -> Tensor:
    rank = whole(draw, 1, k)
    return normal(draw, k, rank) @ normal(draw, rank, P)


def any_rank(draw: Draw, k: int) -> Tensor:
    return spectral(draw, beside(draw, torch.zeros(k, 0, dtype=torch.float64), whole(draw, 1, k)))


def strong(draw: Draw, k: int) -> Tensor:
    """The columns of U are orthogonal to a positive vector, so that combination of the rows is zero."""
    return spectral(draw, beside(draw, positive(draw, k)[:, None], whole(draw, 1, k - 1)))


def weak(draw: Draw, k: int) -> Tensor:
    """Orthogonal to a non-negative vector; a column of U that is positive where that one is zero."""
    vector, split = positive(draw, k), whole(draw, 1, k - 1)
    parts = torch.zeros(k, 2, dtype=torch.float64)
    parts[:split, 0], parts[split:, 1] = vector[:split], vector[split:]
    parts = parts / parts.norm(dim=0)
    return spectral(draw, torch.cat([parts[:, 1:], beside(draw, parts, whole(draw, 0, max(k - 2, 0)))], 1))


def not_stationary(draw: Draw, k: int) -> Tensor:
    """A positive column of U: every ``w ≥ 0`` leaves something along its right vector."""
    first = positive(draw, k)[:, None]
    return spectral(draw, torch.cat([first, beside(draw, first, whole(draw, 0, k - 1))], 1))


def near_opposite(draw: Draw, k: int) -> Tensor:
    """Pairs that are opposite up to an angle between 1e-8 and 1e-3."""
    rows = normal(draw, k, P)
    for i in range(0, 2 * whole(draw, 1, k // 2), 2):
        rows[i + 1] = -rows[i] + 10 ** uniform(draw, -8, -3) * normal(draw, P)
    return rows


def opposite(draw: Draw, k: int) -> Tensor:
    rows = normal(draw, k, P)
    rows[1] = -uniform(draw, 0.1, 10) * rows[0]
    return rows


def parallel(draw: Draw, k: int) -> Tensor:
    return (normal(draw, k, 1).abs() + 0.1) * normal(draw, 1, P)


def near_parallel(draw: Draw, k: int) -> Tensor:
    """One direction, up to angles between 1e-8 and 1e-3."""
    return normal(draw, 1, P) + 10 ** uniform(draw, -8, -3) * normal(draw, k, P)


def nearly_stationary(draw: Draw, k: int) -> Tensor:
    """A positive combination of the rows is shorter than they by a factor between 1e-8 and 1e-1."""
    vector, rows = positive(draw, k), normal(draw, k, P)
    return rows - (1 - 10 ** uniform(draw, -8, -1)) * vector[:, None] * (vector @ rows)


def zero_rows(draw: Draw, k: int) -> Tensor:
    rows = negative(draw, k)
    rows[torch.rand(k, generator=draw) < 0.3] = 0
    rows[whole(draw, 0, k - 1)] = normal(draw, P)
    return rows


def integers(draw: Draw, k: int) -> Tensor:
    """Ties, equal, opposite and dependent rows, exactly."""
    rows = torch.randint(-2, 3, (k, whole(draw, 1, 6)), generator=draw).to(torch.float64)
    rows[0, 0] += 3
    return rows


FULL_RANK = (gaussian, negative, agreeing)
NON_NEGATIVE = (agreeing, parallel, near_parallel)
FAMILIES: tuple[Callable[[Draw, int], Tensor], ...] = (
    *FULL_RANK,
    deficient,
    any_rank,
    strong,
    weak,
    not_stationary,
    near_opposite,
    opposite,
    parallel,
    near_parallel,
    nearly_stationary,
    zero_rows,
    integers,
)


@functools.lru_cache(maxsize=SAMPLE)
def build(number: int) -> tuple[Callable[[Draw, int], Tensor], float, Tensor]:
    """The family, the ratio of norms that it is multiplied with, and the rows (K, P) of Gramian `number`."""
    draw = torch.Generator().manual_seed(number)
    family = FAMILIES[number % len(FAMILIES)]
    k = whole(draw, 2, (5, 12, 40)[whole(draw, 0, 2)])
    ratio = 10 ** (whole(draw, 0, 1) * uniform(draw, 0, 6))
    factors = torch.logspace(0, -1, k, base=ratio, dtype=torch.float64)[torch.randperm(k, generator=draw)]
    return family, ratio, 10 ** uniform(draw, -12, 12) * factors[:, None] * family(draw, k)


def has_digits(rows: Tensor, scaled: bool) -> bool:
    """Whether the smallest eigenvalue that is not zero is at least 1e-8 of the largest."""
    rows = rows[rows.norm(dim=1) > 0]
    values = torch.linalg.svdvals(rows / rows.norm(dim=1, keepdim=True) if scaled else rows) ** 2
    return float(values[values > 1e-14 * values[0]].min()) >= 1e-8 * float(values[0])


def speaking(cls: type[Method], family: Callable[[Draw, int], Tensor], ratio: float, rows: Tensor) -> Iterator[str]:
    """The declared laws that say something about this Gramian."""
    # An inverse multiplies the rounding of the Gramian by its condition, and with it the difference of two directions.
    inverts = {"IMTLG": True, "IMTL": True, "ConFIG": True, "AlignedMTL": False}
    if cls.__name__ in inverts and not has_digits(rows, scaled=inverts[cls.__name__]):
        return
    holds = {
        "NC": True,
        "NC-full-rank": family in FULL_RANK,
        "PE": True,
        "PE-mild": ratio <= 1e3,
        "H0": True,
        "H1": True,
        "RS": family in NON_NEGATIVE,
    }
    yield from (name for name in sorted(cls.laws) if holds.get(name, False))


def verify(cls: type[Method], number: int, every: bool) -> None:
    """One of the laws in turn, or all of them and a look at the direction itself."""
    family, ratio, rows = build(number)
    k = len(rows)
    names = list(speaking(cls, family, ratio, rows))
    try:
        for name in names if every or not names else [names[number // len(FAMILIES) % len(names)]]:
            laws.LAWS[name][0].check(example(cls, k), rows)
        if every or not names:
            d, size = laws.direction(example(cls, k), rows, laws.losses_of(k))
            assert bool(torch.isfinite(d).all())
            assert math.isfinite(size)
    except AccordError:
        if int((rows != 0).any(1).sum()) > 2:  # a method may refuse two tasks, in words
            raise
    except Exception as error:
        error.add_note(f"{cls.__name__} on Gramian {number}: {family.__name__}, K={k}, ratio {ratio:.1e}")
        raise


@pytest.mark.parametrize("cls", ALONE)
def test_sample(cls):
    for number in range(SAMPLE):
        verify(cls, number, every=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("cls", ALONE)
def test_all(cls, part):
    for number in range(part, ALL, PARTS):
        verify(cls, number, every=True)
