"""Origin: the fingerprint of the weights that a mask was made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def origin(parameters: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes, types and values, one parameter at a time; the same on every device.

    Args:
        parameters: by name; their order does not matter.

    Example:
        >>> a, b = torch.zeros(2), torch.ones(3)
        >>> origin({"a": a, "b": b}) == origin({"b": b, "a": a}), origin({"a": a}) == origin({"a": b})
        (True, False)
    """
    found = hashlib.sha256()
    for name, parameter in sorted(parameters.items()):
        found.update(json.dumps([name, list(parameter.shape), str(parameter.dtype)]).encode())
        found.update(bits(parameter))
    return found.hexdigest()


def bits(tensor: Tensor) -> memoryview:
    """The values as they are stored, in the order of a contiguous dense tensor.

    Args:
        tensor: of any type, layout and device.
    """
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    values = torch.view_as_real(dense) if dense.is_complex() else dense
    return values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
