"""Auxiliary losses of a generator, and how strong they are beside the adversarial one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import accord
from accord.studies.digit_gan import CLASSES, FEATURES, LEAK, PIXELS, Scans


def matching(real: Tensor, fake: Tensor) -> Tensor:
    """Feature matching: ``|mean φ(real) − mean φ(fake)|²``.

    Args:
        real: (N, 32) features.
        fake: (N, 32).
    """
    return (real.mean(0) - fake.mean(0)).square().sum()


def paired(real: Tensor, fake: Tensor) -> Tensor:
    """The perceptual loss of unpaired data: ``E |φ(fake) − φ(real)|²``, each sample with some scan that chance gave it.

    Args:
        real: (N, 32) features.
        fake: (N, 32).
    """
    return (real - fake).square().sum(1).mean()


class Strength:
    """Keeps the second gradient ``weight`` times as long as the first one: a ratio, whatever the losses' units.

    Called with the Steps of a Balancer, it reads the Gramian of every n-th: ``r ← r sqrt(target / found)``, half of the
    way in logarithms, as one look is noisy; the first look sets it. Multiply the second loss with ``factor``. Surgery
    has a Gramian in every step and the sum only where somebody looks: all must be read equally often to be compared.

    Args:
        weight: the ratio wanted.
        every: n.

    Example:
        >>> strength = Strength(0.5)
        >>> layer = nn.Linear(2, 1)
        >>> balancer = accord.Balancer(layer, "PCGrad()")
        >>> for _ in range(3):
        ...     out = layer(torch.eye(2)).sum()
        ...     strength(balancer.backward({"first": out, "second": strength.factor * 30 * out}))
        >>> round(strength.factor * 30, 3)
        0.5
    """

    def __init__(self, weight: float, every: int = 1) -> None:
        self.weight, self.every, self.factor, self.known = weight, every, 1.0, False

    def __call__(self, step: accord.Step) -> None:
        """Take note of a step."""
        if step.gramian is None or len(step.tasks) < 2 or step.index % self.every:
            return
        first, second = step.gramian.diagonal().sqrt().tolist()[:2]
        if first > 0 and second > 0:
            self.factor *= (self.weight * first / second) ** (0.5 if self.known else 1.0)
            self.known = True


def classifier_features(data: Scans, seed: int, steps: int = 300) -> nn.Module:
    """(N, 64) -> (N, 32), the features of a classifier of real scans, frozen.

    Args:
        data: what it is trained on.
        seed: of its weights and batches.
        steps: of Adam; 0: features of random weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = nn.Sequential(nn.Linear(PIXELS, 64), nn.LeakyReLU(LEAK), nn.Linear(64, FEATURES), nn.LeakyReLU(LEAK))
        net = nn.Sequential(trunk, nn.Linear(FEATURES, CLASSES))
    generator = torch.Generator().manual_seed(seed)
    optimizer, balancer = torch.optim.Adam(net.parameters(), lr=2e-3), accord.Balancer(net, "Sum()")
    for _ in range(steps):
        rows = torch.randint(len(data.x), (128,), generator=generator)
        balancer.backward({"digit": cross_entropy(net(data.x[rows]), data.y[rows])})
        optimizer.step()
        optimizer.zero_grad()
    return trunk.requires_grad_(False)
