"""What PyTorch's attention needs so that adapters in it are neither forgotten nor wear the frozen weights off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def adapters_are_seen(model: nn.Module) -> list[Callable[[], None]]:
    """Switch the fast path of ``nn.TransformerEncoder`` off; returns what switches it on again.

    In evaluation it reads the weights of the frozen layers and silently leaves their adapters out.
    """
    undo: list[Callable[[], None]] = []
    for module in model.modules():
        for kind, switch in (
            (nn.TransformerEncoderLayer, "activation_relu_or_gelu"),
            (nn.TransformerEncoder, "use_nested_tensor"),
        ):
            if isinstance(module, kind):
                undo.append(_setting(module, switch, getattr(module, switch)))
                setattr(module, switch, 0)
    return undo


def _setting(module: nn.Module, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(module, name, value)


def put_back(model: nn.Module) -> None:
    """Keep the frozen weights of adapted attention bit for bit.

    ``peft`` computes ``W + ΔW`` before every forward pass and ``(W + ΔW) - ΔW`` after it, which is not quite ``W``.
    """
    for module in model.modules():
        if _adapted(module):
            module.register_forward_pre_hook(_keep)
            module.register_forward_hook(_restore, always_call=True)


def _adapted(module: nn.Module) -> bool:
    base = getattr(module, "base_layer", None)
    return isinstance(base, nn.MultiheadAttention)


def _keep(module: Any, inputs: Any) -> None:
    base = module.base_layer
    module._kept = base.in_proj_weight, base.out_proj.base_layer.weight


def _restore(module: Any, inputs: Any, outputs: Any) -> None:
    base = module.base_layer
    base.in_proj_weight, base.out_proj.base_layer.weight = module._kept
    del module._kept
