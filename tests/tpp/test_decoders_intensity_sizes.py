"""Numbers of parameters of THP, SAHP and FNN: the published totals are those of an encoder, a decoder and a head."""

import pytest
import torch

from accord.tpp.decoders.fnn import FNN
from accord.tpp.decoders.intensities import Intensities
from accord.tpp.decoders.sahp import SAHP
from accord.tpp.decoders.thp import THP


def size(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def encoder_size(marks: int, rnn: int, mid: int, dim: int, emb: int = 8) -> int:
    return emb * marks + 3 * rnn * (emb + rnn) + 6 * rnn + rnn * mid + mid + mid * dim + dim


def head_size(dim: int, hidden: int, marks: int) -> int:
    return (dim + 1) * hidden + hidden + hidden * marks + marks


# Section 7 of the specification: (rnn, mid, D), totals for M = 50, 22 and 8.
BASE = {
    "thp": (36, 32, 96, None, (14720, 11696, 10184)),
    "sahp": (46, 32, 32, None, (15588, 12620, 11136)),
    "fnn": (42, 32, 63, 46, (15939, 14343, 13545)),
}
COPIES = {
    "thp": (42, 32, 48, None, (15112, 11976, 10408)),
    "sahp": (46, 36, 16, None, (15412, 12388, 10876)),
    "fnn": (44, 36, 35, 30, (16083, 14011, 12975)),
}
PLUS = {
    "thp": (42, 32, 32, None, (14786, 11566, 10544)),
    "sahp": (46, 32, 16, None, (15210, 12438, 11640)),
    "fnn": (42, 32, 63, 26, (16086, 15106, 14616)),
}


def made(name: str, dim: int, units: int, fnn: int | None, ground: bool = False) -> Intensities:
    if name == "fnn":
        return FNN(dim, units, fnn, ground=ground)
    return {"thp": THP, "sahp": SAHP}[name](dim, units)


@pytest.mark.parametrize("name", ["thp", "sahp", "fnn"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_numbers_of_parameters(name, column):
    marks = (50, 22, 8)[column]
    for copies, table in ((1, BASE), (2, COPIES)):
        rnn, mid, dim, fnn, totals = table[name]
        decoder = [made(name, dim, marks, fnn) for _ in range(copies)]
        assert size(*decoder) + encoder_size(marks, rnn, mid, dim) == totals[column]
    rnn, mid, dim, fnn, totals = PLUS[name]
    decoder = size(made(name, dim, 32, fnn, ground=True)) + head_size(dim, fnn or marks, marks)
    assert decoder + encoder_size(marks, rnn, mid, dim) == totals[column]
