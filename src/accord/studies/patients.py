"""442 patients: the setting of the study of loss scales, with one loss in thousands and one below one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from accord.curves import chance_level

TASKS = ("T1", "T2")
TEST, VALIDATION = 142, 80  # of 442 patients; 220 are left for training
MEASUREMENTS = 9


@dataclass(frozen=True)
class Patients:
    """A part of the data.

    Args:
        x: (N, 9) standardised measurements.
        progression: (N,) of the disease after a year, in its own unit, from the mean of the training part on.
        sex: (N,) 0 or 1.
    """

    x: Tensor
    progression: Tensor
    sex: Tensor

    def at(self, i: Tensor) -> Patients:
        """Some of them."""
        return Patients(self.x[i], self.progression[i], self.sex[i])


@dataclass(frozen=True)
class Data:
    """Three disjoint parts, and the order of the batches."""

    train: Patients
    validation: Patients
    test: Patients
    seed: int

    @property
    def chance(self) -> dict[str, float]:
        """The loss of the best constant answer for the training part: the variance, and the entropy of the sexes."""
        return {
            "T1": chance_level(self.train.progression.numpy(), "squared error"),
            "T2": chance_level(self.train.sex.numpy()),
        }

    def batches(self, batch: int, steps: int) -> Iterator[Patients]:
        """Training patients of each step, the same for whoever asks."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(steps):
            yield self.train.at(torch.randperm(len(self.train.x), generator=generator)[:batch])


def data(seed: int, shuffled: bool = False) -> Data:
    """The patients of scikit-learn's ``diabetes``, divided by seed; scaled by means of the training part.

    Args:
        seed: of the division and of the batches.
        shuffled: the sexes are dealt out at random, so that there is nothing to learn about them.

    Example:
        >>> found = data(0)
        >>> found.train.x.shape, len(found.test.x), found.chance["T1"] > 3000
        (torch.Size([220, 9]), 142, True)
    """
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    sex = found.data[:, 1] > 1.5  # (442,), coded 1 and 2
    x, y = np.delete(found.data, 1, axis=1), found.target  # (442, 9), (442,)
    order = np.random.default_rng(seed).permutation(len(y))  # (442,)
    if shuffled:
        sex = sex[np.random.default_rng(seed + 1).permutation(len(sex))]  # (442,)
    test, validation, train = np.split(order, [TEST, TEST + VALIDATION])
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)  # (442, 9)
    y = y - y[train].mean()  # (442,), or every arm would spend its steps on learning an offset

    def part(i: Any) -> Patients:
        return Patients(torch.tensor(x[i]).float(), torch.tensor(y[i]).float(), torch.tensor(sex[i]).long())

    return Data(part(train), part(validation), part(test), seed)


class Net(nn.Module):
    """One shared layer and a head for each task.

    Args:
        seed: of the initial weights.
        noise: has ``s1`` and ``s2``, log variances from 0 on, that whoever trains the net learns along with it.
        width: of the shared layer.

    Example:
        >>> sorted(Net(0).losses(data(0).test))
        ['T1', 'T2']
    """

    def __init__(self, seed: int, noise: bool = False, width: int = 16) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Linear(MEASUREMENTS, width), nn.Tanh())
            self.progression, self.sex = nn.Linear(width, 1), nn.Linear(width, 2)
        self.s1, self.s2 = (nn.Parameter(torch.zeros(()), requires_grad=noise) for _ in TASKS)

    def losses(self, part: Patients) -> dict[str, Tensor]:
        """Squared error in squared units, and cross entropy in nat."""
        features = self.body(part.x)  # (N, D)
        return {
            "T1": mse_loss(self.progression(features).squeeze(-1), part.progression),
            "T2": cross_entropy(self.sex(features), part.sex),
        }

    @torch.no_grad()
    def evaluate(self, part: Patients) -> dict[str, float]:
        """``T1 loss``, ``T2 loss`` and ``T2 accuracy``."""
        right = self.sex(self.body(part.x)).argmax(-1) == part.sex  # (N,)
        found = {f"{name} loss": float(loss) for name, loss in self.losses(part).items()}
        return found | {"T2 accuracy": float(right.double().mean())}
