"""CelebA: faces of celebrities; ten or forty attributes. Read from the user's own copy."""

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
from torch.nn.functional import binary_cross_entropy_with_logits

from accord.architectures import Form, Head, vector
from accord.data import original
from accord.errors import AccordError
from accord.problems import scores, seeds
from accord.problems.composed import ComposedProblem
from accord.problems.decoded import images, stamp
from accord.problems.pixels import floats
from accord.problems.problem import Batch, Data, Examples, Metrics

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
STATED = (178, 218)  # width and height of the aligned images
PARTS = ("train", "validation", "test")  # 0, 1, 2 in the file


@dataclass(frozen=True, repr=False)
class CelebA(ComposedProblem):
    """Ten attributes of a face, the first of the forty; each has a binary cross entropy and an F1 score.

    The partition is the official one: 162770, 19867 and 19962 images, no person in two parts. ``accord data link celeba
    FOLDER`` says where ``img_align_celeba``, ``list_attr_celeba.txt`` and ``list_eval_partition.txt`` are, also in the
    folders ``Img``, ``Anno`` and ``Eval``. The aligned images (178 x 218) are shrunk to squares once, by area
    averaging, into ``~/.cache/accord/decoded``: 2.5 GB for 64 pixels.

    Source: Liu, Luo, Wang & Tang 2015, https://arxiv.org/abs/1411.7766, non-commercial research; ten attributes as in
    Zhang et al. 2024, https://arxiv.org/abs/2411.18615.

    Args:
        size: height and width of the images.
        limit: at most so many images in each part, drawn by the seed; 200000 is all.
        epochs: passes over the training images.
        batch: images per step.
        lr: learning rate.
    """

    encoder: str = "conv"
    size: int = 64
    limit: int = 20_000
    epochs: int = 2
    batch: int = 128
    lr: float = 1e-3

    name: ClassVar[str] = "celeba"
    dataset: ClassVar[str] = "celeba"
    tasks: ClassVar[tuple[str, ...]] = ATTRIBUTES[:10]
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(ATTRIBUTES[:10], ("f1", True))

    @classmethod
    def tiny(cls) -> CelebA:
        """Four steps per epoch, two epochs."""
        return cls(encoder="conv(channels=4)", limit=128, epochs=2, batch=32)

    def data(self, seed: int) -> Data:
        """The official parts, or ``limit`` images of each."""
        place = original("celeba")
        listed = (("Anno", "list_attr_celeba.txt"), ("Eval", "list_eval_partition.txt"))
        names, values, part = _lists(*(stamp(_listed(place, below, name)) for below, name in listed))
        folder = place / "img_align_celeba"
        folder = folder if folder.is_dir() else place / "Img" / "img_align_celeba"
        pixels = torch.from_numpy(images("celeba", folder, names, STATED, self.size))

        def prepare(batch: Batch) -> Batch:
            return {"image": floats(pixels[batch["row"]]), "attributes": batch["attributes"].float()}

        rng = np.random.default_rng(seeds.number(seed, "celeba"))
        parts, origin = {}, {}
        for code, which in enumerate(PARTS):
            rows = (part == code).nonzero()[0]
            if not len(rows):
                raise AccordError(f"list_eval_partition.txt in {place} has no images of the part {code} ({which}).")
            rows = np.sort(rng.permutation(rows)[: self.limit])
            tensors = {"row": torch.from_numpy(rows), "attributes": torch.from_numpy(values[rows, : len(self.tasks)])}
            parts[which] = Examples(tensors, self.batch if which == "train" else 256, prepare)
            origin[which] = frozenset(rows.tolist())
        return Data(parts["train"], parts["validation"], parts["test"], origin)

    def inputs(self) -> Form:
        """Colour images."""
        return Form("map", 3, (self.size, self.size))

    def heads(self) -> dict[str, Head]:
        """A logit for each attribute."""
        return {task: vector(1) for task in self.tasks}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Binary cross entropies."""
        out = model(batch["image"])
        return {
            task: binary_cross_entropy_with_logits(out[task][:, 0], wanted)
            for task, wanted in zip(self.tasks, batch["attributes"].unbind(1), strict=True)
        }

    @torch.no_grad()
    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """F1 of the attribute being there, accuracy, and cross entropy."""
        counts = torch.zeros(4, len(self.tasks), dtype=torch.int64)
        loss, total = torch.zeros(len(self.tasks), dtype=torch.float64), 0
        for batch in batches:
            out, wanted = model(batch["image"]), batch["attributes"]  # (N, K)
            logits = torch.cat([out[task] for task in self.tasks], 1)  # (N, K)
            counts += scores.confusion(logits > 0, wanted > 0.5)
            loss += binary_cross_entropy_with_logits(logits.double(), wanted.double(), reduction="none").sum(0)
            total += len(wanted)
        found = {"f1": scores.f1(counts), "accuracy": scores.accuracy(counts), "loss": loss / total}  # (K,) each
        return {task: {name: float(value[k]) for name, value in found.items()} for k, task in enumerate(self.tasks)}


@dataclass(frozen=True, repr=False)
class CelebA40(CelebA):
    """All forty attributes; see ``celeba``."""

    name: ClassVar[str] = "celeba-40"
    tasks: ClassVar[tuple[str, ...]] = ATTRIBUTES
    metric: ClassVar[dict[str, tuple[str, bool]]] = dict.fromkeys(ATTRIBUTES, ("f1", True))


def _listed(place: Path, below: str, name: str) -> Path:
    found = next((path for path in (place / name, place / below / name) if path.is_file()), None)
    if found is None:
        raise AccordError(f"{name} is not in {place}, nor in its folder {below}; get the data set anew.")
    return found


@cache
def _lists(
    attributes: tuple[str, int, int], partition: tuple[str, int, int]
) -> tuple[list[str], NDArray[np.uint8], NDArray[np.int64]]:
    """Names of the files, their attributes (N, 40) as 0 and 1, and their parts (N,); from the stamps of both files."""
    path, other = Path(attributes[0]), Path(partition[0])
    head, names, values = _table(path, 2)
    if head[1].split() != list(ATTRIBUTES):
        raise AccordError(f"line 2 of {path} is {head[1][:60]!r}..., expected the names of the 40 attributes.")
    if head[0].strip() != str(len(names)):
        raise AccordError(f"line 1 of {path} is {head[0][:60]!r}, but {len(names)} images follow.")
    _, named, parts = _table(other, 0)
    if named != names:
        raise AccordError(f"{other} lists {len(named)} images, expected the {len(names)} of {path} in their order.")
    for where, found, columns, known in ((path, values, 40, (-1, 1)), (other, parts, 1, (0, 1, 2))):
        if found.shape[1] != columns or not np.isin(found, known).all():
            raise AccordError(
                f"{where} has lines with other values than {columns} times {' or '.join(map(str, known))}."
            )
    return names, (values > 0).astype(np.uint8), parts[:, 0]


def _table(path: Path, skipped: int) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """The first lines as they are, then the names and the whole numbers of all others (N, columns)."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise AccordError(f"{path} cannot be read ({error}); get it anew.") from None
    head, rows = lines[:skipped], [line.split(maxsplit=1) for line in lines[skipped:]]
    if len(head) < skipped or not rows:
        raise AccordError(f"{path} has {len(lines)} lines, expected {skipped} and one for each image.")
    try:
        names, texts = zip(*rows, strict=True)
        numbers = np.fromstring(" ".join(texts), np.int64, sep=" ").reshape(len(rows), -1)
    except ValueError:
        raise AccordError(f"{path} has lines that are not the name of an image and whole numbers.") from None
    return head, list(names), numbers
