"""Dense prediction on folders with one ``.npy`` file for each image and target, in the layout of MTAN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord.data import original
from accord.errors import AccordError
from accord.problems import dense
from accord.problems.dense_problem import DenseProblem
from accord.problems.problem import Batch, Data

Floats = NDArray[np.float32]
CHANNELS = {"image": 3, "depth": 1, "normals": 3}  # of the rest: labels (H, W)


@dataclass(frozen=True, repr=False)
class NpyProblem(DenseProblem):
    """Images that stay on the disk: each batch is read when it is needed, and checked then.

    ``originals/NAME`` below the data folder holds ``{train,val}/KIND/{0,1,...}.npy``: images (H, W, 3), depths
    (H, W, 1) with 0 where there is none, normals (H, W, 3), labels (H, W) with -1 where there is none. The part
    ``val`` is tested on; each seed keeps ``validation`` images of ``train`` apart.
    """

    kinds: ClassVar[Mapping[str, str]]  # folder -> name in a batch
    shape: ClassVar[tuple[int, int]]

    def size(self) -> tuple[int, int]:
        """(H, W) of images and outputs."""
        return self.shape

    def data(self, seed: int) -> Data:
        """Other images for validation for each seed; always the same test part."""
        place = original(self.name)
        counts = {part: self._count(place / part) for part in ("train", "val")}
        chosen = self.parts(counts["train"], seed)
        chosen["test"] = counts["train"] + self.spread(counts["val"])  # a number stands for one image
        for number in (0, counts["train"]):
            self._read(place, counts["train"], np.array([number]))  # what is wrong everywhere is said at once

        def open_(batch: Batch) -> Batch:
            return self._read(place, counts["train"], batch["row"].numpy())

        tensors = {part: {"row": torch.from_numpy(rows)} for part, rows in chosen.items()}
        return self.handed_out(tensors, chosen, open_, _prepare)

    def _count(self, part: Path) -> int:
        """How many images a part has.

        Raises:
            AccordError: if it has none, or one without all its targets.
        """
        found = {kind: {path.stem for path in (part / kind).glob("*.npy")} for kind in self.kinds}
        count = max(map(len, found.values()))
        if not count:
            raise AccordError(f"{part} holds no {next(iter(self.kinds))}/0.npy; expected {self._layout()} in it.")
        for kind, names in found.items():
            for number in range(count):
                if str(number) not in names:
                    raise AccordError(
                        f"{part / kind / f'{number}.npy'} is missing, though {count} files of another kind are there; "
                        f"expected {self._layout()}."
                    )
        return count

    def _layout(self) -> str:
        return ", ".join(f"{kind}/0.npy, 1.npy, ..." for kind in self.kinds)

    def _read(self, place: Path, train: int, rows: NDArray[np.intp]) -> Batch:
        """The images with these numbers; from ``train`` on they lie in ``val``."""
        batch: dict[str, Tensor] = {}
        for kind, name in self.kinds.items():
            folders = [(place / "train", row) if row < train else (place / "val", row - train) for row in rows]
            wanted = (*self.shape, CHANNELS[name]) if name in CHANNELS else self.shape
            values = np.empty((len(rows), *wanted), np.float32)
            for index, (folder, row) in enumerate(folders):
                values[index] = checked(folder / kind / f"{row}.npy", wanted, name, self.classes)
            tensor = torch.from_numpy(values)  # (N, H, W) or (N, H, W, channels)
            batch[name] = tensor.movedim(3, 1) if name in CHANNELS else tensor.long()
        if "normals" in batch:
            batch["normals"] = dense.unit(batch["normals"])
        return batch


def _prepare(batch: Batch) -> Batch:
    """Normals of length 1, or 0, again after augmentation, which interpolates between them."""
    if "normals" not in batch:
        return batch
    # beside a pixel without normal even rounding leaves a little: less than half of one counts as none
    known = batch["normals"].square().sum(1, keepdim=True) > 0.25  # (N, 1, H, W)
    return batch | {"normals": dense.unit(batch["normals"]) * known}


def checked(path: Path, shape: tuple[int, ...], name: str, classes: int) -> NDArray[np.generic]:
    """The array of a ``.npy`` file, mapped into memory.

    Args:
        path: of the file; it is never unpickled.
        shape: that it must have.
        name: ``image``, ``depth``, ``normals`` or ``segmentation``.
        classes: how many there are.

    Raises:
        AccordError: if it is damaged, or has another shape or values that cannot be.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AccordError(
            f"{path} cannot be read ({' '.join(str(error).split())}); expected numbers {shape}."
        ) from None
    if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype.kind not in "fiu":
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise AccordError(f"{path} holds {found}, expected numbers {shape}.")
    if name == "segmentation":
        low, high = values.min(), values.max()
        if not dense.IGNORE <= low <= high < classes or (
            values.dtype.kind == "f" and (values != np.rint(values)).any()
        ):
            raise AccordError(
                f"{path} has labels from {low:g} to {high:g}, expected whole numbers from {dense.IGNORE} (none) to "
                f"{classes - 1}."
            )
    elif not np.isfinite(values).all():
        raise AccordError(f"{path} has values that are not finite; expected numbers only, and 0 where there is none.")
    elif name == "depth" and values.min() < 0:
        raise AccordError(f"{path} has a depth of {values.min():g}, expected 0 (none) or more.")
    return values
