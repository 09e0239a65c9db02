"""Score: how much each layer conflicts, from a record of Gramians per module.

Legend: `T` steps looked at, `B` layers, `K` tasks; ``G^b`` the Gramian of layer b, ``cos^b`` its cosines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from accord.conflict import cosine, drop_negligible, group, upper
from accord.errors import AccordError, nearest
from accord.record import Record
from accord.restructure.table import table
from accord.sharing import inside


@dataclass(frozen=True)
class LayerScore:
    """How much one layer conflicts.

    Args:
        layer: its name.
        score: number of pairs of tasks, over all steps looked at, whose cosine is below tau.
        pairs: number of pairs whose cosine is defined; undefined ones count for nothing.
        share: of the negative inner products of all layers, the part that is this one's; NaN where there are none.
        cosine: mean over the defined pairs; NaN where there are none.
        parameters: scalars that a copy holds; None without a model.
    """

    layer: str
    score: int
    pairs: int
    share: float
    cosine: float
    parameters: int | None = None

    @property
    def rate(self) -> float:
        """Share of the defined pairs that are below tau."""
        return self.score / self.pairs if self.pairs else math.nan


class Scores(list[LayerScore]):
    """Layers with their scores, the worst first; as text, a table."""

    def __str__(self) -> str:
        known = any(s.parameters is not None for s in self)
        rows = [
            [s.layer, str(s.score), f"{s.rate:.1%}", f"{s.share:.1%}", f"{s.cosine:+.3f}"]
            + ([f"{s.parameters:,}" if s.parameters is not None else ""] if known else [])
            for s in self
        ]
        header = ["layer", "S-conflicts", "of pairs", "of conflict", "cosine"] + ["parameters"] * known
        return table(header, rows)

    def top(self, n: int) -> list[str]:
        """The names of the first n layers that conflict at all.

        Raises:
            AccordError: for n below 1.
        """
        if n < 1:
            raise AccordError(f"top({n}): expected at least one layer.")
        return [s.layer for s in self[:n] if s.score]


def score(
    record: Record,
    model: nn.Module | None = None,
    *,
    tau: float = 0.0,
    share: float = 0.25,
    layers: Sequence[str] | None = None,
) -> Scores:
    r"""The layers in the order of Recon's S-conflict score, with their exact share of the conflict.

    .. math:: s_b = \sum_{t \le share \cdot T} \#\{i < j : \cos^b_{ij}(t) < \tau\}, \quad
              share_b = \frac{\sum_t \sum_{i<j} \max(0, -G^b_{ij})}{\sum_{b'} \sum_t \sum_{i<j} \max(0, -G^{b'}_{ij})}

    The score counts directions and not lengths: a layer of tiny gradients can lead it and matter little. The share
    counts inner products; they add up over layers, and where it is small, splitting the layer removes little of them.

    Args:
        record: of a run with ``Monitor(blocks="module")`` or finer blocks.
        model: counts the parameters; without it, blocks are ranked that may not be layers.
        tau: a cosine below it is a severe conflict; ``-1 < tau <= 0``. Recon's scripts use -0.1 for
            Multi-Fashion+MNIST, 0 for CityScapes and -0.02 for NYUv2, and split the first 25, 40 and 15 layers.
        share: of the recorded steps, from the first on. Recon looks at the first quarter of a run.
        layers: names of modules whose blocks are to be taken together (``["body.0", "body.1"]``); blocks elsewhere are
            left out, also of the whole that the shares refer to.

    Raises:
        AccordError: for tau or share out of range, a record without Gramians or with one block only, or layers that
            hold no block.

    Source: Shi et al. 2023 (Recon), https://arxiv.org/abs/2302.11289, definition 2 and algorithm 1.

    Example:
        >>> import torch
        >>> from accord.step import Step
        >>> gramians = torch.tensor([[[1.0, -0.5], [-0.5, 1.0]], [[1.0, 0.2], [0.2, 1.0]]])
        >>> steps = [Step(i, ("a", "b"), torch.ones(2), torch.ones(2) > 0, blocks=("body", "neck"), gramians=gramians)
        ...          for i in range(8)]
        >>> print(score(Record.of(steps), tau=-0.1))
        layer  S-conflicts  of pairs  of conflict  cosine
        body             2    100.0%       100.0%  -0.500
        neck             0      0.0%         0.0%  +0.200
    """
    if not -1 < tau <= 0:
        raise AccordError(f"tau={tau}; expected a cosine with -1 < tau <= 0, such as 0 or -0.1.")
    if not 0 < share <= 1:
        raise AccordError(f"share={share}; expected a part of the recorded steps with 0 < share <= 1, such as 0.25.")
    if len(record.tasks) < 2:
        raise AccordError(f"the record is of one task, {', '.join(record.tasks)}: there is nothing to conflict with.")
    gramians, names = _layers(record, model, layers)
    first = gramians[: math.ceil(share * len(gramians))]  # (T, B, K, K)
    cosines = upper(cosine(first))  # (T, B, K(K-1)/2)
    there = ~np.isnan(cosines)
    severe = (there & (np.where(there, cosines, 1.0) < tau)).sum(axis=(0, 2))  # (B,)
    products = np.nan_to_num(upper(first), nan=0.0, posinf=0.0, neginf=0.0)
    negative = np.maximum(0.0, -products).sum(axis=(0, 2))  # (B,)
    whole = negative.sum()
    sizes = _sizes(model, names)
    found = []
    for b, name in enumerate(names):
        count = int(there[:, b].sum())
        mean = float(cosines[:, b][there[:, b]].mean()) if count else math.nan
        part = float(negative[b] / whole) if whole else math.nan
        found.append(LayerScore(name, int(severe[b]), count, part, mean, sizes.get(name)))
    return Scores(sorted(found, key=lambda s: (-s.score, -(0 if math.isnan(s.share) else s.share))))


def _layers(
    record: Record, model: nn.Module | None, layers: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The Gramians (T, B, K, K) of the steps that have some, summed over the blocks of each layer."""
    blocks = record.blocks
    if not blocks or blocks == ("total",):
        raise AccordError(
            f"the record has {'one block for all parameters' if blocks else 'no Gramians'}: which layers conflict is "
            "read off blocks. Record with accord.Monitor(model, blocks='module')."
        )
    steps = np.isfinite(record.gramians).all(axis=(1, 2, 3)) & np.array([s == "parameters" for s in record.space])
    gramians = drop_negligible(record.gramians[steps])
    if not len(gramians):
        raise AccordError("no step of the record has Gramians of parameters; look with Monitor(blocks='module').")
    modules = None if model is None else [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if layers is None and modules is not None:
        layers = [name for name in dict.fromkeys(_owner(block, modules) for block in blocks) if name]
    if layers is None:
        return gramians, blocks
    for layer in layers:
        if not any(inside(block, [layer]) for block in blocks):
            raise AccordError(f"the record has no block in the layer {layer!r}.{nearest(layer, blocks)}")
    kept = [b for b, block in enumerate(blocks) if inside(block, layers)]
    if not kept:
        raise AccordError(f"no block of the record is a module of this model; its blocks: {', '.join(blocks)}.")
    # the longest name that fits is the layer
    by = {blocks[b]: max((layer for layer in layers if inside(blocks[b], [layer])), key=len) for b in kept}
    return group(gramians[:, kept], [blocks[b] for b in kept], by)


def _owner(block: str, modules: Sequence[str]) -> str:
    """The module that a block is of: itself, or the owner of the parameter that it is named after."""
    known = set(modules)
    return block if block in known else block.rpartition(".")[0] if block.rpartition(".")[0] in known else ""


def _sizes(model: nn.Module | None, names: Sequence[str]) -> dict[str, int]:
    if model is None:
        return {}
    return {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in names}
