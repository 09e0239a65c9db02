"""Bottleneck: convolutions, then a few features that all tasks must share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form, Kind


@dataclass(frozen=True, repr=False)
class Bottleneck(EncoderSpec):
    """Convolutions with stride 2 (16 channels, then 32), then ``width`` features of the whole image.

    Unlike a mean over pixels the features know places; unlike a wide layer they are scarce, so that tasks compete.

    Args:
        width: number of features.
        layers: number of convolutions; each is a stage, and so are the features.

    Example:
        >>> Bottleneck(width=8).build(Form("map", 1, (36, 36))).output
        Form(kind='vector', width=8, size=())
    """

    width: int = 12
    layers: int = 3

    name: ClassVar[str] = "bottleneck"
    accepts: ClassVar[tuple[Kind, ...]] = ("map",)

    def __post_init__(self) -> None:
        positive(self)

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """One convolution each, then the features."""
        parts: list[tuple[nn.Module, Form]] = []
        before, (height, width) = inputs.width, inputs.size
        for layer in range(self.layers):
            after, height, width = 16 << min(layer, 1), (height + 1) // 2, (width + 1) // 2
            layers = nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()
            parts.append((nn.Sequential(*layers), Form("map", after, (height, width))))
            before = after
        # tanh: of so few features no task can spare one, and a ReLU that dies would be lost to all of them
        last = nn.Sequential(nn.Flatten(), nn.Linear(before * height * width, self.width), nn.Tanh())
        return [*parts, (last, Form("vector", self.width))]
