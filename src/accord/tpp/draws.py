"""Draws: random numbers that depend on their key alone, so that sequences sampled together do not touch each other.

A generator with one state would give a sequence other numbers as soon as the sequences beside it need more or fewer.
Here every sequence has a key, every event of it a key made from that one, and every number is a function of such a key
and a count. The function is the output step of SplitMix64; all is (N,) integer arithmetic on the model's device.

Source: Steele, Lea & Flood 2014, https://doi.org/10.1145/2660193.2660195.
"""

from __future__ import annotations

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
WORD = 1 << 64


def streams(seed: int, numbers: Tensor) -> Tensor:
    """Keys of independent streams.

    Args:
        seed: any whole number.
        numbers: (N,) int64, which streams.

    Returns:
        (N,) int64.
    """
    return _mixed(_mixed(torch.full_like(numbers, _signed(seed))) + _mixed(numbers))


def child(keys: Tensor, number: int) -> Tensor:
    """(N,) keys made from others; as good as independent for different numbers."""
    return _mixed(keys + _signed(GOLDEN * (number + 1)))


def uniform(keys: Tensor, number: int) -> Tensor:
    """(N,) float64, uniform on (0, 1): the draw with this number of each stream.

    Args:
        keys: (N,) of ``streams`` or ``child``; take either numbers or children from a key, not both.
        number: 0, 1, 2, ...

    Example:
        >>> keys = streams(0, torch.arange(1000))
        >>> bool((uniform(keys, 0)[5:6] == uniform(keys[5:6], 0)).all()), round(uniform(keys, 1).mean().item(), 1)
        (True, 0.5)
    """
    bits = _shifted(child(keys, number), 11)  # 53 of them
    return (bits.double() + 0.5) * 2.0**-53


def _mixed(x: Tensor) -> Tensor:
    """The output step of SplitMix64; products wrap around."""
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left: int64 would fill up with its sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    """The int64 with the lowest 64 bits of a number."""
    value %= WORD
    return value - WORD if value >= WORD // 2 else value
