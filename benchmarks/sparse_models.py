"""The models of the benchmarks of sparse training: a plain ViT, LLaMA-like layers, a ResNet, an MLP; with K heads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from models import Case, resnet

VITS = {"ti": (192, 12, 3), "s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}  # width, depth, attention heads


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
        x = x + self.proj(mixed)
        return x + self.fc2(torch.nn.functional.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """ViT of patches of 16 pixels; with 224 pixels the shared parameters of ViT-B are 85,798,656."""

    def __init__(self, width: int, depth: int, heads: int, pixels: int = 224) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (pixels // 16) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1) + self.positions
        return self.norm(self.blocks(x))[:, 0]


class Gated(nn.Module):
    """The matrices of one LLaMA-like layer, without norms and embeddings; each token attends to itself alone."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.o(torch.sigmoid(self.q(x) * self.k(x)) * self.v(x))
        return x + self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))


def llama(width: int, hidden: int, depth: int) -> nn.Module:
    return nn.Sequential(*(Gated(width, hidden) for _ in range(depth)))


def _heads(width: int, k: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, 10) for _ in range(k))


def vit(size: str, k: int, batch: int, pixels: int) -> Case:
    width, depth, heads = VITS[size]
    return Case(ViT(width, depth, heads, pixels), _heads(width, k), torch.randn(batch, 3, pixels, pixels))


def mlp(k: int) -> Case:
    """Four layers of 1024, batch 128."""
    sizes = [1024] * 5
    trunk = nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
    return Case(trunk, _heads(1024, k), torch.randn(128, 1024))


def conv(k: int) -> Case:
    """ResNet-18 of half width on 32x32 images (2.8 M parameters), batch 64."""
    return Case(resnet(32), _heads(256, k), torch.randn(64, 3, 32, 32))


def small_llama(k: int) -> Case:
    """LLaMA-like: d = 1024, ff = 2752, 4 layers; 51 M parameters, batch of 32 tokens."""
    return Case(llama(1024, 2752, 4), _heads(1024, k), torch.randn(32, 1024))


CASES: dict[str, Callable[[int], Case]] = {
    "vit-ti": lambda k: vit("ti", k, 8, 224),
    "vit-s": lambda k: vit("s", k, 8, 224),
    "vit-b": lambda k: vit("b", k, 1, 224),
    "llama-small": small_llama,
    "conv": conv,
    "mlp": mlp,
}
