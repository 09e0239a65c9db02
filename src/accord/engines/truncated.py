"""Gradients of a stretch of the graph in groups of parameters, each backward pass only as deep as its group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

Source = tuple[list[Tensor | GradientEdge], list[Tensor | None]]  # where a task's pass starts, and its cotangents


def gradients(
    sources: Sequence[Source], groups: Sequence[Sequence[Tensor]], extra: Sequence[Sequence[Tensor | GradientEdge]]
) -> Iterator[tuple[list[list[Tensor | None]], list[list[Tensor | None]]]]:
    """K passes per group of parameters; one group's gradients are held at a time.

    With one group this is one pass per task. With B groups of equal depth it costs about K(B+1)/2 passes instead of
    K, which is the price of not holding K x P where the graph has no narrow place to stop at.

    Args:
        sources: for each task where its passes start.
        groups: the parameters in B groups, those nearest to the sources first.
        extra: for each task what is wanted once, with the first group: its own parameters, the cut below.

    Yields:
        For each group ``rows[i][p]``, and the extra gradients (with the first group, empty lists later).
    """
    for number, group in enumerate(groups):
        rows: list[list[Tensor | None]] = []
        extras: list[list[Tensor | None]] = []
        for (outputs, cotangents), wanted in zip(sources, extra, strict=True):
            more = list(wanted) if number == 0 else []
            inputs: list[Any] = [*group, *more]  # autograd takes both, its annotation only one kind at a time
            found: Sequence[Tensor | None] = [None] * len(inputs)
            if outputs and inputs:
                starts: Any = outputs
                found = torch.autograd.grad(starts, inputs, cotangents, retain_graph=True, allow_unused=True)
            rows.append(list(found[: len(group)]))
            extras.append(list(found[len(group) :]))
            del found
        yield rows, extras
        del rows, extras
