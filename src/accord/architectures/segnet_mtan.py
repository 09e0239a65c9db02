"""MTAN around an hourglass: the published network, where attention sees the inside of every level."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from accord.architectures.architecture import Head
from accord.architectures.encoder import Encoder
from accord.architectures.encoders.segnet import Hourglass, Level, convolution, xavier


class HourglassMTAN(nn.Module):
    """The multi-task attention network of the paper, with ``segnet`` parameter for parameter its public code.

    With ``u, p`` what enters and leaves a level of the trunk, each task has at each level a mask
    ``m = sigmoid(BN(conv1(ReLU(BN(conv1([u, c]))))))`` and attended features ``a = m * p``. ``c`` is what the task's
    attention of the level before hands on, through a 3 x 3 convolution that all tasks share: ``c = pool(f(a))`` on the
    way down, ``c = f(enlarge(a))`` on the way up; the finest level has none on the way down.

    Source: Liu, Johns & Davison 2019, https://arxiv.org/abs/1803.10704, section 3.

    Args:
        encoder: its one stage is an ``Hourglass``.
        heads: by task.
    """

    def __init__(self, encoder: Encoder, heads: Mapping[str, Head]) -> None:
        super().__init__()
        hourglass = encoder.stages[0]
        assert isinstance(hourglass, Hourglass)
        widths = hourglass.widths
        finer, coarser = [widths[0], *widths[:-1]], [*widths[1:], widths[-1]]
        down_masks = [(width if level == 0 else 2 * width, width) for level, width in enumerate(widths)]
        up_masks = [(width + after, after) for width, after in zip(widths, finer, strict=True)][::-1]
        self.encoder = encoder
        self.down = nn.ModuleList(convolution(a, b) for a, b in zip(widths, coarser, strict=True))
        self.up = nn.ModuleList([convolution(a, b) for a, b in zip(widths, finer, strict=True)][::-1])
        self.down_masks = nn.ModuleDict({task: nn.ModuleList(_mask(a, b) for a, b in down_masks) for task in heads})
        self.up_masks = nn.ModuleDict({task: nn.ModuleList(_mask(a, b) for a, b in up_masks) for task in heads})
        self.heads = nn.ModuleDict({task: head(encoder.output) for task, head in heads.items()})
        self.apply(xavier)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        """Outputs by task."""
        hourglass = self.encoder.stages[0]
        assert isinstance(hourglass, Hourglass)
        down, up = hourglass.levels(x)
        return {task: head(self._attended(task, down, up), valid) for task, head in self.heads.items()}

    def _attended(self, task: str, down: list[Level], up: list[Level]) -> Tensor:
        """(N, D, H, W) what a task gets."""
        carried: list[Tensor] = []  # nothing, or the features handed on
        for level, mask, share in zip(down, self._masks(self.down_masks, task), self.down, strict=True):
            attended = mask(torch.cat([level.before, *carried], 1)) * level.after  # (N, D, H, W)
            carried = [max_pool2d(share(attended), 2)]  # (N, D', H/2, W/2)
        x = carried[0]
        for level, mask, share in zip(up, self._masks(self.up_masks, task), self.up, strict=True):
            size = level.before.shape[2:]
            # aligned corners: as in the public code, although this makes the shift of features depend on their place
            larger = interpolate(x, size=size, mode="bilinear", align_corners=True)  # (N, D, H, W)
            x = mask(torch.cat([level.before, share(larger)], 1)) * level.after  # (N, D', H, W)
        return x

    @staticmethod
    def _masks(masks: nn.ModuleDict, task: str) -> nn.ModuleList:
        found = masks[task]
        assert isinstance(found, nn.ModuleList)
        return found


def _mask(before: int, after: int) -> nn.Sequential:
    """Two 1 x 1 convolutions with batch normalisation; every channel of every pixel gets a number from 0 to 1."""
    first, second = nn.Conv2d(before, after, 1), nn.Conv2d(after, after, 1)
    return nn.Sequential(first, nn.BatchNorm2d(after), nn.ReLU(), second, nn.BatchNorm2d(after), nn.Sigmoid())
