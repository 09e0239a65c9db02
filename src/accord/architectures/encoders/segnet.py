"""SegNet: an encoder-decoder for dense tasks, whose unpooling remembers where each maximum was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, max_unpool2d

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form, Kind
from accord.errors import AccordError

LEVELS = 5


class Level(NamedTuple):
    """What an hourglass computes at one resolution, on its way down or up.

    Args:
        before: (N, D, H, W) the features that come into the level: after its first convolution on the way down, after
            unpooling on the way up.
        after: (N, D', H, W) the features that leave it, before pooling.
    """

    before: Tensor
    after: Tensor


class Hourglass(nn.Module):
    """A stage that goes down to coarse maps and up again, and shows what it computes at each level.

    It is one stage and not ten, because the positions of the maxima go from each level on the way down to its
    counterpart on the way up: between two levels there is no single tensor that an architecture could mix or replace.
    Whoever needs the inside (MTAN) asks for ``levels``.

    Args:
        channels: of the inputs.
        widths: channels of each level, finest first.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        coming, going = [channels, *widths[:-1]], [widths[0], *widths[:-1]]
        convolutions = [1 if level < 2 else 2 for level in range(len(widths))]  # after the first one of each level
        self.enter = nn.ModuleList(convolution(a, b) for a, b in zip(coming, widths, strict=True))
        self.down = nn.ModuleList(_repeated(b, n) for b, n in zip(widths, convolutions, strict=True))
        self.leave = nn.ModuleList(convolution(b, a) for b, a in zip(widths, going, strict=True))
        self.up = nn.ModuleList(_repeated(a, n) for a, n in zip(going, convolutions, strict=True))

    def levels(self, x: Tensor) -> tuple[list[Level], list[Level]]:
        """The levels on the way down, finest first, and those on the way up, coarsest first."""
        downwards, upwards, places = [], [], []
        for first, more in zip(self.enter, self.down, strict=True):
            before = first(x)  # (N, D, H, W)
            level = Level(before, more(before))
            x, where = max_pool2d(level.after, 2, return_indices=True)  # (N, D, H/2, W/2)
            downwards.append(level)
            places.append(where)
        for first, more, where, partner in zip(
            reversed(self.leave), reversed(self.up), reversed(places), reversed(downwards), strict=True
        ):
            before = max_unpool2d(x, where, [2, 2], output_size=partner.after.shape[2:])  # (N, D, H, W)
            x = more(first(before))  # (N, D', H, W)
            upwards.append(Level(before, x))
        return downwards, upwards

    def forward(self, x: Tensor) -> Tensor:
        """The features that leave the finest level on the way up: (N, widths[0], H, W)."""
        return self.levels(x)[1][-1].after


@dataclass(frozen=True, repr=False)
class SegNet(EncoderSpec):
    """Five levels of 3 x 3 convolutions with batch normalisation and ReLU, down by pooling and up by unpooling.

    Channels are ``width * (1, 2, 4, 8, 8)``; the features have ``width`` channels at the full size of the inputs. The
    whole network is a single stage (see ``Hourglass``). Convolutions start Xavier-normal with bias 0, as in the public
    code of MTAN, whose trunk this is: two or three convolutions per level where VGG-16 has two or three as well.

    Source: Badrinarayanan, Kendall & Cipolla 2017, https://arxiv.org/abs/1511.00561; Liu, Johns & Davison 2019,
    https://arxiv.org/abs/1803.10704.

    Args:
        width: channels of the finest level.

    Example:
        >>> SegNet(width=8).build(Form("map", 3, (32, 48))).output
        Form(kind='map', width=8, size=(32, 48))
    """

    width: int = 64

    name: ClassVar[str] = "segnet"
    accepts: ClassVar[tuple[Kind, ...]] = ("map",)

    def __post_init__(self) -> None:
        positive(self)

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """The whole network.

        Raises:
            AccordError: if the maps are too small to be pooled five times.
        """
        least = 1 << LEVELS
        if min(inputs.size) < least:
            height, width = inputs.size
            raise AccordError(
                f"segnet halves maps {LEVELS} times and needs at least {least} x {least} pixels; these have "
                f"{height} x {width}. Take larger ones, or another encoder."
            )
        trunk = Hourglass(inputs.width, [self.width * factor for factor in (1, 2, 4, 8, 8)])
        return [(trunk.apply(xavier), Form("map", self.width, inputs.size))]


def convolution(before: int, after: int) -> nn.Sequential:
    """A 3 x 3 convolution with bias, batch normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())


def xavier(module: nn.Module) -> None:
    """Xavier-normal weights and zero bias for a convolution; for ``Module.apply``."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _repeated(width: int, times: int) -> nn.Sequential:
    return nn.Sequential(*(convolution(width, width) for _ in range(times)))
