"""ResNet-18: a residual convolutional encoder for images, with a stem for small or for large ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import relu

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form, Kind
from accord.errors import AccordError, nearest

STEMS = ("small", "large")
GROUPS = 32  # of group normalisation, as in its paper


@dataclass(frozen=True, repr=False)
class ResNet18(EncoderSpec):
    """A stem and four stages of two residual blocks, ``y = relu(x + f(x))``; each stage but the first halves the map.

    With ``stem="large"`` and three channels it has the 11,176,512 parameters of the published network without its
    classifier. Group normalisation stands where the published network has batch normalisation, with as many parameters:
    batch statistics would make the loss of an example depend on the others of its batch, differ between training and
    evaluation, and be moved by every extra forward pass that a method asks for.

    Source: He et al. 2016, https://arxiv.org/abs/1512.03385; Wu & He 2018, https://arxiv.org/abs/1803.08494.

    Args:
        stem: ``small``: a 3 x 3 convolution, for images of up to about 64 pixels; ``large``: 7 x 7 with stride 2, then
            pooling with stride 2, so that the output is 1/32 of the image instead of 1/8.
        width: channels of the first stage; they double from stage to stage.

    Raises:
        AccordError: for an unknown stem, or a width below 1.

    Example:
        >>> ResNet18(width=8).build(Form("map", 3, (32, 32))).output
        Form(kind='map', width=64, size=(4, 4))
    """

    stem: str = "small"
    width: int = 64

    name: ClassVar[str] = "resnet18"
    accepts: ClassVar[tuple[Kind, ...]] = ("map",)

    def __post_init__(self) -> None:
        positive(self)
        if self.stem not in STEMS:
            raise AccordError(f"{self.name}: stem={self.stem!r} is unknown.{nearest(str(self.stem), STEMS)}")

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """The stem, then the four stages."""
        height, width = inputs.size
        for _ in range(2 if self.stem == "large" else 0):
            height, width = (height + 1) // 2, (width + 1) // 2
        parts: list[tuple[nn.Module, Form]] = [
            (_stem(inputs.width, self.width, self.stem), Form("map", self.width, (height, width)))
        ]
        before = self.width
        for index in range(4):
            after, stride = self.width << index, 1 if index == 0 else 2
            if stride == 2:
                height, width = (height + 1) // 2, (width + 1) // 2
            blocks = nn.Sequential(_Block(before, after, stride), _Block(after, after, 1))
            parts.append((blocks, Form("map", after, (height, width))))
            before = after
        return parts


def _stem(channels: int, width: int, kind: str) -> nn.Module:
    if kind == "small":
        return nn.Sequential(_conv(channels, width, 3, 1), _norm(width), nn.ReLU())
    return nn.Sequential(_conv(channels, width, 7, 2), _norm(width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))


def _conv(before: int, after: int, kernel: int, stride: int) -> nn.Conv2d:
    made = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _conv(before, after, 3, stride), _norm(after), nn.ReLU(), _conv(after, after, 3, 1), _norm(after)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(_conv(before, after, 1, stride), _norm(after))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.shortcut(x) + self.inner(x))  # (N, after, h, w)
