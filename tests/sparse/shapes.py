"""Published networks as far as parameters go: named shapes without a forward pass, for exact counts."""

from __future__ import annotations

import torch
from torch import nn


class ViT(nn.Module):
    """A vision transformer: ``ViT-B/16`` is ``ViT(768, 12)``; heads are linear."""

    def __init__(self, d: int, depth: int, patch: int = 16, tokens: int = 197, heads: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, patch, patch)
        self.token = nn.Parameter(torch.empty(1, 1, d))
        self.positions = nn.Parameter(torch.empty(1, tokens, d))
        self.blocks = nn.ModuleList(Block(d) for _ in range(depth))
        self.norm = nn.LayerNorm(d)
        self.heads = nn.ModuleList(nn.Linear(d, out) for out in heads)


class Block(nn.Module):
    """A transformer block with one packed projection."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)


class Table(nn.Module):
    """Parameters by name on a module of no known type."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))


class Swin(nn.Module):
    """Patches of 4, windows of 7: ``Swin-B`` is ``Swin(128, (2, 2, 18, 2), (4, 8, 16, 32))``."""

    def __init__(self, width: int, depths: tuple[int, ...], heads: tuple[int, ...], out: int = 0) -> None:
        super().__init__()
        self.patch, self.patch_norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        self.stages = nn.ModuleList()
        for i, (depth, h) in enumerate(zip(depths, heads, strict=True)):
            d = width * 2**i
            stage = nn.ModuleDict({"blocks": nn.ModuleList()})
            for _ in range(depth):
                block = Block(d)
                block.attention = Table(relative_position_bias_table=((2 * 7 - 1) ** 2, h))
                stage["blocks"].append(block)
            if i + 1 < len(depths):
                stage["norm"], stage["merge"] = nn.LayerNorm(4 * d), nn.Linear(4 * d, 2 * d, bias=False)
            self.stages.append(stage)
        self.norm = nn.LayerNorm(width * 2 ** (len(depths) - 1))
        self.head = nn.Linear(self.norm.normalized_shape[0], out) if out else nn.Identity()


class SAM(nn.Module):
    """The image encoder at 1024 x 1024 pixels: ``SAM ViT-B`` is ``SAM(768, 12, 12, (2, 5, 8, 11))``."""

    def __init__(self, d: int, depth: int, heads: int, wide: tuple[int, ...]) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, 16, 16)
        self.positions = nn.Parameter(torch.empty(1, 64, 64, d))
        self.blocks = nn.ModuleList()
        for i in range(depth):
            size = 64 if i in wide else 14
            block = Block(d)
            block.attention = Table(rel_pos_h=(2 * size - 1, d // heads), rel_pos_w=(2 * size - 1, d // heads))
            self.blocks.append(block)
        self.neck = nn.Sequential(
            nn.Conv2d(d, 256, 1, bias=False), LayerNorm2d(256), nn.Conv2d(256, 256, 3, bias=False), LayerNorm2d(256)
        )


class LayerNorm2d(nn.Module):
    """SAM's own norm layer: its class is not one of PyTorch's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))


class MTAN(nn.Module):
    """The attention network around SegNet, from the list of its layers in the public code; ``outputs`` by task."""

    def __init__(self, outputs: tuple[int, ...]) -> None:
        super().__init__()
        f = (64, 128, 256, 512, 512)
        trunk = [conv(3, 64), conv(64, 64)]
        for i in range(4):
            trunk += [conv(f[i], f[i + 1]), conv(f[i + 1], f[i])]
        trunk += [conv(64, 64), conv(64, 64), conv(128, 128), conv(64, 64)]
        for i in range(1, 4):
            trunk += [conv(f[i + 1], f[i + 1]), conv(f[i + 1], f[i + 1]), conv(f[i], f[i]), conv(f[i], f[i])]
        self.trunk = nn.ModuleList(trunk)
        self.attention = nn.ModuleList()
        for _ in outputs:
            own = [attention(64, 64), attention(128, 64)]
            for i in range(4):
                own += [attention(2 * f[i + 1], f[i + 1]), attention(f[i + 1] + f[i], f[i])]
            self.attention.append(nn.ModuleList(own))
        between = [conv(64, 128), conv(64, 64)]
        for i in range(3):
            between += [conv(f[i + 1], f[i + 2]), conv(f[i + 1], f[i])]
        self.between = nn.ModuleList([*between, conv(512, 512), conv(512, 512)])
        self.pred = nn.ModuleList(nn.Sequential(nn.Conv2d(64, 64, 3), nn.Conv2d(64, out, 1)) for out in outputs)


def conv(a: int, b: int) -> nn.Sequential:
    """3 x 3, with bias and batch normalisation."""
    return nn.Sequential(nn.Conv2d(a, b, 3), nn.BatchNorm2d(b))


def attention(a: int, b: int) -> nn.Sequential:
    """Two 1 x 1 convolutions, each with bias and batch normalisation."""
    return nn.Sequential(nn.Conv2d(a, b, 1), nn.BatchNorm2d(b), nn.Conv2d(b, b, 1), nn.BatchNorm2d(b))


class LLaMA(nn.Module):
    """The matrices of a language model's blocks, and nothing else."""

    def __init__(self, d: int, ff: int, depth: int) -> None:
        super().__init__()
        sizes = {"q": (d, d), "k": (d, d), "v": (d, d), "o": (d, d), "gate": (d, ff), "up": (d, ff), "down": (ff, d)}
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(a, b, bias=False) for name, (a, b) in sizes.items()}) for _ in range(depth)
        )
