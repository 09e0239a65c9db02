"""School: the examination marks of pupils of 139 schools, each school a task with its own inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from accord.architectures import Form, Head, vector
from accord.data import arrays, find
from accord.errors import AccordError
from accord.problems import seeds, tabular
from accord.problems.composed import ComposedProblem
from accord.problems.problem import Batch, Data, Examples, Metrics

FILE = "mtl/school/school.npz"
SCHOOLS = 139  # K
COLUMNS = 28  # of the file, the last one is a constant
PERCENTAGES = (3, 4)  # pupils with free meals, pupils in the top band; all other columns are 0 or 1
SHARES = (0.6, 0.2)  # train, validation; the rest is for tests
BEST = 70  # mark
FEWEST = 10  # pupils of a school, so that each part has some


@dataclass(frozen=True)
class Strata(Examples):
    """Examples of several schools, of which every batch holds a share of each, so that no task is without a loss.

    With S batches, the n pupils of a school, in random order, lie at equal distances on a circle that is cut into S
    arcs: each batch gets ``n / S`` of them, rounded down or up, and every pupil comes once. Where the circle is cut
    is drawn for each school, so that batches are of about equal size.

    Args:
        tensors: as for ``Examples``, with ``school`` (N,) int64, 0 to K - 1.
        batch: the size of a batch, roughly: the number of batches is ``N / batch``, rounded, but at most the number of
            pupils of the smallest school.
    """

    def __len__(self) -> int:
        fewest = int(self.tensors["school"].bincount().min())
        return max(1, min(fewest, round(self.count / self.batch)))

    def _batches(self, order: Tensor, generator: torch.Generator | None = None) -> Iterator[Batch]:
        steps, school = len(self), self.tensors["school"][order]  # (N,)
        sizes = school.bincount()  # (K,)
        by_school = school.argsort(stable=True)
        order, school = order[by_school], school[by_school]
        place = torch.arange(self.count) - (sizes.cumsum(0) - sizes)[school]  # (N,) among the pupils of a school
        where = (
            torch.arange(len(sizes)) / len(sizes) if generator is None else torch.rand(len(sizes), generator=generator)
        )
        cut = (where * sizes).long()  # (K,)
        step = (place * steps + cut[school]) // sizes[school] % steps  # (N,)
        chosen = order[step.argsort(stable=True)].split(step.bincount(minlength=steps).tolist())
        for rows in chosen:
            batch: Batch = {name: tensor[rows] for name, tensor in self.tensors.items()}
            yield batch if self.prepare is None else self.prepare(batch)


@dataclass(frozen=True, repr=False)
class School(ComposedProblem):
    """Predict a pupil's mark in an examination, 1 to 70, at each of 139 schools in London, 1985 to 1987.

    A pupil belongs to one school: tasks share the model, not the inputs. Inputs are the year, two percentages of the
    school (standardised by the training part), sex, band of ability, ethnic group, and kind of school, mostly 0 or 1.
    Each seed cuts the pupils of each school 60/20/20: train, validation, test. A loss is the mean squared error among
    the pupils of one school, in units of the variance of all training marks; every batch holds pupils of every school.

    The metric is the root mean squared error in marks, which is defined for the four pupils that the smallest school
    has for tests. ``explained`` is ``1 - MSE / V``, V being the variance of all marks of the part; its mean over
    schools, weighted by pupils, is the explained variance of the literature.

    Source: Goldstein 1991; as a multi-task problem: Bakker & Heskes 2003, and Argyriou et al. 2008,
    https://doi.org/10.1007/s10994-007-5040-8, who train on 75 % of the pupils.

    Args:
        epochs: passes over the training part.
        batch: pupils per step, roughly; each step has some of each school, so that 13 steps per epoch are the most.
        lr: learning rate.
        architecture: what the tasks share.
        encoder: what they share it of.
    """

    epochs: int = 15
    batch: int = 1024
    lr: float = 3e-3
    encoder: str = "mlp(width=32)"

    name: ClassVar[str] = "school"
    tasks: ClassVar[tuple[str, ...]] = tuple(f"school_{number:03d}" for number in range(1, SCHOOLS + 1))
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(tasks, ("rmse", False))
    dataset: ClassVar[str] = "school"

    @classmethod
    def tiny(cls) -> School:
        """Two epochs of two steps, eight features."""
        return cls(epochs=2, batch=4600, encoder="mlp(width=8)")

    def data(self, seed: int) -> Data:
        """Another cut of each school for each seed.

        Raises:
            AccordError: if there are more steps in an epoch than pupils in the smallest school.
        """
        inputs, mark, school = _pupils(find(FILE))
        rows = _split(school, np.random.default_rng(seeds.number(seed, self.name)))
        fewest, steps = int(np.bincount(school[rows["train"]]).min()), round(len(rows["train"]) / self.batch)
        if steps > fewest:
            raise AccordError(
                f"school: batch={self.batch} makes {steps} steps, and the smallest school has {fewest} training rows; "
                f"expected batch={-(-len(rows['train']) // fewest)} or more, so that each step has rows of each school."
            )
        x = inputs.copy()
        x[:, PERCENTAGES] = tabular.standardised(inputs[:, PERCENTAGES], rows["train"])
        mean, deviation = tabular.moments(mark[:, None], rows["train"])  # (1,) each
        scale = {"mean": torch.tensor(mean).float(), "deviation": torch.tensor(deviation).float()}
        tensors = {
            "x": torch.tensor(x, dtype=torch.float32),
            "y": torch.tensor(mark, dtype=torch.float32),
            "school": torch.tensor(school),
        }
        parts = {
            name: Strata({key: value[chosen] for key, value in tensors.items()}, self.batch, partial(_with, scale))
            for name, chosen in rows.items()
        }
        return Data(**parts, origin={name: frozenset(chosen.tolist()) for name, chosen in rows.items()})

    def inputs(self) -> Form:
        """All columns but the constant, (N, D)."""
        return Form("vector", COLUMNS - 1)

    def heads(self) -> dict[str, Head]:
        """One number for each school."""
        return dict.fromkeys(self.tasks, vector(1))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean squared errors of standardised marks; 0, connected to the model, for a school without pupils.

        The losses of the schools must not meet anywhere above the shared encoder (not even in a concatenation), or each
        would seem to depend on the heads of all.
        """
        order = batch["school"].argsort(stable=True)
        wanted = ((batch["y"][order] - batch["mean"]) / batch["deviation"])[:, None]  # (N, 1)
        sizes = batch["school"].bincount(minlength=SCHOOLS).tolist()
        outputs, start = model(batch["x"][order]), 0
        losses = {}
        for task, size, target in zip(self.tasks, sizes, wanted.split(sizes), strict=True):
            found = outputs[task][start : start + size]  # (n, 1)
            losses[task] = mse_loss(found, target, reduction="mean" if size else "sum")
            start += size
        return losses

    @torch.no_grad()
    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Root mean squared error in marks, explained variance, and the loss of each school.

        Raises:
            AccordError: if a school has no pupils.
        """
        squared, count = torch.zeros(2, SCHOOLS, dtype=torch.float64)  # (K,) each
        marks, deviation = [], torch.ones(())
        for batch in batches:
            outputs = model(batch["x"])
            every = torch.cat([outputs[task] for task in self.tasks], 1)  # (n, K)
            deviation = batch["deviation"].double()
            predicted = every.gather(1, batch["school"][:, None])[:, 0] * deviation + batch["mean"]  # (n,)
            squared += batch["school"].bincount((predicted - batch["y"]).square(), minlength=SCHOOLS)
            count += batch["school"].bincount(minlength=SCHOOLS)
            marks.append(batch["y"])
        if not count.all():
            raise AccordError(f"school: no row of {self.tasks[int(count.argmin())]}, expected some of each school.")
        error = squared / count  # (K,)
        variance = torch.cat(marks).double().var(correction=0)
        named = {"rmse": error.sqrt(), "explained": 1 - error / variance, "loss": error / deviation.square()}
        return {task: {name: float(values[k]) for name, values in named.items()} for k, task in enumerate(self.tasks)}


def _with(scale: dict[str, Tensor], batch: Batch) -> Batch:
    return batch | scale


def _split(school: NDArray[np.int64], rng: np.random.Generator) -> dict[str, NDArray[np.intp]]:
    """Rows of the three parts: of each school the same shares, at random."""
    order = rng.permutation(len(school))
    order = order[school[order].argsort(kind="stable")]  # by school, at random within
    sizes = np.bincount(school)  # (K,)
    place = np.arange(len(school)) - (sizes.cumsum() - sizes)[school[order]]  # (N,)
    ends = np.round(np.cumsum(SHARES)[:, None] * sizes).astype(int)[:, school[order]]  # (2, N)
    part = (place >= ends).sum(0)
    return {name: np.sort(order[part == number]) for number, name in enumerate(("train", "validation", "test"))}


@cache
def _pupils(path: Path) -> tuple[tabular.Floats, tabular.Floats, NDArray[np.int64]]:
    """Inputs (N, D), marks (N,), schools (N,) from 0."""
    stored = arrays(path, ("X", "y", "task"))
    x, y, task = (stored[name] for name in ("X", "y", "task"))
    if not all(np.issubdtype(array.dtype, np.integer) for array in (x, y, task)):
        kinds = ", ".join(str(array.dtype) for array in (x, y, task))
        raise AccordError(f"{path}: X, y and task are of the types {kinds}, expected whole numbers. Get it anew.")
    if x.ndim != 2 or x.shape[1] != COLUMNS or y.shape != (len(x),) or task.shape != (len(x),):
        raise AccordError(
            f"{path}: X, y and task have the shapes {x.shape}, {y.shape}, {task.shape}, expected (N, {COLUMNS}), (N,), "
            "(N,). Get it anew."
        )
    if not len(y) or y.min() < 1 or y.max() > BEST:
        raise AccordError(f"{path}: a mark in y lies outside 1 to {BEST}, expected marks in that range. Get it anew.")
    if task.min() < 0 or task.max() >= SCHOOLS:
        raise AccordError(f"{path}: task reaches from {task.min()} to {task.max()}, expected 0 to {SCHOOLS - 1}.")
    sizes = np.bincount(task, minlength=SCHOOLS)
    if sizes.min() < FEWEST:
        raise AccordError(
            f"{path}: school {sizes.argmin()} has {sizes.min()} rows, expected at least {FEWEST} of each. Get it anew."
        )
    return x[:, :-1].astype(np.float64), y.astype(np.float64), task.astype(np.int64)
