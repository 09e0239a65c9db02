"""Patches of two photographs, made coarse and made fine again: data, two small networks, and what is measured.

Letters: `N` patches of 16 x 16 grey pixels in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, relu

import accord

SIDE, TILE, STRIDE, CHANNELS = 16, 32, 8, 16


@dataclass(frozen=True)
class Photos:
    """Patches (N, 1, 16, 16): training and validation from disjoint tiles of one picture, and those of another."""

    train: Tensor
    validation: Tensor
    elsewhere: Tensor


def photos(seed: int) -> Photos:
    """scikit-learn's ``china.jpg`` at half resolution, cut into tiles of which the seed gives a fifth to validation.

    Patches overlap within a tile and never reach into another one, so no pixel of validation is seen in training.
    ``flower.jpg`` is the other picture.
    """
    china, flower = tiles("china.jpg"), tiles("flower.jpg")  # (60, 9, 1, 16, 16)
    order = torch.randperm(len(china), generator=torch.Generator().manual_seed(seed))
    cut = len(china) // 5
    return Photos(china[order[cut:]].flatten(0, 1), china[order[:cut]].flatten(0, 1), flower.flatten(0, 1))


def tiles(name: str) -> Tensor:
    """The patches of each tile of a picture: (tiles, 9, 1, 16, 16)."""
    from sklearn.datasets import load_sample_image

    grey = torch.tensor(load_sample_image(name), dtype=torch.float32).mean(2) / 127.5 - 1  # (H, W)
    half = avg_pool2d(grey[None, None], 2)[0, 0]  # (213, 320)
    parts = half.unfold(0, TILE, TILE).unfold(1, TILE, TILE).flatten(0, 1)  # (60, 32, 32)
    return parts.unfold(1, SIDE, STRIDE).unfold(2, SIDE, STRIDE).flatten(1, 2)[:, :, None]


def coarse(truth: Tensor) -> Tensor:
    """What the generator is given: means over 4 x 4 pixels, drawn out to full size again.

    Args:
        truth: (N, 1, 16, 16).

    Example:
        >>> coarse(torch.ones(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """
    return interpolate(avg_pool2d(truth, 4), size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def texture(images: Tensor) -> Tensor:
    """(N,) energy of what a mean over 3 x 3 pixels takes away, without the rim: edges and grain, right or wrong.

    Example:
        >>> texture(torch.ones(1, 1, 16, 16)).item()
        0.0
    """
    fine = (images - avg_pool2d(images, 3, 1, 1))[..., 1:-1, 1:-1]
    return fine.square().sum((1, 2, 3))


class Generator(nn.Module):
    """Four convolutions on the coarse patch and noise; their output is added to the coarse patch."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            widths = (2, CHANNELS, CHANNELS, CHANNELS, 1)
            self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))

    def forward(self, given: Tensor, noise: Tensor) -> Tensor:
        """(N, 1, 16, 16) from two of the same shape."""
        x = torch.cat([given, noise], 1)
        for layer in self.layers[:-1]:
            x = leaky_relu(layer(x), 0.2)
        return given + self.layers[-1](x)


class Critic(nn.Module):
    """Three convolutions on a patch and its coarse version; a number per patch, large for real ones."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.one = nn.Conv2d(2, CHANNELS, 3, stride=2, padding=1)
            self.two = nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, stride=2, padding=1)
            self.three = nn.Conv2d(2 * CHANNELS, 1, 4)

    def forward(self, image: Tensor, given: Tensor) -> Tensor:
        """(N,) from two of (N, 1, 16, 16)."""
        x = leaky_relu(self.one(torch.cat([image, given], 1)), 0.2)
        return self.three(leaky_relu(self.two(x), 0.2)).flatten()


@dataclass(frozen=True)
class Batch:
    """Real patches, their coarse versions, and two draws of noise; all (n, 1, 16, 16)."""

    truth: Tensor
    given: Tensor
    first: Tensor
    second: Tensor


def draws(train: Tensor, size: int, count: int, seed: int) -> Iterator[Batch]:
    """Batches, the same for every arm of a seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        truth = train[torch.randperm(len(train), generator=generator)[:size]]
        first, second = (torch.randn(truth.shape, generator=generator) for _ in range(2))
        yield Batch(truth, coarse(truth), first, second)


class Opponent:
    """The critic with its own training: the hinge loss."""

    def __init__(self, seed: int) -> None:
        self.net = Critic(seed)
        self.balancer = accord.Balancer(self.net, "Sum()")
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, betas=(0.5, 0.99))

    def step(self, generator: Generator, batch: Batch) -> None:
        """One step, and then the critic is held still, so that the generator's losses reach the generator alone."""
        self.net.requires_grad_(True)
        with torch.no_grad():
            fake = generator(batch.given, batch.second)
        real, fake = self.net(batch.truth, batch.given), self.net(fake, batch.given)  # (n,)
        self.balancer.backward({"hinge": relu(1 - real).mean() + relu(1 + fake).mean()})
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.net.requires_grad_(False)


@torch.no_grad()
def quality(generator: Generator, truth: Tensor) -> tuple[float, float]:
    """Mean absolute error, and texture of the output over that of the truth (1: as much as the real patches have).

    Args:
        generator: with noise that is the same in every call.
        truth: (N, 1, 16, 16).
    """
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    out = generator(coarse(truth), noise)
    return float((out - truth).abs().mean()), float(texture(out).sum() / texture(truth).sum())
