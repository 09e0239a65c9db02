"""MMoE: experts that all tasks share, mixed by a gate of each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from accord.architectures.architecture import Architecture, Head
from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form
from accord.architectures.glance import Glance, gate
from accord.architectures.mixture import Mixture


@dataclass(frozen=True, repr=False)
class MMoE(Architecture):
    """Multi-gate mixture of experts: ``y_t = head_t(sum_e g_te(x) f_e(x))`` with ``g_t(x) = softmax(W_t s(x) + b_t)``.

    Each expert ``f_e`` is a whole encoder. ``s(x)`` is a summary of the raw input (``Glance``). Tasks share experts and
    own gates and heads. The paper's gates have no ``b_t``; with it a gate may ignore its input.

    Source: Ma et al. 2018, https://doi.org/10.1145/3219819.3220007, section 4.2.

    Args:
        experts: how many encoders.

    Example:
        >>> from accord.architectures import MLP, vector
        >>> model = MMoE(experts=3).build(MLP(), Form("vector", 5), {"a": vector(3), "b": vector(1)})
        >>> {task: tuple(y.shape) for task, y in model(torch.zeros(2, 5)).items()}
        {'a': (2, 3), 'b': (2, 1)}
    """

    experts: int = 4

    name: ClassVar[str] = "mmoe"

    def __post_init__(self) -> None:
        positive(self)

    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """The experts, then a gate and a head for each task."""
        experts = [encoder.build(inputs) for _ in range(self.experts)]
        glance = Glance(inputs)
        gates = {task: gate(glance.width, self.experts) for task in heads}
        return Mixture(experts, glance, gates, {task: head(experts[0].output) for task, head in heads.items()})
