"""One step of one task: what it does to the losses of all tasks, under the actual optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from accord import losses as checked
from accord.balancer import Balancer
from accord.effect.trial import Array, Compute, look, same_tasks, trial
from accord.errors import AccordError
from accord.sharing import discover
from accord.undisturbed import random_state, undisturbed


@dataclass(frozen=True, eq=False)
class Effect:
    """The losses before and after a trial step of each task alone.

    Args:
        tasks: K names.
        before: (K,) losses at the present parameters.
        after: (K, K); row i: all losses after the step that task i alone would make.

    Example:
        >>> effect = Effect(("a", "b"), np.array([1.0, 2.0]), np.array([[0.5, 3.0], [1.0, 1.0]]))
        >>> effect.relative.tolist(), effect.change.tolist()
        ([[0.5, -0.5], [0.0, 0.5]], [[-0.5, 1.0], [0.0, -1.0]])
    """

    tasks: tuple[str, ...]
    before: Array
    after: Array

    @property
    def relative(self) -> Array:
        """(K, K) the affinity ``Z_ij = 1 − L_j(θ − u_i) / L_j(θ)``; negative: i harms j. NaN for a loss <= 0."""
        positive = np.where(self.before > 0, self.before, np.nan)  # (K,); a ratio of other losses says nothing
        return 1 - self.after / positive

    @property
    def change(self) -> Array:
        """(K, K) ``L_j(θ − u_i) − L_j(θ)``; positive: i harms j."""
        return self.after - self.before


def one_step(
    model: nn.Module, optimizer: Optimizer, training: Compute, held_out: Compute | None = None, *, heads: bool = False
) -> Effect:
    r"""What a step of each task alone would do to every loss, with the optimiser as it is now.

    .. math:: Z_{i \to j} = 1 - L_j(\theta - u_i) / L_j(\theta)

    ``u_i`` is the step that the optimiser makes of the gradient of task i alone, from its present momentum, second
    moments and learning rate. So it holds what all tasks did in the steps before; with a fresh SGD it is ``γ g_i``.
    Afterwards parameters, buffers, ``.grad``, random numbers and the optimiser are as before, bit for bit; module modes
    are not touched. Call it between two steps: a graph that was built before cannot be differentiated any more. All
    looks draw the same random numbers, so that differences are no dropout noise. Costs K training steps and K + 1
    looks.

    Args:
        model: all parameters of the losses.
        optimizer: as the training has it.
        training: computes the losses by task name, of which the steps are made.
        held_out: computes the losses that are compared; None: those of ``training``. On the batch that made the step,
            every task looks better to itself than it is.
        heads: let a task move its own head as well; by default only shared parameters move, as in the source.

    Raises:
        AccordError: for LBFGS, a loss that is no scalar, other tasks in ``held_out``, or no shared parameter.

    Source: Fifty et al. 2021 (NeurIPS), "Efficiently Identifying Task Groupings for Multi-Task Learning" (TAG),
    https://arxiv.org/abs/2109.04617, equation 1.

    Example:
        >>> import torch, accord
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> losses = lambda: {"down": model.weight.square().sum(), "up": (model.weight - 3).square().sum()}
        >>> effect = one_step(model, torch.optim.SGD(model.parameters(), lr=0.25), losses)
        >>> effect.after.tolist(), model.weight.item()  # a step of "down" ends at 1, one of "up" at 2.5
        ([[1.0, 4.0], [6.25, 0.25]], 2.0)
        >>> effect.relative.tolist()
        [[0.75, -3.0], [-0.5625, 0.75]]
    """
    held_out = training if held_out is None else held_out
    noise = random_state(model)
    tasks, _ = look(model, training, noise)
    names, before = look(model, held_out, noise)
    same_tasks(names, tasks, "held-out")
    balancer, after = Balancer(model, "Sum()"), []
    for task in tasks:
        with trial(model, optimizer):
            with undisturbed(model, noise, grad=True):
                losses = checked.check(training())
                still = [] if heads else _own(model, losses)
                balancer.backward({task: losses[task]})
            there = [(p, p.data.clone()) for p in still]
            optimizer.step()
            for p, values in there:
                p.data = values
            after.append(look(model, held_out, noise)[1])
    return Effect(tasks, before, np.stack(after))


def _own(model: nn.Module, losses: dict[str, Tensor]) -> list[Tensor]:
    """The parameters that one task alone reaches."""
    sharing = discover(model, losses)
    if not sharing.shared:
        raise AccordError(f"the losses {list(losses)} share no parameter, so no task does anything to another.")
    return [p for own in sharing.heads for p in own]
