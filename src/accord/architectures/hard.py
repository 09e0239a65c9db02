"""Hard parameter sharing: one encoder for all tasks, a head for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from accord.architectures.architecture import Architecture, Head
from accord.architectures.encoder import Encoder, EncoderSpec
from accord.architectures.form import Form


@dataclass(frozen=True, repr=False)
class HardSharing(Architecture):
    """All tasks share the whole encoder: ``y_t = head_t(encoder(x))``.

    Source: Caruana 1997, https://doi.org/10.1023/A:1007379606734.

    Example:
        >>> import torch
        >>> from accord.architectures import MLP, vector
        >>> model = HardSharing().build(MLP(), Form("vector", 5), {"a": vector(3), "b": vector(1)})
        >>> {task: tuple(y.shape) for task, y in model(torch.zeros(2, 5)).items()}
        {'a': (2, 3), 'b': (2, 1)}
    """

    name: ClassVar[str] = "hard"

    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """One encoder, one head for each task."""
        trunk = encoder.build(inputs)
        return _HardSharing(trunk, {task: head(trunk.output) for task, head in heads.items()})


class _HardSharing(nn.Module):
    def __init__(self, encoder: Encoder, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(dict(heads))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        shared = self.encoder(x, valid)
        return {task: head(shared, valid) for task, head in self.heads.items()}
