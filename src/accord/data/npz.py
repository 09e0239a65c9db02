"""Arrays from ``.npz`` files, without ever unpickling anything."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError


def arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """The named arrays of an ``.npz`` file.

    Args:
        path: of the file.
        names: of the arrays wanted.

    Raises:
        AccordError: if the file is damaged, lacks an array, or would have to be unpickled.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise AccordError(
            f"{path} cannot be read ({error}); expected the arrays {', '.join(names)}. Get it anew."
        ) from None
