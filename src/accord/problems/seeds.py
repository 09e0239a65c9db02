"""Independent streams of random numbers from one seed, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def number(seed: int, *path: str | int) -> int:
    """A 63-bit number that depends on nothing but the seed and the path.

    Args:
        seed: of the run.
        path: what the numbers are for, such as ``"order", epoch``.

    Example:
        >>> number(0, "order", 1) == number(0, "order", 1) != number(0, "order", 2)
        True
    """
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """A CPU generator seeded with ``number(seed, *path)``.

    Example:
        >>> bool((torch.rand(2, generator=generator(0, "a")) == torch.rand(2, generator=generator(0, "a"))).all())
        True
    """
    return torch.Generator().manual_seed(number(seed, *path))


@contextmanager
def seeded(seed: int, *path: str | int) -> Iterator[None]:
    """PyTorch's global generator is seeded inside, and as before outside: for initial parameters.

    Example:
        >>> with seeded(0, "model"):
        ...     first = torch.nn.Linear(1, 1)
        >>> with seeded(0, "model"):
        ...     bool(torch.nn.Linear(1, 1).weight == first.weight)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number(seed, *path))
        yield
