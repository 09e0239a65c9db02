"""Random numbers that are equal on all ranks and are resumed from two integers."""

from __future__ import annotations

import hashlib

import torch


def generator(device: torch.device, own: torch.Generator | None, *key: object) -> torch.Generator:
    """The user's generator where it can be used, else one made for this device and key.

    Args:
        device: where the numbers are drawn.
        own: the user's generator; one on another device seeds the one that is made.
        key: what the numbers depend on: seed, step and name.

    Example:
        >>> import torch
        >>> cpu = torch.device("cpu")
        >>> draws = [torch.rand(2, generator=generator(cpu, None, 0, step, "GradDrop()")) for step in (0, 0, 1)]
        >>> torch.equal(draws[0], draws[1]), torch.equal(draws[0], draws[2])
        (True, False)
    """
    if own is not None and own.device == device:
        return own
    if own is not None:
        seed = int(torch.randint(2**62, (), generator=own, device=own.device))
    else:
        digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
        seed = int.from_bytes(digest, "little") >> 1
    return torch.Generator(device).manual_seed(seed)
