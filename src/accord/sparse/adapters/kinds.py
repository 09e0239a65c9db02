"""The kinds of adapters: what they can serve, and how ``peft`` puts them in."""

from __future__ import annotations

import dataclasses
import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from accord.errors import AccordError
from accord.sparse import patterns
from accord.sparse.adapters.ranks import cost, spend


@dataclass(frozen=True, repr=False)
class Adapter(ABC):
    """A kind of adapter; its fields are its configuration."""

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        shown = (f"{n}={v!r}" for n, v in given.items() if v != type(self).__dataclass_fields__[n].default)
        return f"{type(self).__name__}({', '.join(shown)})"

    @abstractmethod
    def adapts(self, layer: nn.Module) -> bool:
        """Whether this layer can have one."""

    @abstractmethod
    def inject(self, model: nn.Module, layers: Mapping[str, nn.Module], besides: int) -> nn.Module:
        """Put adapters into the layers; returns the tuner of ``peft``. ``besides``: scalars trained beside them."""


@dataclass(frozen=True, repr=False)
class LoRA(Adapter):
    """Low-rank adapters: ``W + scale · B A`` with ``A (rank, fan_in)`` random and ``B (out, rank)`` zero at first.

    ``peft`` multiplies by ``alpha / rank``; here ``alpha = scale · rank`` in every layer, so that the size of a step
    does not depend on the rank. As long as ``B`` is zero, ``A`` has no gradient.

    Source: Hu et al. 2022, https://arxiv.org/abs/2106.09685.

    Args:
        rank: of every layer, at most the rank of its weight; or
        budget: how many scalars to train in all, heads and biases included. Ranks are as equal as can be.
        scale: of the product.

    Raises:
        AccordError: unless exactly one of rank and budget is given, as a whole number from 1.
    """

    rank: int | None = None
    budget: int | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        given = [v for v in (self.rank, self.budget) if v is not None]
        if len(given) != 1 or not isinstance(given[0], int) or isinstance(given[0], bool) or given[0] < 1:
            raise AccordError(f"{self!r}: expected rank= or budget=, a whole number from 1; write LoRA(rank=8).")

    def adapts(self, layer: nn.Module) -> bool:
        """Linear, plain convolutions, and attention with one width."""
        return cost(layer) is not None

    def inject(self, model: nn.Module, layers: Mapping[str, nn.Module], besides: int) -> nn.Module:
        """See ``Adapter.inject``."""
        costs = {name: found for name, layer in layers.items() if (found := cost(layer)) is not None}
        if self.budget is None:
            ranks = {name: min(self.rank or 1, each.largest) for name, each in costs.items()}
        else:
            least = besides + sum(each.each for each in costs.values())
            if self.budget < least:
                raise AccordError(
                    f"{self!r}: heads, biases and other whole tensors take {besides:,} scalars, rank 1 everywhere "
                    f"makes it {least:,}; give that much, or fewer layers by targets=."
                )
            ranks = spend(costs, self.budget - besides)
        exactly = {f"^{re.escape(name)}": rank for name, rank in ranks.items()}
        peft = peft_package()
        config = peft.LoraConfig(
            target_modules=_these(layers), rank_pattern=exactly,
            alpha_pattern={name: self.scale * rank for name, rank in exactly.items()},
        )  # fmt: skip
        tuner: nn.Module = peft.LoraModel(model, config, "default")
        return tuner


@dataclass(frozen=True, repr=False)
class IA3(Adapter):
    """One learnt factor for every output of a layer, or for every input where ``feedforward`` says so; 1 at first.

    Source: Liu et al. 2022, https://arxiv.org/abs/2205.05638 (there: outputs of keys and values, inputs of the second
    linear map of each block; choose by ``targets=`` and ``feedforward=``).

    Args:
        feedforward: patterns (``fc2``) of the layers whose inputs are scaled.
    """

    feedforward: tuple[str, ...] = ()

    def adapts(self, layer: nn.Module) -> bool:
        """Linear and convolutions of two or three dimensions."""
        return isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d)

    def inject(self, model: nn.Module, layers: Mapping[str, nn.Module], besides: int) -> nn.Module:
        """See ``Adapter.inject``."""
        patterns.check(self.feedforward, layers, "feedforward=")
        inputs = [name for name in layers if any(patterns.matches(one, name) for one in self.feedforward)]
        peft = peft_package()
        config = peft.IA3Config(target_modules=_these(layers), feedforward_modules=_these(inputs))
        tuner: nn.Module = peft.IA3Model(model, config, "default")
        return tuner


ADAPTERS: dict[str, type[Adapter]] = {"LoRA": LoRA, "IA3": IA3}


def peft_package() -> Any:
    """The package.

    Raises:
        AccordError: with what to install.
    """
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise AccordError(f"adapters need the package peft: pip install 'accord[peft]' ({error}).") from None


def _these(names: Iterable[str]) -> str:
    """A pattern that matches these names and no others; a list would match what ends like them, too."""
    return "|".join(map(re.escape, names)) or "(?!)"
