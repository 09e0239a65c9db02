"""Masks in files: safetensors, which hold no code, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from accord.errors import AccordError
from accord.sparse.mask import Mask

KEY = "accord.sparse.mask"


def save(mask: Mask, path: str | os.PathLike[str]) -> None:
    """Write a mask; a kill leaves the old file or the new one.

    Args:
        mask: the mask.
        path: of the file, usually ``*.safetensors``; folders are made.

    Raises:
        AccordError: if it cannot be written, or safetensors is not installed.

    Example:
        >>> import tempfile, torch
        >>> from accord.sparse import PSN, select
        >>> mask = select(torch.nn.Linear(4, 2), PSN(k=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(mask, f"{folder}/mask.safetensors")
        ...     load(f"{folder}/mask.safetensors").hash == mask.hash
        True
    """
    try:
        from safetensors.torch import save as packed
    except ModuleNotFoundError:
        raise AccordError("masks in files need safetensors: pip install 'accord[bench]'") from None
    state = mask.state_dict()
    indices: dict[str, Tensor] = state.pop("indices")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                tensors = {name: index.cpu().contiguous() for name, index in indices.items()}
                file.write(packed(tensors, metadata={KEY: json.dumps(state)}))
                file.flush()
                os.fsync(file.fileno())  # else a power failure could keep the new name and lose the content
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise AccordError(f"{path} cannot be written ({error.strerror or error}).") from None


def load(path: str | os.PathLike[str]) -> Mask:
    """The mask of a file, on the CPU; its hash is checked.

    Args:
        path: written by ``save``.

    Raises:
        AccordError: if there is no such file, it cannot be read, or it is damaged or another one.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise AccordError("masks in files need safetensors: pip install 'accord[bench]'") from None
    if not Path(path).is_file():
        raise AccordError(f"there is no mask {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            state: Mapping[str, Any] = json.loads((file.metadata() or {})[KEY])
            indices = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except OSError as error:
        raise AccordError(f"{path} cannot be read ({error.strerror or error}).") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise AccordError(f"{path} is no mask, or damaged ({error}).") from None
    try:
        return Mask.from_state({**state, "indices": indices})
    except AccordError as error:
        raise AccordError(f"{path}: {error}") from None
    except (TypeError, AttributeError, KeyError) as error:  # the text in it is JSON, but of another form
        raise AccordError(f"{path} is no mask, or damaged ({error}).") from None
