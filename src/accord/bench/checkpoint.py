"""Checkpoints: nested state in one safetensors file, with its structure as JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from accord.bench import files
from accord.errors import AccordError

HEADER = 8  # safetensors begins with the length of its JSON header, 8 bytes little endian


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state: there whole or not at all.

    Args:
        path: of the file.
        state: dicts (keys are strings or whole numbers), lists and tuples of tensors, arrays, numbers, strings, None.

    Raises:
        AccordError: if the file cannot be written.
        TypeError: for anything else in the state, saying where.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder) / "state", {"betas": (0.9, 0.99), "state": {0: torch.ones(2)}})
        ...     load(Path(folder) / "state")
        {'betas': (0.9, 0.99), 'state': {0: tensor([1., 1.])}}
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_pack(state, tensors, "state"))
    content = save_tensors(tensors, {"structure": structure, "sha256": _digest(structure, tensors)})
    files.write(path, content)


def load(path: Path) -> dict[str, Any]:
    """Read what ``save`` wrote; every bit of it is checked.

    Raises:
        AccordError: if the file cannot be read, or is not exactly what was written.
    """
    try:
        content = path.read_bytes()
        tensors = load_tensors(content)
        length = int.from_bytes(content[:HEADER], "little")
        about = json.loads(content[HEADER : HEADER + length])["__metadata__"]
        structure = about["structure"]
        if about["sha256"] != _digest(structure, tensors):
            raise ValueError("its checksum differs")
        state: dict[str, Any] = _unpack(json.loads(structure), tensors)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise damaged(path, error) from None
    return state


def damaged(path: Path, error: Exception) -> AccordError:
    """The error for a checkpoint that cannot be used."""
    return AccordError(
        f"{path} is damaged: {' '.join(str(error).split()) or type(error).__name__}. "
        f"Remove it to begin this run anew, or the folder {path.parent}."
    )


def _pack(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """The value as JSON; tensors are put aside and referred to by number. Every list is marked by what it was."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        name = str(len(tensors))
        tensors[name] = torch.as_tensor(value).detach().cpu().clone().contiguous()  # a copy: no two share memory
        return [kind, name]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, *(_pack(item, tensors, f"{where}[{i}]") for i, item in enumerate(value))]
    if isinstance(value, dict):
        if wrong := [key for key in value if not isinstance(key, str | int)]:
            raise TypeError(f"{where} has the key {wrong[0]!r}; expected strings or whole numbers")
        return ["dict", *([key, _pack(item, tensors, f"{where}[{key!r}]")] for key, item in value.items())]
    raise TypeError(f"{where} is a {type(value).__name__}; expected tensors, numbers, strings, lists or dicts of them")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, *items = value
    match kind:
        case "tensor":
            return tensors[items[0]]
        case "array":
            return tensors[items[0]].numpy()
        case "list":
            return [_unpack(item, tensors) for item in items]
        case "tuple":
            return tuple(_unpack(item, tensors) for item in items)
        case "dict":
            return {key: _unpack(item, tensors) for key, item in items}
    raise ValueError(f"unknown kind {kind!r}")


def _digest(structure: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over structure and tensors; safetensors itself checks the layout only."""
    found = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)  # one element may have a stride of 0
        found.update(flat.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
