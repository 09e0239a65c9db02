"""MLP: an encoder for vectors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form, Kind


@dataclass(frozen=True, repr=False)
class MLP(EncoderSpec):
    """Linear layers, each followed by a ReLU; each layer is a stage.

    Args:
        width: of each layer.
        layers: how many.

    Example:
        >>> MLP(width=32).build(Form("vector", 7)).output
        Form(kind='vector', width=32, size=())
    """

    width: int = 128
    layers: int = 2

    name: ClassVar[str] = "mlp"
    accepts: ClassVar[tuple[Kind, ...]] = ("vector",)

    def __post_init__(self) -> None:
        positive(self)

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """One linear layer with its ReLU each."""
        widths = [inputs.width, *[self.width] * self.layers]
        return [
            (nn.Sequential(nn.Linear(before, after), nn.ReLU()), Form("vector", after))
            for before, after in itertools.pairwise(widths)
        ]
