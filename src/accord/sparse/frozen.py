"""Evidence that what is not trained did not move: SHA-256 of every frozen scalar."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

from accord.errors import AccordError
from accord.sparse.origin import bits
from accord.sparse.selection import Selection


def digest(tensor: Tensor, selection: Selection | None = None) -> str:
    """SHA-256 of type, shape and bits outside the selection: NaN equals itself, and -0 is not 0.

    Args:
        tensor: on any device.
        selection: places that do not count.

    Example:
        >>> import torch
        >>> from accord.sparse.selection import Flat
        >>> second = Flat(torch.tensor([1]))
        >>> first, moved = torch.tensor([1.0, 2.0, float("nan")]), torch.tensor([1.0, 5.0, float("nan")])
        >>> digest(first) == digest(moved), digest(first, second) == digest(moved, second)
        (False, True)
    """
    rest = tensor if selection is None else selection.clear(tensor.detach())
    hashed = hashlib.sha256(f"{rest.dtype} {tuple(rest.shape)} ".encode())
    hashed.update(bits(rest))
    return hashed.hexdigest()


def check(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Compare digests.

    Args:
        found: by name.
        expected: by name.

    Raises:
        AccordError: naming the first tensors that differ, or because nothing is frozen any more.
    """
    if expected and not found:
        raise AccordError("nothing is frozen any more: merge() has ended this sparse training. Call verify() before.")
    moved = [name for name, value in expected.items() if found.get(name) != value]
    if moved:
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        raise AccordError(
            f"frozen entries have changed in {', '.join(map(repr, moved[:3]))}{more}. Something else wrote to them "
            "(another optimiser, a conversion of types, weights from elsewhere); only training.parameters() may move."
        )
