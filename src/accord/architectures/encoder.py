"""Encoder: a trunk in stages, which architectures share, copy, mix or attend to."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from torch import Tensor, nn

from accord.architectures.form import Form, Kind
from accord.errors import AccordError


class Encoder(nn.Module):
    """Stages applied one after another. Architectures may look at, or replace, what comes out of each.

    Args:
        inputs: the form of what goes in.
        stages: modules with the form that comes out of each. Called with ``(x)``, or with ``(x, valid)`` where the
            inputs are tokens; ``valid (N, L)`` is False at padding.

    Example:
        >>> import torch
        >>> encoder = Encoder(Form("vector", 4), [(nn.Linear(4, 8), Form("vector", 8)), (nn.ReLU(), Form("vector", 8))])
        >>> encoder(torch.zeros(2, 4)).shape, encoder.output.width
        (torch.Size([2, 8]), 8)
    """

    def __init__(self, inputs: Form, stages: Sequence[tuple[nn.Module, Form]]) -> None:
        super().__init__()
        self.inputs = inputs
        self.forms = tuple(form for _, form in stages)
        self.stages = nn.ModuleList(module for module, _ in stages)

    @property
    def output(self) -> Form:
        """The form of what comes out."""
        return self.forms[-1]

    def stage(self, index: int, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """The output of one stage.

        Args:
            index: of the stage.
            x: output of the stage before it, or the inputs.
            valid: (N, L), for tokens only.
        """
        part = self.stages[index]
        out: Tensor = part(x) if valid is None else part(x, valid)
        return out

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """The output of the last stage."""
        for index in range(len(self.stages)):
            x = self.stage(index, x, valid)
        return x


class EncoderSpec(ABC):
    """How an encoder is built, as a frozen dataclass whose ``repr`` is its spelling: ``conv``, ``conv(channels=8)``."""

    name: ClassVar[str]
    accepts: ClassVar[tuple[Kind, ...]]  # kinds of inputs

    @abstractmethod
    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """Fresh stages, with the form that comes out of each."""

    def build(self, inputs: Form) -> Encoder:
        """A fresh encoder, initialised from PyTorch's global generator.

        Raises:
            AccordError: if it cannot take such inputs.
        """
        if inputs.kind not in self.accepts:
            raise AccordError(
                f"the encoder {self.name} takes inputs of the form {' or '.join(self.accepts)}, and these are "
                f"{inputs.kind}; choose another encoder."
            )
        return Encoder(inputs, self.stages(inputs))

    def __repr__(self) -> str:
        return spelled(self)


class Spec(Protocol):
    """A frozen dataclass with a name."""

    @property
    def name(self) -> str:
        """As it is spelled."""


def spelled(spec: Spec) -> str:
    """Name and the settings that differ from their defaults."""
    different = [
        f"{f.name}={value!r}"
        for f in dataclasses.fields(spec)  # type: ignore[arg-type]
        if (value := getattr(spec, f.name)) != f.default
    ]
    return f"{spec.name}({', '.join(different)})" if different else spec.name


def positive(spec: Spec) -> None:
    """Refuse settings that are not whole numbers above 0 where their default is one, or shares outside [0, 1).

    Raises:
        AccordError: naming the setting.
    """
    for f in dataclasses.fields(spec):  # type: ignore[arg-type]
        value, name = getattr(spec, f.name), spec.name
        if isinstance(f.default, bool):
            if not isinstance(value, bool):
                raise AccordError(f"{name}: {f.name}={value!r}, expected True or False.")
        elif isinstance(f.default, int):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise AccordError(f"{name}: {f.name}={value!r}, expected a whole number greater than 0.")
        elif isinstance(f.default, float) and not (
            isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
        ):
            raise AccordError(f"{name}: {f.name}={value!r}, expected a share from 0 to below 1.")
