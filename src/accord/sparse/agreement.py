"""The same mask on all ranks."""

from __future__ import annotations

import torch
from torch import distributed

from accord.errors import AccordError


def agree(hash: str, device: torch.device) -> None:
    """Compare a hash over the ranks of the default process group; nothing without one.

    Args:
        hash: SHA-256, in hexadecimal digits.
        device: on which the group communicates.

    Raises:
        AccordError: on every rank, if one of them has another.

    Example:
        >>> agree("00", torch.device("cpu"))
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return
    own = torch.frombuffer(bytearray.fromhex(hash), dtype=torch.uint8).to(device)
    others = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(others, own)
    differ = [rank for rank, other in enumerate(others) if not torch.equal(other, others[0])]
    if differ:
        raise AccordError(
            f"ranks {differ} have another mask than rank 0. Give all ranks the same weights and seed before "
            "selecting, or save the mask on one and load it on the others."
        )
