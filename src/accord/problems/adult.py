"""Adult: three binary questions about people of a census, the tasks of the first mixture-of-experts study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord.architectures import Form, Head, vector
from accord.data import find
from accord.errors import AccordError
from accord.problems import seeds, tabular
from accord.problems.composed import ComposedProblem
from accord.problems.cut import split
from accord.problems.problem import Batch, Data, Examples, Metrics

FILE = "mtl/adult/adult.parquet"
VALIDATION = 0.1  # of the official training part
FULL_TIME = 40  # hours per week
NUMERIC = ("age", "education_num", "capital_gain", "capital_loss")  # inputs
# Levels of the nominal inputs as the originators list them, so that the form of the inputs depends on no split.
LEVELS = {
    "workclass": "Private Self-emp-not-inc Self-emp-inc Federal-gov Local-gov State-gov Without-pay Never-worked",
    "education": "Bachelors Some-college 11th HS-grad Prof-school Assoc-acdm Assoc-voc 9th 7th-8th 12th Masters "
    "1st-4th 10th Doctorate 5th-6th Preschool",
    "occupation": "Tech-support Craft-repair Other-service Sales Exec-managerial Prof-specialty Handlers-cleaners "
    "Machine-op-inspct Adm-clerical Farming-fishing Transport-moving Priv-house-serv Protective-serv Armed-Forces",
    "race": "White Asian-Pac-Islander Amer-Indian-Eskimo Other Black",
    "sex": "Female Male",
    "native_country": "United-States Cambodia England Puerto-Rico Canada Germany Outlying-US(Guam-USVI-etc) India "
    "Japan Greece South China Cuba Iran Honduras Philippines Italy Poland Jamaica Vietnam Mexico Portugal Ireland "
    "France Dominican-Republic Laos Ecuador Taiwan Haiti Columbia Hungary Guatemala Nicaragua Scotland Thailand "
    "Yugoslavia El-Salvador Trinadad&Tobago Peru Hong Holand-Netherlands",
}
NOMINAL = {name: tuple(levels.split()) for name, levels in LEVELS.items()}
MARITAL = (
    "Married-civ-spouse", "Divorced", "Never-married", "Separated", "Widowed", "Married-spouse-absent",
    "Married-AF-spouse",
)  # fmt: skip
COLUMNS = len(NUMERIC) + sum(len(levels) + 1 for levels in NOMINAL.values())  # D


@dataclass(frozen=True, repr=False)
class Adult(ComposedProblem):
    """Does a person earn more than 50000 dollars, was never married, works more than 40 hours a week?

    Of 48842 people in the US census of 1994. What gives a target away is no input: marital status, relationship and
    hours per week; nor is the sampling weight. Nominal inputs become one column for each level and one for "unknown";
    numbers are standardised by the training part. The official test part (16281) stays; a tenth of the official
    training part, drawn anew for each seed, is kept for validation.

    Losses are binary cross entropies. Source: the first two tasks are those of Ma et al. 2018 (MMoE),
    https://doi.org/10.1145/3219819.3220007, section 6.2, on UCI's smaller census; data: Kohavi & Becker, UCI Adult.

    Args:
        limit: at most so many people in each part.
        epochs: passes over the training part.
        batch: people per step.
        lr: learning rate.
        architecture: what the tasks share.
        encoder: what they share it of.
    """

    limit: int = 1_000_000
    epochs: int = 12
    batch: int = 256
    lr: float = 1e-3

    name: ClassVar[str] = "adult"
    tasks: ClassVar[tuple[str, ...]] = ("income", "never_married", "long_hours")
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(tasks, ("roc_auc", True))
    measures: ClassVar[dict[str, dict[str, bool]]] = dict.fromkeys(tasks, tabular.RANKING)
    dataset: ClassVar[str] = "adult"

    @classmethod
    def tiny(cls) -> Adult:
        """Two epochs of four steps."""
        return cls(limit=256, epochs=2, batch=64)

    def data(self, seed: int) -> Data:
        """Other people for validation, and so other means and deviations, for each seed."""
        numbers, levels, labels, tested = _census(find(FILE))
        rng = np.random.default_rng(seeds.number(seed, self.name))
        official = np.flatnonzero(~tested)
        fitted, kept = (official[part] for part in split(len(official), (1 - VALIDATION,), rng))
        rows = {"train": fitted, "validation": kept, "test": np.flatnonzero(tested)}
        rows = {name: chosen[: self.limit] for name, chosen in rows.items()}
        x = np.hstack([tabular.standardised(numbers, rows["train"]), levels]).astype(np.float32)  # (N, D)
        tensors = {"x": torch.from_numpy(x), "y": torch.from_numpy(labels)}
        parts = {
            name: Examples(
                {key: value[chosen] for key, value in tensors.items()}, self.batch if name == "train" else 4096
            )
            for name, chosen in rows.items()
        }
        return Data(**parts, origin={name: frozenset(chosen.tolist()) for name, chosen in rows.items()})

    def inputs(self) -> Form:
        """Numbers and levels, (N, D)."""
        return Form("vector", COLUMNS)

    def heads(self) -> dict[str, Head]:
        """One logit for each task."""
        return dict.fromkeys(self.tasks, vector(1))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Binary cross entropies."""
        return tabular.binary_losses(model, batch, self.tasks)

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """ROC-AUC, average precision, accuracy, F1 and cross entropy."""
        return tabular.binary_metrics(model, batches, self.tasks)


@cache
def _census(path: Path) -> tuple[tabular.Floats, tabular.Floats, NDArray[np.int8], NDArray[np.bool_]]:
    """Numbers (N, 4), levels (N, D - 4), labels (N, K), and who belongs to the official test part (N,)."""
    others = {"marital_status": MARITAL, "income": ("<=50K", ">50K"), "split": ("train", "test")}
    found = tabular.columns(path, [*NUMERIC, "hours_per_week"], NOMINAL | others)
    for name in [*NUMERIC, "hours_per_week"]:
        if np.isnan(found[name]).any():
            raise AccordError(f"{path}: {name} is empty in some row, expected a number in each. Get it anew.")
    for name, values in others.items():
        if (found[name] == len(values)).any():
            raise AccordError(f"{path}: {name} is empty in some row, expected one of {', '.join(values)}. Get it anew.")
    tested = found["split"] == 1
    if tested.all() or tested.sum() == 0:
        raise AccordError(f"{path}: all {len(tested)} rows have one split, expected rows of train and of test.")
    numbers = np.stack([found[name] for name in NUMERIC], 1).astype(np.float64)
    levels = np.hstack([tabular.one_hot(found[name].astype(np.int64), len(NOMINAL[name])) for name in NOMINAL])
    never = found["marital_status"] == MARITAL.index("Never-married")
    labels = np.stack([found["income"] == 1, never, found["hours_per_week"].astype(np.float64) > FULL_TIME], 1)
    return numbers, levels, labels.astype(np.int8), tested
