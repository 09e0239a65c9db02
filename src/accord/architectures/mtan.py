"""MTAN: one shared encoder, of which each task attends to the features that it needs, stage by stage."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from accord.architectures.architecture import Architecture, Head
from accord.architectures.encoder import Encoder, EncoderSpec
from accord.architectures.encoders.segnet import Hourglass
from accord.architectures.form import Form
from accord.architectures.heads import pooled
from accord.architectures.segnet_mtan import HourglassMTAN


@dataclass(frozen=True, repr=False)
class MTAN(Architecture):
    """Multi-task attention network: at each stage a task masks the shared features p, ``a_t = m_t(p, c_t) * p``.

    With the encoder ``segnet`` this is the published network, parameter for parameter (see ``HourglassMTAN``).

    With any other encoder: ``m_t = sigmoid(LN(V_t ReLU(LN(W_t [p, c_t]))))`` at every pixel, position or vector, and
    ``c_t = f(a_t)`` of the stage before, where f is shared by all tasks: max-pooling to the size of the next map and a
    3 x 3 convolution with ReLU, else a linear layer with ReLU; where the kind of features or their number of positions
    changes, f takes the mean over positions, and its result is seen at every position. The head of a task takes ``a_t``
    of the last stage. Three deviations from the paper: a stage cannot be looked into, so the mask sees the features
    that it masks instead of those at half-way; layer normalisation replaces batch normalisation, so that examples do
    not mix; and pooling comes before the convolution, which costs a quarter as much there.

    The trunk and f are shared; a task owns its masks and its head.

    Source: Liu, Johns & Davison 2019, https://arxiv.org/abs/1803.10704.

    Example:
        >>> from accord.architectures import Conv, vector
        >>> model = MTAN().build(Conv(), Form("map", 3, (32, 32)), {"a": vector(3), "b": vector(1)})
        >>> {task: tuple(y.shape) for task, y in model(torch.zeros(2, 3, 32, 32)).items()}
        {'a': (2, 3), 'b': (2, 1)}
    """

    name: ClassVar[str] = "mtan"

    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """One encoder, what hands attention on, masks and heads."""
        trunk = encoder.build(inputs)
        if isinstance(trunk.stages[0], Hourglass):
            return HourglassMTAN(trunk, heads)
        return _MTAN(trunk, heads)


class _MTAN(nn.Module):
    def __init__(self, encoder: Encoder, heads: Mapping[str, Head]) -> None:
        super().__init__()
        forms = encoder.forms
        self.encoder = encoder
        self.carry = nn.ModuleList(_Carry(a, b) for a, b in itertools.pairwise(forms))
        self.masks = nn.ModuleDict(
            {task: nn.ModuleList(_Mask(form, first=i == 0) for i, form in enumerate(forms)) for task in heads}
        )
        self.heads = nn.ModuleDict({task: head(forms[-1]) for task, head in heads.items()})

    def forward(self, x: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        features: list[Tensor] = []
        for index in range(len(self.encoder.stages)):
            x = self.encoder.stage(index, x, valid)
            features.append(x)
        return {task: head(self._attended(task, features, valid), valid) for task, head in self.heads.items()}

    def _attended(self, task: str, features: list[Tensor], valid: Tensor | None) -> Tensor:
        """What a task gets of the last stage."""
        masks = self.masks[task]
        assert isinstance(masks, nn.ModuleList)
        attended = masks[0](features[0]) * features[0]
        for shared, mask, carry in zip(features[1:], list(masks)[1:], self.carry, strict=True):
            attended = mask(shared, carry(attended, shared, valid)) * shared
        return attended


class _Mask(nn.Module):
    """Two linear maps of channels, and a number from 0 to 1 for every feature."""

    def __init__(self, form: Form, first: bool) -> None:
        super().__init__()
        width = form.width
        inner = nn.Linear(width if first else 2 * width, width), nn.LayerNorm(width), nn.ReLU()
        self.layers = nn.Sequential(*inner, nn.Linear(width, width), nn.LayerNorm(width), nn.Sigmoid())
        self.channels = 1 if form.kind == "map" else -1  # their axis

    def forward(self, *seen: Tensor) -> Tensor:
        """Of the form of the features; ``seen`` are they, and what is handed on."""
        last = torch.cat(seen, self.channels).movedim(self.channels, -1)  # (N, ..., D)
        out: Tensor = self.layers(last).movedim(-1, self.channels)
        return out


class _Carry(nn.Module):
    """Hands the attended features of one stage on to the next, in its form; all tasks share it."""

    def __init__(self, before: Form, after: Form) -> None:
        super().__init__()
        self.maps = before.kind == after.kind == "map"
        self.layer: nn.Module = (
            nn.Conv2d(before.width, after.width, 3, padding=1) if self.maps else nn.Linear(before.width, after.width)
        )
        self.channels = 1 if after.kind == "map" else -1

    def forward(self, attended: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        if self.maps:
            fitting = adaptive_max_pool2d(attended, target.shape[2:])  # (N, D, H, W)
            return cast(Tensor, self.layer(fitting).relu())  # (N, D', H, W)
        if attended.shape[:-1] != target.shape[:-1]:
            summary = self.layer(pooled(attended, valid)).relu()  # (N, D)
            positions = summary.reshape(len(summary), *[1] * (target.ndim - 2), -1).movedim(-1, self.channels)
            return positions.expand_as(target)
        out: Tensor = self.layer(attended).relu()
        return out
