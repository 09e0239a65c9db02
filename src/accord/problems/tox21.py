"""Tox21: twelve toxicity assays of molecules, with missing labels."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
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

FILE = "mtl/tox21/tox21.csv.gz"
SHARES = (0.8, 0.1)  # of distinct SMILES: train, validation; the rest is for tests
ASSAYS = (
    "NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma", "SR-ARE", "SR-ATAD5",
    "SR-HSE", "SR-MMP", "SR-p53",
)  # fmt: skip
# an atom in brackets, a two-letter element, a two-digit ring bond, or one character
TOKEN = re.compile(r"\[[^\]\n]*\]|Br|Cl|%\d\d|.|\n", re.DOTALL)
LONGEST = 4  # n-gram


@dataclass(frozen=True, repr=False)
class Tox21(ComposedProblem):
    """Which of twelve assays does a molecule set off?

    7831 molecules in 8014 rows; 17 % of the labels are missing. A loss is the mean binary cross entropy over the
    labelled molecules of the batch, and 0 (with gradient 0) where there is none. Each seed cuts the distinct SMILES
    80/10/10 at random, as MoleculeNet recommends for this set, so that copies of a molecule never lie in two parts.

    Inputs are counts of the runs of one to four SMILES tokens, hashed into ``buckets`` columns, as ``log(1 + count)``:
    text alone, no chemistry library. Fingerprints of the molecular graph (ECFP) are stronger; figures compare with
    each other, not with tables that use those.

    Source: Wu et al. 2018 (MoleculeNet), https://doi.org/10.1039/c7sc02664a, metric ROC-AUC; data: Tox21 Data
    Challenge 2014, https://tripod.nih.gov/tox21/challenge.

    Args:
        buckets: columns of the inputs.
        limit: at most so many rows in each part.
        epochs: passes over the training part.
        batch: molecules per step.
        lr: learning rate.
        architecture: what the tasks share.
        encoder: what they share it of.
    """

    buckets: int = 1024
    limit: int = 1_000_000
    epochs: int = 12
    batch: int = 64
    lr: float = 3e-4

    name: ClassVar[str] = "tox21"
    tasks: ClassVar[tuple[str, ...]] = ASSAYS
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(ASSAYS, ("roc_auc", True))
    measures: ClassVar[dict[str, dict[str, bool]]] = dict.fromkeys(ASSAYS, tabular.RANKING)
    dataset: ClassVar[str] = "tox21"

    @classmethod
    def tiny(cls) -> Tox21:
        """Two epochs of four steps."""
        return cls(buckets=64, limit=512, epochs=2, batch=128)

    def data(self, seed: int) -> Data:
        """Another cut for each seed.

        Raises:
            AccordError: if a part lacks active or inactive molecules of an assay.
        """
        labels, smiles = _assays(find(FILE))
        _, molecule = np.unique(smiles, return_inverse=True)  # (N,)
        rng = np.random.default_rng(seeds.number(seed, self.name))
        groups = split(int(molecule.max()) + 1, SHARES, rng)
        x = torch.from_numpy(_counts(smiles, self.buckets))  # (N, D)
        parts, origin = {}, {}
        for name, group in zip(("train", "validation", "test"), groups, strict=True):
            rows = np.flatnonzero(np.isin(molecule, group))[: self.limit]
            tensors = {"x": x[rows], "y": torch.from_numpy(labels[rows])}
            parts[name] = Examples(tensors, self.batch if name == "train" else 1024, _logarithms)
            origin[name] = frozenset(molecule[rows].tolist())
            for k, assay in enumerate(ASSAYS):
                if not {0, 1} <= set(labels[rows, k].tolist()):
                    raise AccordError(
                        f"tox21: the {name} part of seed {seed} lacks active or inactive molecules for {assay}; "
                        "use another seed, or a larger limit."
                    )
        return Data(**parts, origin=origin)

    def inputs(self) -> Form:
        """Counts, (N, D)."""
        return Form("vector", self.buckets)

    def heads(self) -> dict[str, Head]:
        """One logit for each assay."""
        return dict.fromkeys(self.tasks, vector(1))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Binary cross entropies over the labelled molecules."""
        return tabular.binary_losses(model, batch, self.tasks)

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """ROC-AUC, average precision, accuracy, F1 and cross entropy over the labelled molecules."""
        return tabular.binary_metrics(model, batches, self.tasks)


def _logarithms(batch: Batch) -> Batch:
    return batch | {"x": batch["x"].float().log1p()}


def hashed(texts: Sequence[str], buckets: int) -> NDArray[np.uint8]:
    """How often runs of one to four SMILES tokens occur, hashed into a fixed number of columns.

    A token is an atom in brackets, an element, a bond, a branch or a ring number. The hash of a run is a polynomial in
    the CRC-32 of its tokens modulo 2^64, so that it is the same everywhere and needs no vocabulary.

    Args:
        texts: N SMILES.
        buckets: D.

    Returns:
        (N, D), counts above 255 as 255.

    Example:
        >>> hashed(["CCO", "OCC"], 64).sum(1)  # 3 tokens, 2 pairs, 1 triple
        array([6, 6], dtype=uint64)
    """
    tokens = TOKEN.findall("\n".join(texts))
    known = {token: zlib.crc32(token.encode()) for token in set(tokens)}
    code = np.array([known[token] for token in tokens], np.uint64)  # (n,)
    row = np.cumsum([token == "\n" for token in tokens])  # (n,)
    inside = code != zlib.crc32(b"\n")
    counts = np.zeros(len(texts) * buckets, np.int64)
    value, whole = np.zeros_like(code), np.ones_like(inside)
    for length in range(1, min(LONGEST, len(code)) + 1):
        rest = len(code) - length + 1
        # runs of this length from each token on: those of one token less, and the next token
        value = value[:rest] * np.uint64(0x9E3779B97F4A7C15) + code[length - 1 :] + np.uint64(1)
        whole = whole[:rest] & inside[length - 1 :]
        mixed = (value ^ (value >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)  # low bits depend on all bits
        bucket = ((mixed >> np.uint64(32)) % np.uint64(buckets)).astype(np.int64)
        counts += np.bincount((row[:rest] * buckets + bucket)[whole], minlength=len(counts))
    return np.minimum(counts, 255).astype(np.uint8).reshape(len(texts), buckets)


@cache
def _counts(smiles: tuple[str, ...], buckets: int) -> NDArray[np.uint8]:
    return hashed(smiles, buckets)


@cache
def _assays(path: Path) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Labels (N, K), -1 where there is none, and SMILES (N,)."""
    import polars as pl  # an extra

    try:
        table = pl.read_csv(path, schema_overrides={"smiles": pl.String, **dict.fromkeys(ASSAYS, pl.Float64)})
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AccordError(
            f"{path} cannot be read ({tabular.one_line(error)}); expected a gzipped CSV file with a label 0, 1 or "
            "nothing in each assay. Get it anew."
        ) from None
    if missing := [name for name in (*ASSAYS, "smiles") if name not in table.columns]:
        raise AccordError(f"{path} lacks the column {missing[0]!r}, expected twelve assays and smiles. Get it anew.")
    if not len(table) or not table["smiles"].str.contains(r"^\S+$").fill_null(False).all():
        raise AccordError(f"{path}: a row has no SMILES, or one with blanks, or no row is there; expected one in each.")
    labels = table.select(pl.col(ASSAYS).fill_null(-1)).to_numpy()  # (N, K)
    if strange := set(np.unique(labels).tolist()) - {-1.0, 0.0, 1.0}:
        raise AccordError(f"{path}: a label is {min(strange):g}, expected 0, 1 or nothing. Get it anew.")
    return labels.astype(np.int8), tuple(table["smiles"])
