"""What problems on tables have in common: columns read with care, inputs scaled by the training part, binary tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from accord.errors import AccordError
from accord.problems import scores
from accord.problems.problem import Batch, Metrics

if TYPE_CHECKING:
    import polars as pl

RANKING = {"roc_auc": True, "average_precision": True}  # measures of a binary task, and whether higher is better
Floats = NDArray[np.float64]


def names(path: Path) -> list[str]:
    """The names of all columns of a Parquet file.

    Raises:
        AccordError: if the file is damaged.
    """
    return list(_read(path).columns)


def columns(path: Path, numeric: Sequence[str], nominal: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.generic]]:
    """Columns of a Parquet file.

    Args:
        path: of the file.
        numeric: names of columns of numbers.
        nominal: by the name of a column of texts, all levels that it may have.

    Returns:
        By name (N,): numbers as float64, nan where a cell is empty; texts as int64, the index of their level, and the
        number of levels where a cell is empty.

    Raises:
        AccordError: if the file is damaged, lacks a column or has one of another type, if a text is not among the
            levels, or a number is infinite.
    """
    import polars as pl  # an extra

    table = _read(path)
    if missing := [name for name in [*numeric, *nominal] if name not in table.columns]:
        raise AccordError(
            f"{path} lacks the column {missing[0]!r}; it has {_some(table.columns)}. Get it anew, or name it so."
        )
    found: dict[str, NDArray[np.generic]] = {}
    for name in numeric:
        if not table[name].dtype.is_numeric():
            raise AccordError(f"{path}: the column {name!r} holds {table[name].dtype}, expected numbers. Get it anew.")
        values = table[name].cast(pl.Float64).to_numpy()
        if np.isinf(values).any():
            raise AccordError(f"{path}: the column {name!r} holds an infinite number, expected finite ones.")
        found[name] = values
    for name, levels in nominal.items():
        if table[name].dtype != pl.String:
            raise AccordError(f"{path}: the column {name!r} holds {table[name].dtype}, expected texts. Get it anew.")
        if strange := set(table[name].unique().drop_nulls()) - set(levels):
            raise AccordError(f"{path}: {name} is {min(strange)!r} in some row, expected one of {_some(levels)}.")
        codes = table[name].cast(pl.Enum(list(levels))).to_physical().cast(pl.Int64)
        found[name] = codes.fill_null(len(levels)).to_numpy()
    return found


def one_hot(codes: NDArray[np.integer], levels: int) -> Floats:
    """(N, levels + 1): a column for each level, the last one for empty cells.

    Args:
        codes: (N,) 0 to levels.
        levels: how many.

    Example:
        >>> one_hot(np.array([1, 2]), 2)
        array([[0., 1., 0.],
               [0., 0., 1.]])
    """
    return np.eye(levels + 1)[codes]


def moments(values: Floats, train: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Mean and standard deviation (D,) of the training rows, over cells that are not nan.

    Args:
        values: (N, D).
        train: the training rows. A column that is empty in all of them has mean and deviation 0.
    """
    rows = values[train]  # (n, D)
    known = ~np.isnan(rows)
    count = np.maximum(known.sum(0), 1)  # (D,)
    mean = np.where(known, rows, 0).sum(0) / count
    deviation = np.sqrt((np.where(known, rows - mean, 0) ** 2).sum(0) / count)
    constant = deviation <= 1e-9 * np.abs(mean)  # what rounding leaves of equal numbers
    return mean, np.where(constant, 0.0, deviation)


def standardised(values: Floats, train: NDArray[np.intp]) -> Floats:
    """``z = (x - mean) / deviation`` with the statistics of the training rows; 0, the mean, in empty cells.

    A column that does not vary in the training rows is 0 everywhere: nothing can be learnt from it.

    Args:
        values: (N, D), nan in empty cells.
        train: the training rows.

    Returns:
        (N, D) without nan.

    Example:
        >>> standardised(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 9.0]]), np.array([0, 1]))
        array([[-1.,  0.],
               [ 1.,  0.],
               [ 0.,  0.]])
    """
    mean, deviation = moments(values, train)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)  # (D,)
    return np.nan_to_num((values - mean) * scale)  # (N, D)


def binary_losses(model: nn.Module, batch: Batch, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Mean binary cross entropy of each task over its labelled examples.

    A task without a label in the batch has the loss 0, connected to the model: its gradient is 0.

    Args:
        model: gives logits (N, 1) by task.
        batch: ``x`` (N, ...) and ``y`` (N, K) int8: 1, 0, or -1 where there is no label.
        tasks: K names.
    """
    known = batch["y"] >= 0  # (N, K)
    weight = known / known.sum(0).clamp(min=1)  # (N, K)
    target = batch["y"].clamp(min=0).to(weight.dtype)  # (N, K)
    logits = model(batch["x"])
    return {
        task: cross_entropy(logits[task][:, 0], target[:, k], weight[:, k], reduction="sum")
        for k, task in enumerate(tasks)
    }


@torch.no_grad()
def binary_metrics(model: nn.Module, batches: Iterable[Batch], tasks: Sequence[str]) -> Metrics:
    """ROC-AUC, average precision, accuracy, F1 and mean cross entropy of each task over all labelled examples.

    Args:
        model: as for ``binary_losses``.
        batches: of a whole part.
        tasks: K names.

    Raises:
        AccordError: if a task has labels of one class only, or none.
    """
    logits, labels = [], []
    for batch in batches:
        out = model(batch["x"])
        logits.append(torch.cat([out[task] for task in tasks], 1).double())  # (n, K)
        labels.append(batch["y"])
    logit, label = torch.cat(logits), torch.cat(labels)  # (N, K) each
    found: Metrics = {}
    for k, task in enumerate(tasks):
        known = label[:, k] >= 0
        score, actual = logit[known, k], label[known, k] > 0
        counts = scores.confusion(score > 0, actual)
        try:
            ranking = {fn.__name__: fn(score, actual) for fn in (scores.roc_auc, scores.average_precision)}
        except AccordError as error:
            raise AccordError(f"{task}: {error}") from None
        found[task] = {
            **ranking,
            "accuracy": float(scores.accuracy(counts)),
            "f1": float(scores.f1(counts)),
            "loss": float(cross_entropy(score, actual.double())),
        }
    return found


def _read(path: Path) -> pl.DataFrame:
    import polars as pl  # an extra

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AccordError(f"{path} cannot be read ({one_line(error)}); expected a Parquet file. Get it anew.") from None


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def one_line(error: Exception) -> str:
    """The first line of the message of an error."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
