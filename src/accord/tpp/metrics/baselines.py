"""What does a mark model have to beat? Unigram, repeat-last and first-order Markov, fitted on train, smoothed.

Each baseline is one table: row j holds log p(k | previous mark j), row M holds log p(k) of a first event. All marks of
train are counted, also those of events whose likelihood does not count.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Integers


def unigram(train: Events) -> Tensor:
    """Every mark as often as in train, whatever was before: ``p(k) = (n_k + 1) / (E + M)``.

    Args:
        train: E events.

    Returns:
        (M + 1, M) float64, rows alike.

    Example:
        >>> unigram(Events.of([[1.0, 2.0, 3.0]], [[0, 1, 1]]))[0].exp().tolist()
        [0.4, 0.6]
    """
    return _smoothed(_counts(train).sum(0)).log().expand(len(train.marks) + 1, -1)


def repeat_last(train: Events) -> Tensor:
    r"""The previous mark again with one probability rho, else another one as often as in train.

    .. math:: p(k \mid j) = \rho \; (k = j), \qquad p(k \mid j) = (1 - \rho) \frac{p(k)}{1 - p(j)} \; (k \ne j), \qquad
              \rho = \frac{\mathrm{repeats} + 1}{\mathrm{pairs} + 2}

    with the unigram p(k), which also serves a first event. As a prediction this is the previous mark wherever rho
    exceeds the share of every other mark; as a likelihood it costs one number more than the unigram.

    Args:
        train: where repeats among pairs of successive events are counted.

    Returns:
        (M + 1, M) float64.

    Example:
        >>> repeat_last(Events.of([[1.0, 2.0, 3.0]], [[0, 1, 1]])).exp()[:2]
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]], dtype=torch.float64)
    """
    counts = _counts(train)  # (M + 1, M)
    pairs = counts[:-1]
    share = _smoothed(counts.sum(0))  # (M,)
    if len(share) == 1:
        return counts.new_zeros(2, 1)
    again = (pairs.diagonal().sum() + 1) / (pairs.sum() + 2)
    table = (1 - again) * share / (1 - share).unsqueeze(1)  # (M, M)
    table.fill_diagonal_(again.item())
    return torch.cat([table, share.unsqueeze(0)]).log()


def markov(train: Events) -> Tensor:
    """As often as in train behind the previous mark, ``p(k | j) = (n_jk + 1) / (n_j + M)``; first events likewise.

    Args:
        train: where pairs of successive marks, and first marks, are counted.

    Returns:
        (M + 1, M) float64.

    Example:
        >>> markov(Events.of([[1.0, 2.0, 3.0]], [[0, 1, 1]])).exp()
        tensor([[0.3333, 0.6667],
                [0.3333, 0.6667],
                [0.6667, 0.3333]], dtype=torch.float64)
    """
    return _smoothed(_counts(train)).log()


BASELINES = {"unigram": unigram, "repeat-last": repeat_last, "markov": markov}


def previous_marks(events: Events) -> Integers:
    """(E,) the mark before each event, M for the first event of a sequence.

    Example:
        >>> previous_marks(Events.of([[1.0, 2.0], [1.0]], [[0, 1], [1]])).tolist()
        [2, 0, 2]
    """
    before = np.empty_like(events.mark)
    before[1:] = events.mark[:-1]
    before[events.offsets[:-1][events.lengths > 0]] = len(events.marks)
    return before


def log_marks(table: Tensor, events: Events, rows: ArrayLike | None = None) -> Tensor:
    """What a baseline says about events.

    Args:
        table: (M + 1, M) of a baseline that was fitted on events with the same marks.
        events: to predict.
        rows: (n,) which of the E events, such as ``batch.source``; None: the scored ones, in order.

    Returns:
        (n, M) float64 log probabilities.

    Raises:
        TPPError: if the table has another number of marks.

    Example:
        >>> events = Events.of([[1.0, 2.0, 3.0]], [[0, 1, 1]], start=0.0)
        >>> log_marks(markov(events), events).exp()[0]
        tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    count = len(events.marks)
    if table.shape != (count + 1, count):
        raise TPPError(f"the baseline has shape {tuple(table.shape)}, the events {count} marks; fit it on such events.")
    chosen = np.flatnonzero(events.scored) if rows is None else np.asarray(rows)
    return table[torch.from_numpy(previous_marks(events)[chosen]).to(table.device)]


def _counts(train: Events) -> Tensor:
    """(M + 1, M) how often mark k came behind mark j, or (row M) first."""
    count = len(train.marks)
    found = np.bincount(previous_marks(train) * count + train.mark, minlength=(count + 1) * count)
    return torch.from_numpy(found).double().view(count + 1, count)


def _smoothed(counts: Tensor) -> Tensor:
    """(..., M) add-one shares."""
    return (counts + 1) / (counts.sum(-1, keepdim=True) + counts.shape[-1])
