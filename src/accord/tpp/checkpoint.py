"""Checkpoints: tensors and one JSON text in a safetensors file, which holds no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.tpp.build import rebuild
from accord.tpp.errors import TPPError
from accord.tpp.model import PointProcess

KEY = "accord.tpp"


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and what JSON can say about them; a kill leaves the old file or the new one.

    Args:
        path: of the file; folders are made.
        tensors: by name.
        about: anything JSON can hold.
    """
    try:
        from safetensors.torch import save
    except ModuleNotFoundError:
        raise TPPError("checkpoints need safetensors: pip install 'accord[bench]'") from None
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(save(content, metadata={KEY: json.dumps(about)}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``write`` wrote.

    Raises:
        TPPError: if there is no such file, or it is damaged or another one.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise TPPError("checkpoints need safetensors: pip install 'accord[bench]'") from None
    try:
        if not Path(path).is_file():
            raise TPPError(f"there is no checkpoint {path}.")
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 not a dict
    except OSError as error:
        raise TPPError(f"{path} cannot be read ({error.strerror or error}).") from None
    except TPPError:
        raise
    except (SafetensorError, KeyError, ValueError) as error:
        raise TPPError(f"{path} is no checkpoint of this package, or damaged ({error}).") from None


def save(model: PointProcess, path: str | os.PathLike[str], **about: Any) -> None:
    """Write a model with the settings that make it again.

    Args:
        model: made by ``build``.
        path: of the file, usually ``*.safetensors``.
        about: anything JSON can hold, such as the vocabulary of marks and the unit of time.

    Example:
        >>> import tempfile
        >>> from accord.tpp.build import build
        >>> model = build("lnm", marks=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(model, f"{folder}/lnm.safetensors", unit="day")
        ...     again, about = load(f"{folder}/lnm.safetensors")
        >>> about, all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
        ({'unit': 'day'}, True)
    """
    if not model.settings:
        raise TPPError("only a model made by `build` can be saved: the settings of this one are unknown.")
    write(path, model.state_dict(), {"settings": model.settings, "about": about})


def load(path: str | os.PathLike[str]) -> tuple[PointProcess, dict[str, Any]]:
    """A model that ``save`` wrote, and what was said about it.

    Raises:
        TPPError: if there is no such file, or it is damaged.
    """
    tensors, text = read(path)
    try:
        model = rebuild(text["settings"])
        kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
        model.to(kinds.pop() if len(kinds) == 1 else torch.float32)
        model.load_state_dict(tensors)
        return model, dict(text["about"])
    except (KeyError, TypeError, RuntimeError, TPPError) as error:
        raise TPPError(f"{path} does not fit a model of this version of the package: {error}") from None
