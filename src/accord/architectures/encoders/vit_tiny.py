"""ViT-Tiny: a small vision transformer, in plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.encoders.patches import Output, check_output, form, grid
from accord.architectures.form import Form, Kind
from accord.errors import AccordError

STD = 0.02  # of the initial weights


@dataclass(frozen=True, repr=False)
class ViTTiny(EncoderSpec):
    """Patches as tokens, then blocks ``x + attention(norm(x))``, ``x + mlp(norm(x))``; each block is a stage.

    With ``patch=16`` and ``output="class"`` on images of 224 x 224 it is ViT-Ti/16, 5,524,416 parameters. Positions are
    learned, one for each patch of the images that it is built for. There is no dropout.

    Source: Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929; the size is that of Touvron et al. 2021,
    https://arxiv.org/abs/2012.12877.

    Args:
        patch: side of a patch in pixels; it must divide height and width.
        output: ``mean`` over patches or the ``class`` token, a vector; ``sequence`` or ``map`` of patches, for tasks
            that want a vector for each place.
        width: D.
        blocks: how many.
        heads: of the attention; they must divide the width.

    Raises:
        AccordError: for a wrong setting, and when built for images that patches do not fill.

    Example:
        >>> ViTTiny(blocks=2).build(Form("map", 3, (64, 64))).output
        Form(kind='vector', width=192, size=())
    """

    patch: int = 8
    output: str = "mean"
    width: int = 192
    blocks: int = 12
    heads: int = 3

    name: ClassVar[str] = "vit-tiny"
    accepts: ClassVar[tuple[Kind, ...]] = ("map",)

    def __post_init__(self) -> None:
        positive(self)
        check_output(self.name, self.output)
        if self.width % self.heads:
            raise AccordError(f"{self.name}: width={self.width} is no multiple of heads={self.heads}; change one.")

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """The tokens, the blocks, and the output."""
        size = grid(self.name, inputs.size, self.patch)
        extra = int(self.output == "class")
        length = size[0] * size[1] + extra
        tokens = Form("sequence", self.width, (length,))
        parts: list[tuple[nn.Module, Form]] = [
            (_Tokens(inputs.width, self.width, self.patch, length, extra), tokens),
            *((_Block(self.width, self.heads), tokens) for _ in range(self.blocks)),
        ]
        output = Output(nn.LayerNorm(self.width, eps=1e-6), self.output, size, extra)
        return [*parts, (output, form(self.output, self.width, size))]


def _linear(before: int, after: int) -> nn.Linear:
    made = nn.Linear(before, after)
    nn.init.trunc_normal_(made.weight, std=STD)
    nn.init.zeros_(made.bias)
    return made


class _Tokens(nn.Module):
    """A linear map of each patch, a class token where wanted, and positions."""

    def __init__(self, channels: int, width: int, patch: int, length: int, extra: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.first = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=STD)) if extra else None
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, length, width), std=STD))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (N, h·w, D)
        if self.first is not None:
            tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1)  # (N, L, D)
        return tokens + self.positions  # (N, L, D)


class _Block(nn.Module):
    """Attention and a hidden layer of 4·D, each with its norm before and a shortcut beside."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.qkv, self.proj = _linear(width, 3 * width), _linear(width, width)
        self.mlp = nn.Sequential(_linear(width, 4 * width), nn.GELU(), _linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norms[0](x)).unflatten(2, (3, self.heads, -1))  # (N, L, 3, heads, D / heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (N, heads, L, D / heads)
        seen = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (N, L, D)
        x = x + self.proj(seen)
        out: Tensor = x + self.mlp(self.norms[1](x))
        return out  # (N, L, D)
