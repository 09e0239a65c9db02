"""PLE: experts that all tasks share beside experts of each task, separated progressively over several levels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from accord.architectures.architecture import Architecture, Head
from accord.architectures.encoder import Encoder, EncoderSpec, Spec
from accord.architectures.form import Form
from accord.architectures.glance import Glance, gate, mix
from accord.architectures.heads import pooled
from accord.errors import AccordError


@dataclass(frozen=True, repr=False)
class PLE(Architecture):
    """Progressive layered extraction: at every level each task mixes the shared experts with its own.

    The stages of an encoder are cut into ``levels`` consecutive groups, as even as can be (earlier groups get the
    surplus); an expert is an encoder that runs one group at each level. With ``h_t`` and ``h_s`` what a task's own and
    the shared experts take (both the raw input at level 1), ``E_t`` and ``E_s`` their outputs at a level:

        ``h_t <- g_t . [E_s(h_s), E_t(h_t)]``    and    ``h_s <- g_s . [E_s(h_s), E_1(h_1), ..., E_K(h_K)]``

    ``g = softmax(W s + b)`` looks at a summary of the raw input (``Glance``) at level 1, at its pooled ``h`` later.
    There is no ``h_s`` after the last level; the head of a task takes ``h_t``. At the last level a task alone owns its
    experts, gate and head; at earlier ones ``g_s`` lets the others reach its experts.

    Source: Tang et al. 2020, https://doi.org/10.1145/3383313.3412236, section 4.2.

    Args:
        shared: experts that all tasks share.
        specific: experts of each task, or 0.
        levels: at most the number of stages of the encoder.

    Example:
        >>> from accord.architectures import MLP, vector
        >>> model = PLE(levels=2).build(MLP(layers=2), Form("vector", 5), {"a": vector(3), "b": vector(1)})
        >>> {task: tuple(y.shape) for task, y in model(torch.zeros(2, 5)).items()}
        {'a': (2, 3), 'b': (2, 1)}
    """

    shared: int = 2
    specific: int = 1
    levels: int = 2

    name: ClassVar[str] = "ple"

    def __post_init__(self) -> None:
        check(self, shared=1, specific=0, levels=1)

    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """Shared experts, experts of each task, gates from the first level to the last, heads.

        Raises:
            AccordError: if the encoder has fewer stages than there are levels.
        """
        common = [encoder.build(inputs) for _ in range(self.shared)]
        own = {task: [encoder.build(inputs) for _ in range(self.specific)] for task in heads}
        forms = common[0].forms
        if len(forms) < self.levels:
            raise AccordError(
                f"{self.name}: levels={self.levels}, but the encoder {encoder.name} has {len(forms)} stage(s) to put "
                f"on them; choose levels={len(forms)} or fewer, or an encoder with more stages."
            )
        groups = _groups(len(forms), self.levels)
        glance = Glance(inputs)
        widths = [glance.width, *(forms[group[-1]].width for group in groups[:-1])]
        gates = [{task: gate(width, self.shared + self.specific) for task in heads} for width in widths]
        everyone = self.shared + self.specific * len(heads)
        joint = [gate(width, everyone) for width in widths[:-1]]
        return _PLE(common, own, groups, glance, gates, joint, {t: head(forms[-1]) for t, head in heads.items()})


def check(spec: Spec, **least: int) -> None:
    """Refuse settings that are not whole numbers, or smaller than they may be.

    Raises:
        AccordError: naming the setting.
    """
    for name, bound in least.items():
        value = getattr(spec, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < bound:
            raise AccordError(f"{spec.name}: {name}={value!r}, expected a whole number from {bound}.")


def _groups(stages: int, levels: int) -> list[range]:
    ends = [-(-stages * level // levels) for level in range(levels + 1)]
    return [range(first, end) for first, end in itertools.pairwise(ends)]


def _run(encoders: nn.Module, group: range, x: Tensor, valid: Tensor | None) -> list[Tensor]:
    """(N, E, ...) what some stages of each encoder make of one input, as a list that is empty without encoders."""
    outputs = []
    for encoder in cast(Iterable[Encoder], encoders):
        y = x
        for index in group:
            y = encoder.stage(index, y, valid)
        outputs.append(y)
    return [torch.stack(outputs, 1)] if outputs else []


class _PLE(nn.Module):
    def __init__(
        self,
        common: list[Encoder],
        own: dict[str, list[Encoder]],
        groups: Sequence[range],
        glance: Glance,
        gates: list[dict[str, nn.Module]],
        joint: list[nn.Module],
        heads: dict[str, nn.Module],
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.common = nn.ModuleList(common)
        self.own = nn.ModuleDict({task: nn.ModuleList(experts) for task, experts in own.items()})
        self.glance = glance
        self.gates = nn.ModuleList(nn.ModuleDict(level) for level in gates)
        self.joint = nn.ModuleList(joint)
        self.heads = nn.ModuleDict(heads)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        h, h_shared = dict.fromkeys(self.heads, x), x
        seen_shared = self.glance(x, valid)  # (N, G)
        seen = dict.fromkeys(self.heads, seen_shared)
        for level, group in enumerate(self.groups):
            gates = cast(nn.ModuleDict, self.gates[level])
            common = _run(self.common, group, h_shared, valid)
            own = {task: _run(self.own[task], group, h[task], valid) for task in self.heads}
            h = {task: mix(gates[task](seen[task]), *common, *own[task]) for task in self.heads}
            if level + 1 < len(self.groups):
                everyone = [*common, *(part for parts in own.values() for part in parts)]
                h_shared = mix(self.joint[level](seen_shared), *everyone)
                seen, seen_shared = {task: pooled(y, valid) for task, y in h.items()}, pooled(h_shared, valid)
        return {task: head(h[task], valid) for task, head in self.heads.items()}
