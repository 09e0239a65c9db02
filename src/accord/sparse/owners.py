"""Owners: which modules hold a parameter, under which names, and what it is to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from accord.sparse.layout import Layout
from accord.sparse.placed import Placed

Role = Literal["weight", "bias", "scale"]

FORWARD = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TURNED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SCALES = ("Norm", "Embed")  # in names of classes that are not PyTorch's own: RMSNorm, PatchEmbeddings


@dataclass(frozen=True, eq=False)
class Owner:
    """One place in the model that holds a parameter.

    Args:
        name: of the parameter there, without the traces of a ``Placed``.
        module: that holds it.
        leaf: its name in the module.
        parameter: the dense tensor.
        placed: the parametrisation of ours that it is under.
        derived: whether the module computes a tensor from it (a parametrisation of others, as weight normalisation).
    """

    name: str
    module: nn.Module
    leaf: str
    parameter: Tensor
    placed: Placed | None = None
    derived: bool = False

    @property
    def role(self) -> Role:
        """A ``weight`` has rows, one per output unit; a ``bias`` is added; a ``scale`` is anything else.

        That is: scales and shifts of norm layers, embedding tables, tokens, positions. The type of the module decides;
        in a module of an unknown type, ``weight`` with two or more dimensions, and the ``bias`` beside it.
        """
        module, leaf = self.module, self.leaf
        if isinstance(module, nn.MultiheadAttention):
            return "weight" if leaf.endswith("_weight") else "bias" if leaf == "in_proj_bias" else "scale"
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            return "weight" if leaf.startswith("weight") else "bias"
        names = [kind.__name__ for kind in type(module).__mro__]
        if any(part in name for part in SCALES for name in names):
            return "scale"
        weight = self.parameter if leaf == "weight" else getattr(module, "weight", None)
        if leaf not in ("weight", "bias") or not isinstance(weight, Tensor) or weight.ndim < 2:
            return "scale"
        return cast(Role, leaf)

    @property
    def layout(self) -> Layout:
        """Where its output units are."""
        if isinstance(self.module, TURNED):
            return Layout(turned=True, groups=self.module.groups)
        # the linear layer of GPT-2 in transformers
        return Layout(turned=any(kind.__name__ == "Conv1D" for kind in type(self.module).__mro__))

    @property
    def kind(self) -> str:
        """``linear`` and ``conv`` where the product with the weight is one plain matrix product."""
        if isinstance(self.module, nn.Linear):
            return "linear"
        return "conv" if isinstance(self.module, FORWARD) and self.module.groups == 1 else "other"


def owners(model: nn.Module) -> Iterator[Owner]:
    """Every owner of every parameter, in model order; a tied parameter has several."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        if "parametrizations" in prefix.split("."):
            continue
        dot = f"{prefix}." if prefix else ""
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                old = leaf.startswith("weight_") and hasattr(module, "weight") and "weight" not in module._parameters
                # `old`: weight and spectral normalisation as they were before parametrisations
                yield Owner(dot + leaf, module, "weight" if old else leaf, parameter, derived=old)
        if parametrize.is_parametrized(module):
            lists = cast(nn.ModuleDict, module.parametrizations)
            for leaf, found in lists.items():
                yield from _parametrised(dot, module, leaf, cast(parametrize.ParametrizationList, found))


def _parametrised(dot: str, module: nn.Module, leaf: str, found: parametrize.ParametrizationList) -> Iterator[Owner]:
    if len(found) == 1 and isinstance(found[0], Placed):
        yield Owner(dot + leaf, module, leaf, found.original, placed=found[0])
        return
    for inner, parameter in found.named_parameters():
        yield Owner(f"{dot}parametrizations.{leaf}.{inner}", module, leaf, parameter, derived=True)
