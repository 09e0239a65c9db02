"""The slow, obvious step: every task's gradient by itself, one matrix, one product."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def gradients(model: nn.Module, losses: Mapping[str, Tensor]) -> dict[str, list[Tensor | None]]:
    """Per task, the gradient in each parameter of the model that requires one; None where it is not reached."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return {
        name: list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))
        for name, loss in losses.items()
    }


def is_shared(rows: dict[str, list[Tensor | None]], p: int) -> bool:
    """Whether several tasks reach parameter number p."""
    return sum(row[p] is not None for row in rows.values()) > 1


def gramian(model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:
    """(K, K) float64: the Jacobian of the shared parameters, zero-padded, times its transpose."""
    rows = gradients(model, losses)
    parameters = [p for p in model.parameters() if p.requires_grad]
    jacobian = torch.stack(
        [
            torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten().double()
                    for i, (p, g) in enumerate(zip(parameters, row, strict=True))
                    if is_shared(rows, i)
                ]
            )
            for row in rows.values()
        ]
    )  # (K, P)
    return jacobian @ jacobian.T


def expected(rows: dict[str, list[Tensor | None]], weights: Mapping[str, float], heads: str) -> list[Tensor | None]:
    """What ``.grad`` must be: weighted sums where several tasks meet, own gradients (or weighted ones) elsewhere."""
    found: list[Tensor | None] = []
    for p in range(len(next(iter(rows.values())))):
        weigh = is_shared(rows, p) or heads == "weighted"
        parts = [(weights[k] if weigh else 1.0) * row[p] for k, row in rows.items() if row[p] is not None]
        found.append(sum(parts) if parts else None)  # type: ignore[arg-type]
    return found
