"""BatchNorm layers whose running statistics stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle


def hold_statistics(model: nn.Module, heads: Iterable[str] = ()) -> tuple[RemovableHandle, ...]:
    """The BatchNorm layers outside the heads use their running statistics, in training, too.

    Args:
        model: its BatchNorm layers get a hook.
        heads: names of parameters; norm layers of theirs are left alone.

    Example:
        >>> import torch
        >>> norm = nn.Sequential(nn.BatchNorm1d(2))
        >>> handles = hold_statistics(norm)
        >>> torch.equal(norm.train()(torch.ones(3, 2)), norm.eval()(torch.ones(3, 2)))
        True
    """
    own = set(heads)
    norms = [
        module
        for prefix, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not {f"{prefix}.{name}" for name, _ in module.named_parameters()} & own
    ]
    return tuple(norm.register_forward_pre_hook(_evaluate) for norm in norms)


def _evaluate(module: nn.Module, *_: Any) -> None:
    module.training = False  # model.train() sets it again in every epoch
