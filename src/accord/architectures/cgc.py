"""CGC: experts that all tasks share beside experts of each task, on one level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from accord.architectures.architecture import Architecture, Head
from accord.architectures.encoder import EncoderSpec
from accord.architectures.form import Form
from accord.architectures.ple import PLE, check


@dataclass(frozen=True, repr=False)
class CGC(Architecture):
    """Customised gate control: ``y_t = head_t(g_t(x) . [E_s(x), E_t(x)])``, a PLE with a single level.

    Each expert is a whole encoder; a task mixes the shared ones, ``E_s``, with its own, ``E_t``. Without experts of
    their own (``specific=0``) this is MMoE.

    Source: Tang et al. 2020, https://doi.org/10.1145/3383313.3412236, section 4.1.

    Args:
        shared: experts that all tasks share.
        specific: experts of each task, or 0.

    Example:
        >>> import torch
        >>> from accord.architectures import MLP, vector
        >>> model = CGC().build(MLP(), Form("vector", 5), {"a": vector(3), "b": vector(1)})
        >>> {task: tuple(y.shape) for task, y in model(torch.zeros(2, 5)).items()}
        {'a': (2, 3), 'b': (2, 1)}
    """

    shared: int = 2
    specific: int = 1

    name: ClassVar[str] = "cgc"

    def __post_init__(self) -> None:
        check(self, shared=1, specific=0)

    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """Shared experts, experts of each task, gates, heads."""
        return PLE(self.shared, self.specific, levels=1).build(encoder, inputs, heads)
