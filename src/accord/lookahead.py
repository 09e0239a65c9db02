"""lookahead: take the gradients where momentum is about to carry the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from accord.displacement import displaced
from accord.errors import AccordError


@contextmanager
def lookahead(optimizer: Optimizer) -> Iterator[None]:
    """Inside the block the parameters stand at ``θ + μv``, at its end they are back at ``θ``, bit for bit.

    ``v`` is the last step of heavy-ball momentum: with torch's buffer ``b``, rate ``γ`` and momentum ``μ`` of a group,
    ``θ + μv = θ − γμb``. Parameters without momentum, without a buffer yet, or frozen, are not moved.

    With the gradients taken inside and the step after the block, SGD(momentum) without dampening is Nesterov's method:
    ``b ← μb + ∇f(θ − γμb)``, ``θ ← θ − γb``. ``SGD(nesterov=True)`` is the same method in other coordinates: the
    parameters that it stores are already the points ``θ − γμb``.

    Forward *and* backward pass belong inside. A graph that crosses the block's border raises PyTorch's error about a
    variable modified by an inplace operation wherever a parameter is needed; only under activation checkpointing, which
    computes the forward pass anew, it goes unnoticed. The optimiser adds its weight decay in its step, hence at ``θ``.

    Source: Nesterov 1983; in this form Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html,
    equations 3 and 4.

    Args:
        optimizer: a ``torch.optim.SGD`` with ``nesterov=False``.

    Raises:
        AccordError: for another optimiser, for ``nesterov=True``, and for a step inside the block.

    Example:
        >>> import torch, accord
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
        >>> w.square().sum().backward()
        >>> optimizer.step()  # w = 0.8 with buffer 2
        >>> with accord.lookahead(optimizer):
        ...     inside = w.item()  # 0.8 - 0.1 * 0.9 * 2
        >>> round(inside, 6), round(w.item(), 6)
        (0.62, 0.8)
    """
    displacement = momentum_displacement(optimizer)
    guard = optimizer.register_step_pre_hook(_refuse)
    try:
        with displaced(displacement):
            yield
    finally:
        guard.remove()


def momentum_displacement(optimizer: Optimizer) -> dict[Tensor, Tensor]:
    """Where heavy-ball momentum is about to carry each parameter: ``μv = −γμb``, without moving anything.

    What ``lookahead`` moves the parameters by, for probes that compare it with other displacements of its length.

    Args:
        optimizer: a ``torch.optim.SGD`` with ``nesterov=False``.

    Returns:
        ``μv`` by parameter; parameters without momentum, without a buffer yet, or frozen, are not in it.

    Raises:
        AccordError: for another optimiser, and for ``nesterov=True``.

    Source: Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html, equations 3 and 4.

    Example:
        >>> import torch, accord
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = torch.optim.SGD([w], lr=0.5, momentum=0.5)
        >>> w.square().sum().backward()
        >>> optimizer.step()  # buffer 2
        >>> momentum_displacement(optimizer)[w].tolist()
        [-0.5]
    """
    if not isinstance(optimizer, SGD):
        raise AccordError(
            f"lookahead needs a torch.optim.SGD, whose buffer is a velocity, found {type(optimizer).__name__}; for "
            "Adam there is torch.optim.NAdam."
        )
    if any(group["nesterov"] for group in optimizer.param_groups):
        raise AccordError("with nesterov=True the parameters already are the look-ahead point; set nesterov=False.")
    found = {}
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in group["params"]:
                buffer = optimizer.state.get(p, {}).get("momentum_buffer")
                if group["momentum"] and buffer is not None and p.requires_grad:
                    found[p] = -(buffer * (group["lr"] * group["momentum"]))
    return found


def _refuse(*_: Any) -> None:
    raise AccordError("optimizer.step() inside lookahead would be undone at its end; step after the block.")
