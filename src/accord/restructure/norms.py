"""Norms: the normalisation layers of a model, which are the cheap ones to make task-specific."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from accord.restructure.choose import head_of


def norms(model: nn.Module, tasks: Sequence[str] = ()) -> list[str]:
    """The names of all normalisation layers with parameters: batch, layer, group, instance, RMS norms.

    A layer counts if it holds parameters of its own, no modules, and is called a norm. Its copies cost two numbers for
    each channel and task, and keep statistics of each task's own features.

    Args:
        model: the model.
        tasks: K names; norms of heads, modules of these names that stand side by side, are left out.

    Source: Bilen & Vedaldi 2017 (universal representations), https://arxiv.org/abs/1701.07275; as a remedy against
        conflict, Accord's own.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 1))
        >>> norms(net)
        ['1']
    """
    named = dict(model.named_modules())
    return [
        name
        for name, module in named.items()
        if "Norm" in type(module).__name__
        and not module._modules
        and any(p is not None for p in module._parameters.values())
        and head_of(name, named, tasks) is None
    ]
