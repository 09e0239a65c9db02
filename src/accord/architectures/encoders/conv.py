"""Conv: a small convolutional encoder for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form, Kind


@dataclass(frozen=True, repr=False)
class Conv(EncoderSpec):
    """3 x 3 convolutions with stride 2, group normalisation and ReLU; each halves the map and doubles its channels.

    Group normalisation does not mix the examples of a batch, so that a loss means the same in training and evaluation.
    There are four groups, or the largest smaller number that divides the channels.

    Args:
        channels: of the first layer.
        layers: how many; each is a stage.

    Example:
        >>> Conv().build(Form("map", 3, (64, 64))).output
        Form(kind='map', width=128, size=(4, 4))
    """

    channels: int = 16
    layers: int = 4

    name: ClassVar[str] = "conv"
    accepts: ClassVar[tuple[Kind, ...]] = ("map",)

    def __post_init__(self) -> None:
        positive(self)

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """One convolution each."""
        parts: list[tuple[nn.Module, Form]] = []
        before, (height, width) = inputs.width, inputs.size
        for layer in range(self.layers):
            after, height, width = self.channels << layer, (height + 1) // 2, (width + 1) // 2
            groups = max(number for number in (1, 2, 3, 4) if after % number == 0)
            layers = nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(groups, after), nn.ReLU()
            parts.append((nn.Sequential(*layers), Form("map", after, (height, width))))
            before = after
        return parts
