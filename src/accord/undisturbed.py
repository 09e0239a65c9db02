"""A look at the losses beside the step that leaves no trace: buffers and random numbers stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

RandomState = dict[torch.device, Tensor]


def random_state(model: nn.Module) -> RandomState:
    """Where PyTorch's generators stand: that of the CPU and those of the GPUs that the model is on.

    Args:
        model: says which devices count.
    """
    devices = {t.device for t in chain(model.parameters(), model.buffers()) if t.device.type == "cuda"}
    return {torch.device("cpu"): torch.get_rng_state()} | {d: torch.cuda.get_rng_state(d) for d in devices}


def _continue(state: RandomState) -> None:
    """Let the generators go on from there."""
    for device, numbers in state.items():
        if device.type == "cuda":
            torch.cuda.set_rng_state(numbers, device)
        else:
            torch.set_rng_state(numbers)


@contextmanager
def undisturbed(model: nn.Module, noise: RandomState | None = None, *, grad: bool = False) -> Iterator[None]:
    """Losses computed inside change nothing outside, and draw the same dropout masks as some forward pass before.

    The buffers lend their names to copies, and get their own values back afterwards. Copying the values back would not
    do: PyTorch refuses the backward pass of a graph that went through BatchNorm once its statistics were written to.
    Generators of the user's own and other state in Python are not put back, nor is the mode of the modules touched.

    Args:
        model: whose buffers (running statistics, counters) are put back.
        noise: ``random_state`` before the forward pass whose random numbers are to be drawn again; None: just go on.
        grad: record graphs.

    Example:
        >>> model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2))
        >>> x, noise = torch.randn(8, 2), random_state(model)
        >>> first, mean = model(x), model[1].running_mean.clone()
        >>> with undisturbed(model, noise):
        ...     again = model(x)
        >>> torch.equal(first, again), torch.equal(mean, model[1].running_mean)
        (True, True)
    """
    kept = [(m, name, b, b.data) for m in model.modules() for name, b in m.named_buffers(recurse=False)]
    now = random_state(model)
    if noise is not None:
        _continue(noise)
    try:
        for _, _, buffer, values in kept:
            buffer.data = values.clone()
        with torch.set_grad_enabled(grad):
            yield
    finally:
        _continue(now)
        for module, name, buffer, values in kept:
            buffer.data = values
            if getattr(module, name) is not buffer:  # some modules assign a new tensor in their forward pass
                setattr(module, name, buffer)
