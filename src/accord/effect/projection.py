"""Projections of whole gradients, and of the step that the optimiser made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from accord.balancer import Balancer
from accord.engines import Engine, Starter
from accord.errors import AccordError
from accord.linalg.nnls import nnls_one
from accord.linalg.scaling import regularised, scaled
from accord.step import Step

When = Literal["conflict", "always"]


def project(gradient: Sequence[Tensor], onto: Sequence[Tensor], when: When = "conflict") -> list[Tensor]:
    r"""A gradient without its part along another one: ``g_1 − ⟨g_1, g_2⟩ / ⟨g_2, g_2⟩ g_2``.

    The result lies in the plane across ``g_2``. Without a condition this throws help away as well as hindrance: what
    ``g_1`` would have done *for* the other task is gone, too.

    Args:
        gradient: one tensor per parameter.
        onto: the gradient whose direction is removed, tensors of the same shapes.
        when: ``conflict``: only if the inner product is negative (PCGrad, A-GEM); ``always``: in any case.

    Returns:
        Fresh tensors. A zero or not finite ``onto`` removes nothing.

    Raises:
        AccordError: for another word, or tensors that do not fit.

    Source: Yu et al. 2020 (PCGrad), https://arxiv.org/abs/2001.06782, algorithm 1 (with the condition).

    Example:
        >>> [g.tolist() for g in project([torch.tensor([1.0, 1.0])], [torch.tensor([-2.0, 0.0])])]
        [[0.0, 1.0]]
        >>> helpful = [torch.tensor([2.0, 0.0])]
        >>> [g.tolist() for g in project([torch.tensor([1.0, 1.0])], helpful)]
        [[1.0, 1.0]]
        >>> [g.tolist() for g in project([torch.tensor([1.0, 1.0])], helpful, when="always")]
        [[0.0, 1.0]]
    """
    if when not in get_args(When):
        raise AccordError(f"when={when!r}; expected one of {', '.join(get_args(When))}.")
    if isinstance(gradient, Tensor) or isinstance(onto, Tensor):
        raise AccordError("a gradient is a list with one tensor per parameter; for a single tensor write [tensor].")
    shapes = [tuple(g.shape) for g in gradient], [tuple(g.shape) for g in onto]
    if shapes[0] != shapes[1]:
        raise AccordError(f"the gradients have shapes {shapes[0]} and {shapes[1]}, expected the same parameters.")
    inner, square = _products(gradient, onto)
    if not np.isfinite(inner) or not 0 < square < np.inf or (when == "conflict" and inner >= 0):
        return [g.clone() for g in gradient]
    return [a - (inner / square) * b for a, b in zip(gradient, onto, strict=True)]


def _products(gradient: Sequence[Tensor], onto: Sequence[Tensor]) -> tuple[float, float]:
    """``⟨g_1, g_2⟩`` and ``⟨g_2, g_2⟩``, fetched from the device at once and not parameter by parameter."""
    if not onto:
        return 0.0, 0.0
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(gradient, onto, strict=True)]
    parts = [torch.stack([(a * b).sum(), b.square().sum()]).to(onto[0].device) for a, b in pairs]  # P times (2,)
    inner, square = torch.stack(parts).sum(0).tolist()
    return inner, square


class StepProjection:
    r"""Experimental: projects the step that the optimiser took, so that it raises no loss to first order.

    .. math:: Δθ' = Δθ - Σ_i λ_i g_i, \quad λ = \arg\min_{λ ≥ 0} ‖Δθ - Σ_i λ_i g_i‖^2, \quad g_i · Δθ' ≤ 0

    Surgery on gradients does not survive momentum and adaptive rates; this comes after them. Only the shared parameters
    are corrected, in the Euclidean metric and on the batch of the step. The optimiser's state knows nothing of it. Less
    harm need not be less loss: measure both. Costs K backward passes, beside those of the method.

    Make it before a Monitor that follows the same optimiser; hooks run in the order in which they were made.

    Args:
        balancer: shows it the losses.
        optimizer: makes the steps.

    Attributes:
        steps: steps seen.
        changed: steps that had to be corrected.

    Source: ours; the projection is that of GEM (https://arxiv.org/abs/1706.08840, eq. 11), with the optimiser's step in
    the place of the gradient.

    Example:
        >>> import accord
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> balancer = accord.Balancer(model, "Sum()")
        >>> guard = StepProjection(balancer, optimizer)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> x = torch.tensor([[1.0, 0.0], [-3.0, 1.0]])
        >>> _ = balancer.backward({"short": model(x[0]).sum(), "long": model(x[1]).sum()})
        >>> _ = optimizer.step()
        >>> guard.changed, (x @ model.weight[0]).detach().double().numpy().round(6).tolist()  # the sum: 0.2, -0.7
        (1, [0.0, -0.1])
    """

    def __init__(self, balancer: Balancer, optimizer: Optimizer) -> None:
        self.starter = Starter(balancer.model, "stacked", balancer.starter.shared, None)
        self.steps, self.changed = 0, 0
        self._engine: Engine | None = None
        self._before: list[Tensor] = []
        balancer.observers.append(self)
        optimizer.register_step_pre_hook(self._before_update)
        optimizer.register_step_post_hook(self._after_update)

    def before(self, losses: Mapping[str, Tensor]) -> None:
        """Hold the gradients of this step; see ``probe.Observer``."""
        self._engine = self.starter.look(losses, "total")

    def after(self, step: Step) -> None:
        """Nothing yet; see ``probe.Observer``."""

    def _before_update(self, *_: Any) -> None:
        if self._engine is not None:
            self._before = [p.detach().clone() for p in self._engine.sharing.shared]

    def _after_update(self, *_: Any) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        self.steps += 1
        with torch.no_grad():
            shared = engine.sharing.shared
            inner = engine.inner([p - b for p, b in zip(shared, self._before, strict=True)])  # (1, K), g_i · Δθ
            assert inner is not None
            weights = multipliers(engine.gramians[0].cpu().numpy(), inner[0].cpu().numpy(), engine.epsilon)  # (K,)
            if (weights > 0).any():
                self.changed += 1
                for p, part in zip(shared, engine.combine([w or None for w in weights.tolist()]), strict=True):
                    if part is not None:
                        p.sub_(part.to(p.dtype))


def multipliers(gramian: np.ndarray, inner: np.ndarray, epsilon: float = 1e-10) -> np.ndarray:
    """λ >= 0 with ``g_i·(s − Σ λ_j g_j) <= 0`` for all i, and the shortest such correction of s.

    Args:
        gramian: (K, K).
        inner: (K,) ``g_i·s``.
        epsilon: relative accuracy of the Gramian.

    Returns:
        (K,); 0 for tasks whose gradient is zero or not finite.

    Example:
        >>> multipliers(np.array([[1.0, -0.5], [-0.5, 1.0]]), np.array([0.3, -1.0])).round(6).tolist()
        [0.3, 0.0]
    """
    squares = gramian.diagonal()
    there = np.flatnonzero(np.isfinite(squares) & (squares > 0) & np.isfinite(inner))  # a broken task spoils its column
    found = np.zeros(len(gramian))
    if len(there) and inner[there].max() > 0:
        norms, cosines = scaled(gramian[np.ix_(there, there)])
        found[there] = nnls_one(regularised(cosines, epsilon), inner[there] / norms).value / norms
    return found
