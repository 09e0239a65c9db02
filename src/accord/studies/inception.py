"""The net of the study of branches: a stem, three branches of unlike reach, and what they are to learn."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

BRANCHES = ("1x1", "3x3", "5x5")
TRAIN, TEST = 300, 597  # few training images, so that there is something to generalise; the other 900 validate
AUXILIARY = 0.3  # weight of the auxiliary losses, as in GoogLeNet
Kind = Literal["one loss", "auxiliary heads", "targets of their own"]


class Data(NamedTuple):
    """Scans (N, 1, 8, 8) and for each branch a label (N, 3): the digit, or targets of their own."""

    x: Tensor
    labels: Tensor
    part: dict[str, Tensor]  # indices


class Net(nn.Module):
    """A stem, three branches of unlike reach, a head for all of them together and one for each.

    Args:
        seed: of the initial weights.
        width: channels of the stem.
        kind: which losses there are.
        only: a branch that is there alone, with its own head.

    Example:
        >>> net, data = Net(0, 2), load(0, own=False)
        >>> z = net.stem(data.x[:5])
        >>> tuple(z.shape), tuple(net.loss((z, z, z), data.labels[:5]).shape), tuple(net.logits(data.x[:5]).shape)
        ((5, 2, 8, 8), (), (5, 10))
    """

    def __init__(self, seed: int, width: int, kind: Kind = "one loss", only: int | None = None) -> None:
        super().__init__()
        self.kind, self.only = kind, only
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
            sizes = [int(name[0]) for name in BRANCHES]
            self.branches = nn.ModuleList(
                nn.Sequential(nn.Conv2d(width, 4, size, padding=size // 2), nn.ReLU(), nn.Flatten()) for size in sizes
            )
            self.head = nn.Linear(3 * 256, 10)
            self.heads = nn.ModuleList(nn.Linear(256, 10) for _ in BRANCHES)

    def loss(self, copies: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """The one loss, from the stem's output as each branch sees it.

        Args:
            copies: 3 times (N, width, 8, 8).
            labels: (N, 3).
        """
        if (b := self.only) is not None:
            return cross_entropy(self.heads[b](self.branches[b](copies[b])), labels[:, b])
        features = [branch(z) for branch, z in zip(self.branches, copies, strict=True)]  # 3 times (N, 256)
        apart = torch.stack([cross_entropy(self.heads[b](f), labels[:, b]) for b, f in enumerate(features)])  # (3,)
        if self.kind == "targets of their own":
            return apart.sum()
        joint = cross_entropy(self.head(torch.cat(features, 1)), labels[:, 0])
        return joint + AUXILIARY * apart.sum() if self.kind == "auxiliary heads" else joint

    def logits(self, x: Tensor) -> Tensor:
        """What the net says the digit is; the 1x1 branch where the others learn something else: (N, 10)."""
        z = self.stem(x)  # (N, width, 8, 8)
        if self.only is not None or self.kind == "targets of their own":
            b = self.only or 0
            return torch.as_tensor(self.heads[b](self.branches[b](z)))
        return torch.as_tensor(self.head(torch.cat([branch(z) for branch in self.branches], 1)))


def load(seed: int, own: bool) -> Data:
    """The scans of a seed; with ``own`` targets the second and third branch learn labels drawn at random."""
    scans, digit = load_digits(return_X_y=True)
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(scans), generator=draw)
    x = torch.as_tensor(scans, dtype=torch.float32).view(-1, 1, 8, 8) / 16  # (N, 1, 8, 8)
    digit = torch.as_tensor(digit)[:, None].repeat(1, 3)  # (N, 3)
    drawn = torch.randint(10, (len(x), 2), generator=draw)  # (N, 2)
    labels = torch.cat([digit[:, :1], drawn], 1) if own else digit
    cut = dict(zip(("train", "test", "validation"), order.split([TRAIN, TEST, len(x) - TRAIN - TEST]), strict=True))
    return Data(x, labels, cut)
