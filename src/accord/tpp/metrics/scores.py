"""Proper scoring rules for marks, event by event and differentiable: logarithmic, Brier, spherical.

A rule is proper if no other prediction than the truth has a better expectation. They weigh errors differently: the
logarithmic score asks only for the probability of the mark that came and is unbounded, the other two see the whole
distribution and lie in a bounded range.
"""

from __future__ import annotations

from torch import Tensor


def log_score(log_p: Tensor, marks: Tensor) -> Tensor:
    """Logarithmic score ``-log p_k`` of the mark that came, in nats; lower is better.

    Args:
        log_p: (n, M) log probabilities.
        marks: (n,) true marks.

    Returns:
        (n,) float64 in [0, inf].

    Source:
        Gneiting & Raftery 2007, https://doi.org/10.1198/016214506000001437, section 4.

    Example:
        >>> log_score(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([0]))
        tensor([0.6931], dtype=torch.float64)
    """
    return -_own(log_p.double(), marks)


def brier(log_p: Tensor, marks: Tensor) -> Tensor:
    r"""Brier score :math:`\sum_k (p_k - 1\{k = k_i\})^2`; lower is better.

    Args:
        log_p: (n, M) log probabilities.
        marks: (n,) true marks.

    Returns:
        (n,) float64 in [0, 2].

    Source:
        Brier 1950, https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Example:
        >>> brier(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([0]))
        tensor([0.5000], dtype=torch.float64)
    """
    log_p = log_p.double()
    own = _own(log_p, marks).exp()  # (n,)
    # (1 - p)² - p² = 1 - 2p, but the former keeps digits of a sure prediction, whose score is nearly 0
    others = (2 * log_p).exp().scatter(1, marks.unsqueeze(1), 0.0).sum(1)  # (n,)
    return (1 - own).square() + others


def spherical(log_p: Tensor, marks: Tensor) -> Tensor:
    r"""Spherical score :math:`p_{k_i} / \sqrt{\sum_k p_k^2}`; **higher** is better.

    Args:
        log_p: (n, M) log probabilities.
        marks: (n,) true marks.

    Returns:
        (n,) float64 in [0, 1]; its negative is the loss.

    Source:
        Gneiting & Raftery 2007, https://doi.org/10.1198/016214506000001437, section 4.

    Example:
        >>> spherical(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([0]))
        tensor([0.7071], dtype=torch.float64)
    """
    log_p = log_p.double()
    return (_own(log_p, marks) - (2 * log_p).logsumexp(1) / 2).exp()


def _own(log_p: Tensor, marks: Tensor) -> Tensor:
    """(n,) log probability of the mark that came."""
    return log_p.gather(1, marks.unsqueeze(1)).squeeze(1)
