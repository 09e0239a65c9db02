"""Problem: data + model + losses + metrics. The training loop knows nothing else."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from accord.errors import AccordError

Batch = Any  # what the problem's own `losses` and `metrics` take, often named tensors
Metrics = dict[str, dict[str, float]]


class Part(Protocol):
    """One part of a data set, handed out in batches."""

    def __len__(self) -> int:
        """The number of batches."""

    def __iter__(self) -> Iterator[Batch]:
        """All batches, in an order that never changes."""

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch, in an order that the generator alone decides."""


@dataclass(frozen=True)
class Examples:
    """Examples in memory, handed out in batches by index.

    Args:
        tensors: named tensors with one common first axis `N`.
        batch: size of a batch; the last one may be smaller.
        prepare: makes of a cut of the tensors what `losses` and `metrics` take, such as floats of bytes, so that only
            one batch is ever large; None: nothing to do.
        augment: changes a cut at random before that, while training only (`shuffled`).

    Example:
        >>> examples = Examples({"x": torch.arange(5)}, batch=2)
        >>> len(examples), [batch["x"].tolist() for batch in examples]
        (3, [[0, 1], [2, 3], [4]])
    """

    tensors: Mapping[str, Tensor]
    batch: int
    prepare: Callable[[Batch], Batch] | None = None
    augment: Callable[[Batch, torch.Generator], Batch] | None = None

    @property
    def count(self) -> int:
        """N."""
        return len(next(iter(self.tensors.values())))

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches(torch.arange(self.count))

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch, in an order that the generator alone decides."""
        return self._batches(torch.randperm(self.count, generator=generator), generator)

    def _batches(self, order: Tensor, generator: torch.Generator | None = None) -> Iterator[Batch]:
        for chosen in order.split(self.batch):  # (batch,)
            batch: Batch = {name: tensor[chosen] for name, tensor in self.tensors.items()}
            if self.augment is not None and generator is not None:
                batch = self.augment(batch, generator)
            yield batch if self.prepare is None else self.prepare(batch)


@dataclass(frozen=True)
class Data:
    """The three parts of a data set.

    Args:
        train: one pass over it is an epoch.
        validation: the only part by which anything may be chosen.
        test: for the final figures only.
        origin: for each part, which examples of the source it was made from; the parts must not share any.
    """

    train: Part
    validation: Part
    test: Part
    origin: Mapping[str, frozenset[int]] = field(default_factory=dict)


class Problem(ABC):
    """A task family on real data, configured by the fields of a frozen dataclass; see the module for the members.

    ``repr`` gives the settings that differ from their defaults, and is at once the argument on the command line and the
    name of the folder: ``digits``, ``digits(width=64)``. Three settings belong to every problem, because the training
    loop reads them: ``epochs``, ``batch`` and ``lr``.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    metric: ClassVar[Mapping[str, tuple[str, bool]]]  # task -> (its name in `metrics`, whether higher is better)
    # task -> all its measures -> whether higher is better; what Delta-m takes the mean of. Without it: `metric` alone.
    measures: ClassVar[Mapping[str, Mapping[str, bool]]] = {}
    dataset: ClassVar[str] = ""  # its name in `accord.data.DATASETS`, where citation and licence stand
    epochs: int
    batch: int
    lr: float

    @classmethod
    @abstractmethod
    def tiny(cls) -> Self:
        """Settings with which a run takes less than a second, for tests."""

    @abstractmethod
    def data(self, seed: int) -> Data:
        """The data of this seed; equal for every method, so that comparisons are paired.

        Raises:
            AccordError: if files are missing, saying which and where they belong.
        """

    @abstractmethod
    def model(self, seed: int) -> nn.Module:
        """A fresh model; its initial parameters depend on the seed alone."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by task."""

    @abstractmethod
    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """For each task its metrics over all batches: ``loss``, and all that ``metric`` and ``measures`` name."""

    def after_step(self, model: nn.Module) -> None:  # noqa: B027 most problems have nothing to do here
        """Called after each step of the optimiser, for constraints on parameters."""

    def __repr__(self) -> str:
        different = [
            f"{f.name}={value!r}"
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, f.name)) != f.default
        ]
        return f"{self.name}({', '.join(different)})" if different else self.name

    def check(self) -> None:
        """Refuse settings out of range: every number must be positive, and of the type of its default; a text is free.

        Raises:
            AccordError: naming the setting.
        """
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value, whole = getattr(self, f.name), isinstance(f.default, int)
            if isinstance(f.default, str):
                if not isinstance(value, str):
                    raise AccordError(f"{self.name}: {f.name}={value!r}, expected a text in quotes.")
                continue
            fine = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fine or not 0 < value < float("inf"):
                kind = "whole number" if whole else "number"
                raise AccordError(f"{self.name}: {f.name}={value!r}, expected a {kind} greater than 0.")
            object.__setattr__(
                self, f.name, int(value) if whole else float(value)
            )  # 1 and 1.0 are one learning rate, one folder
