"""The catalogue: what is known of each data set, with files, checksums, licence and citation."""

from __future__ import annotations

from accord.data.catalogue.dataset import SHARING as SHARING
from accord.data.catalogue.dataset import DataSet as DataSet
from accord.data.catalogue.dataset import File as File
from accord.data.catalogue.dataset import Public as Public
from accord.data.catalogue.events import EVENTS
from accord.data.catalogue.multitask import MULTITASK
from accord.data.catalogue.originals import ORIGINALS
from accord.errors import AccordError, nearest

DATASETS: dict[str, DataSet] = {each.name: each for each in (*MULTITASK, *EVENTS, *ORIGINALS)}


def dataset(name: str) -> DataSet:
    """The entry of a data set.

    Raises:
        AccordError: if there is none, with the nearest name.

    Example:
        >>> dataset("adult").licence
        'CC BY 4.0'
    """
    if name not in DATASETS:
        raise AccordError(f"data set {name!r} is unknown.{nearest(name, DATASETS)}")
    return DATASETS[name]
