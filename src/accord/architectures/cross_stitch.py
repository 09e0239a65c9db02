"""Cross-stitch networks: an encoder for each task, whose features are mixed after every stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from accord.architectures.architecture import Architecture, Head
from accord.architectures.encoder import Encoder, EncoderSpec, positive
from accord.architectures.form import Form


@dataclass(frozen=True, repr=False)
class CrossStitch(Architecture):
    """After every stage each task takes a learned mixture of all K tasks' features: ``x_s <- sum_t a_st x_t``.

    There are K encoders and, at every stage, a unit ``a`` of K x K numbers, or K x K for each channel. It starts near
    the identity, ``a_ss = same`` and ``a_st = (1 - same) / (K - 1)``, and is not constrained. Row s of the last unit
    belongs to task s like its head; all the rest is reached by every task. An encoder of one stage (``segnet``) has
    one unit, before the heads.

    Source: Misra et al. 2016, https://arxiv.org/abs/1604.03539. There units have their own, larger learning rate and
    the encoders start from networks trained on each task; here they start at random and have the rate of the rest.

    Args:
        same: how much of its own features a task starts with, from 0 to below 1.
        channels: a unit for each channel; otherwise one for all of them.

    Example:
        >>> from accord.architectures import MLP, vector
        >>> model = CrossStitch().build(MLP(), Form("vector", 5), {"a": vector(3), "b": vector(1)})
        >>> {task: tuple(y.shape) for task, y in model(torch.zeros(2, 5)).items()}
        {'a': (2, 3), 'b': (2, 1)}
    """

    same: float = 0.9
    channels: bool = True

    name: ClassVar[str] = "cross-stitch"

    def __post_init__(self) -> None:
        positive(self)

    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """An encoder and a head for each task, a unit for each stage."""
        encoders = {task: encoder.build(inputs) for task in heads}
        forms = next(iter(encoders.values())).forms
        rest = len(heads), self.same, self.channels
        units = [_Unit(form, *rest, last=index == len(forms)) for index, form in enumerate(forms, start=1)]
        return _CrossStitch(encoders, units, {task: head(forms[-1]) for task, head in heads.items()})


class _Unit(nn.Module):
    """K x K mixtures, each row a parameter of its own.

    The last unit computes its rows apart, so that the graph shows what is true there: a row is reached by its own task
    alone. Before it every task reaches every row, and one product for all is cheaper.
    """

    def __init__(self, form: Form, tasks: int, same: float, channels: bool, last: bool) -> None:
        super().__init__()
        self.channels = 1 if form.kind == "map" else -1  # their axis
        self.last = last
        start = torch.full((tasks, tasks), (1 - same) / max(tasks - 1, 1)).fill_diagonal_(same)  # (K, K)
        width = form.width if channels else 1
        self.rows = nn.ParameterList(nn.Parameter(row[:, None].repeat(1, width)) for row in start)  # K of (K, D)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """K tensors, each (N, D), (N, D, H, W) or (N, L, D), from as many."""
        moved = [x.movedim(self.channels, 0) for x in features]  # (D, N, ...) each
        stacked = torch.stack(moved, 1).flatten(2)  # (D, K, F), F all that is not a channel
        rows = list(self.rows)
        mixed: list[Tensor] = []
        for part in [[row] for row in rows] if self.last else [rows]:
            matrices = torch.stack(part).permute(2, 0, 1).expand(len(stacked), -1, -1)  # (D, k, K)
            mixed += torch.bmm(matrices, stacked).unbind(1)  # k of (D, F)
        return [x.view(moved[0].shape).movedim(0, self.channels) for x in mixed]


class _CrossStitch(nn.Module):
    def __init__(self, encoders: dict[str, Encoder], units: list[_Unit], heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.units = nn.ModuleList(units)
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        features = [x for _ in self.heads]
        for index, unit in enumerate(self.units):
            stages = zip(self.encoders.values(), features, strict=True)
            features = unit([cast(Encoder, encoder).stage(index, y, valid) for encoder, y in stages])
        return {task: head(y, valid) for (task, head), y in zip(self.heads.items(), features, strict=True)}
