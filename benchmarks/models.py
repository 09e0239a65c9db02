"""The models of the speed and memory benchmarks: trunk, heads, input, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass
class Case:
    """A trunk, K heads and a batch; losses are squared errors of each head."""

    trunk: nn.Module
    heads: nn.ModuleList
    batch: Tensor

    @property
    def model(self) -> nn.Module:
        return nn.ModuleDict({"trunk": self.trunk, "heads": self.heads})

    def losses(self) -> dict[str, Tensor]:
        z = self.trunk(self.batch)
        return {f"t{i}": (head(z) - i).square().mean() for i, head in enumerate(self.heads)}


class Residual(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        same = inside == outside and stride == 1
        self.skip: nn.Module = nn.Identity()
        if not same:
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def resnet(width: int) -> nn.Module:
    """ResNet-18 for 32x32 inputs; width 64 is the usual one, 32 has 2.8 M parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inside = width
    for stage in range(4):
        for block in range(2):
            outside = width << stage
            layers.append(Residual(inside, outside, 2 if stage and not block else 1))
            inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Encoder(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(1)


def mlp(k: int) -> Case:
    """MLP 3x512, batch 128."""
    sizes = [64, 512, 512, 512]
    trunk = nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
    return Case(trunk, nn.ModuleList(nn.Linear(512, 10) for _ in range(k)), torch.randn(128, 64))


def conv(k: int) -> Case:
    """Narrow ResNet-18 on 32x32 images (2.8 M parameters), batch 64."""
    return Case(resnet(32), nn.ModuleList(nn.Linear(256, 10) for _ in range(k)), torch.randn(64, 3, 32, 32))


def transformer(k: int) -> Case:
    """Four-layer encoder, d = 256, 64 positions, batch 16."""
    return Case(Encoder(256, 4), nn.ModuleList(nn.Linear(256, 10) for _ in range(k)), torch.randn(16, 64, 256))


CASES: dict[str, Callable[[int], Case]] = {"mlp": mlp, "conv": conv, "transformer": transformer}
