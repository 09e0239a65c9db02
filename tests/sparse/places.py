"""What a mask trains, as one array of truth values per parameter: the slow form of everything compact."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accord.sparse import Mask


def trained(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """For each parameter which scalars are trained."""
    found = {}
    for name, p in model.named_parameters():
        kept = torch.full(p.shape, name not in mask.selections and name not in mask.frozen)
        if name in mask.selections:
            kept.view(-1)[mask.selections[name].places(p.shape)] = True
        found[name] = kept
    return found
