"""Links to data sets in the layout of their originators."""

from __future__ import annotations

import os
from pathlib import Path

from accord.data.catalogue import DATASETS, DataSet
from accord.data.locate import ORIGINALS, places
from accord.data.places import destination
from accord.errors import AccordError


def link(dataset: DataSet, target: Path) -> Path:
    """Make ``originals/NAME`` below the data folder a link to a folder that the user has; see ``data.original``.

    Args:
        dataset: of the kind ``original``.
        target: the folder.

    Returns:
        The link; one that was there is replaced.

    Raises:
        AccordError: for another kind of data set, if there is no such folder, or the link cannot be made.
    """
    if dataset.kind != "original":
        known = ", ".join(name for name, each in DATASETS.items() if each.kind == "original")
        raise AccordError(
            f"{dataset.name} is not read from a folder of its originators ({known} are); see accord data get "
            f"{dataset.name}."
        )
    target = target.expanduser().absolute()
    if not target.is_dir():
        raise AccordError(f"{target} is no folder; {dataset.name} should hold {dataset.layout}.")
    path = destination() / ORIGINALS / dataset.name
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_symlink():
            raise AccordError(f"{path} is there already and no link; remove it first.")
        try:
            os.symlink(target, beside, target_is_directory=True)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise AccordError(f"the link {path} cannot be made ({error.strerror or error}).") from None
    return path


def linked(dataset: DataSet) -> Path | None:
    """The folder of an original, if it is at hand."""
    found = (place / ORIGINALS / dataset.name for place in places())
    return next((path for path in found if path.is_dir()), None)
