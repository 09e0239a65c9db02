"""The two simulated processes of the studies, and their cut into train, validation and test."""

from __future__ import annotations

import numpy as np

from accord.tpp.events import Splits
from accord.tpp.hawkes.process import HawkesProcess
from accord.tpp.hawkes.simulate import simulate

LARGE_END = 10.0  # windows of the published runs
RANDOM_END = 3.0


def hawkes_large() -> HawkesProcess:
    """Hawkes-large: five marks, fast self-excitation and slow mutual excitation; windows of `LARGE_END`.

    Source: Bosser and Ben Taieb, "Preventing Conflicting Gradients in Neural Marked Temporal Point Processes",
    https://arxiv.org/abs/2412.08590.

    Example:
        >>> hawkes_large()
        HawkesProcess(M=5, spectral radius 0.794)
    """
    adjacency, decay = np.full((5, 5), 0.13), np.full((5, 5), 0.5)
    np.fill_diagonal(adjacency, [0.25, 0.35, 0.2, 0.3, 0.25])
    np.fill_diagonal(decay, [4.1, 2.5, 6.2, 4.9, 4.1])
    return HawkesProcess(np.array([0.2, 0.6, 0.1, 0.7, 0.9]), adjacency, decay)


def hawkes_random(marks: int = 50, seed: int = 0) -> HawkesProcess:
    """Random parameters: base, adjacency ~ U(0, 1), decay ~ U(0, 10); windows of `RANDOM_END`.

    Adjacency is scaled down to a spectral radius of 0.99 where it is larger, which it is for all but a few marks.

    Args:
        marks: M.
        seed: of the parameters.

    Example:
        >>> hawkes_random()
        HawkesProcess(M=50, spectral radius 0.99)
    """
    rng = np.random.default_rng(seed)
    base, adjacency = rng.uniform(size=marks), rng.uniform(size=(marks, marks))
    radius = np.abs(np.linalg.eigvals(adjacency)).max()
    return HawkesProcess(base, adjacency * min(1.0, 0.99 / radius), rng.uniform(0.0, 10.0, (marks, marks)))


def hawkes_splits(
    process: HawkesProcess, end: float, seed: int = 0, sizes: tuple[int, int, int] = (6000, 2000, 2000)
) -> Splits:
    """Fresh sequences for train, validation and test, by default as many as in the published runs.

    Args:
        process: to draw from.
        end: of the window.
        seed: of the sequences.
        sizes: sequences of the three parts.

    Raises:
        TPPError: as `simulate`.

    Example:
        >>> parts = hawkes_splits(hawkes_large(), LARGE_END, sizes=(3, 2, 1))
        >>> len(parts.train), len(parts.validation), len(parts.test)
        (3, 2, 1)
    """
    events = simulate(process, sum(sizes), end, seed)
    return Splits(*(events.subset(part) for part in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])))
