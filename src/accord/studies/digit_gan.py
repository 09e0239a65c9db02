"""A small GAN of 8 x 8 digits with an auxiliary loss: the setting of the studies E09a, E09b and E09c.

Two networks, two optimisers, two Balancers: the generator's and the discriminator's losses are different tasks, and
each network has its own conflict. Letters: `N` samples, `T` looks or checkpoints, `D` features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

import accord

PIXELS, CLASSES, LATENT, FEATURES, BATCH = 64, 10, 16, 32, 64
JITTER = 0.1  # standard deviation of the noise on what the discriminator sees
LEAK = 0.2
RATES = 1e-3, 4e-3  # generator, discriminator: with equal rates all samples soon look alike, whatever the losses


@dataclass(frozen=True)
class Scans:
    """Real scans of digits: those that train the GAN, and others, which only judge it.

    Args:
        x: (N, 64) pixels in [0, 1].
        y: (N,) digits.
        other_x: (M, 64), disjoint.
        other_y: (M,).
    """

    x: Tensor
    y: Tensor
    other_x: Tensor
    other_y: Tensor


def scans(seed: int, train: int = 1200) -> Scans:
    """The 1797 scans of scikit-learn, split by the seed.

    Example:
        >>> found = scans(0)
        >>> found.x.shape, found.other_x.shape
        (torch.Size([1200, 64]), torch.Size([597, 64]))
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = torch.tensor(images[order] / 16, dtype=torch.float32)  # (1797, 64)
    y = torch.tensor(labels[order])  # (1797,)
    return Scans(x[:train], y[:train], x[train:], y[train:])


class Generator(nn.Module):
    """Latent numbers, and the digit that is wanted if ``told``, to pixels."""

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told = told
        inputs = LATENT + CLASSES * told
        self.net = nn.Sequential(
            nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, PIXELS), nn.Sigmoid()
        )

    def forward(self, z: Tensor, wanted: Tensor) -> Tensor:
        """Samples.

        Args:
            z: (N, 16).
            wanted: (N,) digits.

        Returns:
            (N, 64).
        """
        given = torch.cat([z, one_hot(wanted, CLASSES).to(z)], dim=1) if self.told else z  # (N, 26) or (N, 16)
        out: Tensor = self.net(given)
        return out


class Discriminator(nn.Module):
    """A trunk that two heads share: real or not, and which digit."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(PIXELS, 64), nn.LeakyReLU(LEAK), nn.Linear(64, FEATURES), nn.LeakyReLU(LEAK)
        )
        self.source, self.digit = nn.Linear(FEATURES, 1), nn.Linear(FEATURES, CLASSES)


@dataclass(frozen=True)
class Batch:
    """What one step sees: as many real scans as samples.

    Args:
        real: (N, 64); the discriminator is shown it with noise.
        labels: (N,) digits of the real ones.
        fake: (N, 64).
        wanted: (N,) digits that were asked for.
        jitter: (2, N, 64) noise on both.
    """

    real: Tensor
    labels: Tensor
    fake: Tensor
    wanted: Tensor
    jitter: Tensor

    def seen(self) -> tuple[Tensor, Tensor]:
        """(N, 64) each: real scans and samples as the discriminator is shown them."""
        return self.real + self.jitter[0], self.fake + self.jitter[1]

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches with nothing in common."""
        n = len(self.real) // 2
        first, second = (
            Batch(self.real[p], self.labels[p], self.fake[p], self.wanted[p], self.jitter[:, p])
            for p in (slice(None, n), slice(n, None))
        )
        return first, second

    def detached(self) -> Batch:
        """The same with samples that are constants, for the discriminator's step."""
        return Batch(self.real, self.labels, self.fake.detach(), self.wanted, self.jitter)


Losses = Callable[["Gan", Batch], dict[str, Tensor]]


def draw(gan: Gan, data: Scans, generator: torch.Generator, n: int = BATCH) -> Batch:
    """A batch; everything random comes from the generator, in an order that no method changes."""
    rows = torch.randint(len(data.x), (n,), generator=generator)
    wanted = torch.randint(CLASSES, (n,), generator=generator)
    z = torch.randn(n, LATENT, generator=generator)  # (N, 16)
    jitter = JITTER * torch.randn(2, n, PIXELS, generator=generator)  # (2, N, 64)
    return Batch(data.x[rows], data.y[rows], gan.g(z, wanted), wanted, jitter)


class Gan:
    """Both networks with their optimisers and Balancers.

    Args:
        seed: of the initial weights.
        told: whether the generator is told which digit to make.
        method: combines the generator's gradients.
        scale: of the combined gradient; ``match-norm`` makes it as long as that of the sum.
    """

    def __init__(
        self, seed: int, *, told: bool = False, method: str = "Sum()",
        scale: Literal["sum", "mean", "native", "match-norm"] = "sum",
    ) -> None:  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.g, self.d = Generator(told), Discriminator()
        self.move_g = torch.optim.Adam(self.g.parameters(), lr=RATES[0], betas=(0.5, 0.999), fused=True)
        self.move_d = torch.optim.Adam(self.d.parameters(), lr=RATES[1], betas=(0.5, 0.999), fused=True)
        self.balance_g = accord.Balancer(self.g, method, scale=scale, seed=seed)
        self.balance_d = accord.Balancer(self.d, "Sum()")

    def go_on(self, other: Gan) -> Gan:
        """Take over where another one is: weights and what its optimisers remember."""
        for name in ("g", "d", "move_g", "move_d"):
            # A copy: an optimiser would go on with the other one's own tensors.
            getattr(self, name).load_state_dict(deepcopy(getattr(other, name).state_dict()))
        return self

    @torch.no_grad()
    def samples(self, seed: int, n: int = 1000) -> tuple[Tensor, Tensor]:
        """(N, 64) samples and the (N,) digits asked for, as many of each."""
        z = torch.randn(n, LATENT, generator=torch.Generator().manual_seed(seed))  # (N, 16)
        wanted = torch.arange(n) % CLASSES
        return self.g(z, wanted), wanted


def features(gan: Gan, batch: Batch) -> tuple[Tensor, Tensor]:
    """(N, 32) each: the discriminator's trunk on the real scans and on the samples, in one pass."""
    real, fake = gan.d.trunk(torch.cat(batch.seen())).chunk(2)
    return real, fake


def adversarial_d(gan: Gan, real: Tensor, fake: Tensor) -> Tensor:
    """``softplus(-D(real)) + softplus(D(fake))``, a mean over the batch.

    Args:
        gan: whose discriminator it is.
        real: (N, 32) features of the trunk.
        fake: (N, 32).
    """
    return softplus(-gan.d.source(real)).mean() + softplus(gan.d.source(fake)).mean()


def adversarial_g(gan: Gan, fake: Tensor) -> Tensor:
    """``softplus(-D(fake))``: the generator wants its samples taken for real ones.

    Args:
        gan: whose discriminator it is.
        fake: (N, 32) features of the trunk.
    """
    return softplus(-gan.d.source(fake)).mean()


@contextmanager
def constant(net: nn.Module) -> Iterator[None]:
    """Gradients go through the network, but not into its parameters."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)


@dataclass
class Fit:
    """What a training left behind.

    Args:
        looks: by network, (T, 2, 2) Gramians of its two losses on one batch.
        halves: by network, (T, 2K, 2K) Gramians of K losses on one half of the batch, then on the other.
        record: of the generator's looks, with what Adam's step did to each loss; None with a single loss.
        steps: (T,) after how many steps the samples were judged.
        curves: what was found, by name.
        milliseconds: CPU time of a step, looks and judgements left out.
    """

    looks: dict[str, np.ndarray] = field(default_factory=dict)
    halves: dict[str, np.ndarray] = field(default_factory=dict)
    record: Any = None
    steps: list[int] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    milliseconds: float = float("nan")


def train(
    gan: Gan,
    data: Scans,
    seed: int,
    losses_g: Losses,
    losses_d: Losses,
    *,
    steps: int,
    look_every: int = 20,
    check_every: int = 100,
    check: Callable[[Gan], Mapping[str, float]] = lambda gan: {},
    after: Callable[[accord.Step], None] = lambda step: None,
    watch: Losses | None = None,
) -> Fit:
    """The loop: a step of the discriminator, then one of the generator, each with the losses of its own.

    Args:
        gan: is trained in place.
        data: real scans.
        seed: of the batches; the same for all arms.
        losses_g: of the generator, by name; ``gan.d`` is a constant.
        losses_d: of the discriminator; the samples are constants.
        steps: of each.
        look_every: how often gradients are looked at.
        check_every: how often the samples are judged.
        check: judges them.
        after: is shown the generator's Step, before Adam's.
        watch: losses of the generator to look at on halves of a batch, in place of those that it learns.

    Example:
        >>> gan = Gan(0)
        >>> def losses_g(gan, batch):
        ...     return {"adv": adversarial_g(gan, features(gan, batch)[1]), "ink": batch.fake.mean()}
        >>> def losses_d(gan, batch):
        ...     return {"source": adversarial_d(gan, *features(gan, batch))}
        >>> fit = train(gan, scans(0), 0, losses_g, losses_d, steps=4, look_every=2, check_every=4)
        >>> fit.looks["G"].shape, fit.halves["G"].shape
        ((2, 2, 2), (2, 4, 4))
    """
    fit, generator = Fit(), torch.Generator().manual_seed(seed + 1)
    own = {"G": accord.Monitor(gan.g, every=look_every, blocks="total", optimizer=gan.move_g),
           "D": accord.Monitor(gan.d, every=look_every, blocks="total")}  # fmt: skip
    own["G"].attach(gan.balance_g)
    own["D"].attach(gan.balance_d)
    # Both halves of a loss reach its head, too; what the losses share is the trunk alone.
    half = {"G": accord.Monitor(gan.g, every=1, blocks="total"),
            "D": accord.Monitor(gan.d, every=1, blocks="total", shared=["trunk"])}  # fmt: skip
    spent, counted = 0.0, 0
    for number in range(steps):
        looks = number % look_every == 0
        batch = draw(gan, data, generator)
        if looks:
            _observe(half["D"], losses_d, gan, batch.detached())
        began = time.process_time()
        gan.balance_d.backward(losses_d(gan, batch.detached()))
        gan.move_d.step()
        gan.move_d.zero_grad()
        spent += (time.process_time() - began) * (not looks)
        with constant(gan.d):
            if looks:
                _observe(half["G"], watch or losses_g, gan, batch)
            began = time.process_time()
            after(gan.balance_g.backward(losses_g(gan, batch)))
            gan.move_g.step()
            gan.move_g.zero_grad()
        spent, counted = spent + (time.process_time() - began) * (not looks), counted + (not looks)
        if (number + 1) % check_every == 0 or number + 1 == steps:
            fit.steps.append(number + 1)
            for name, value in check(gan).items():
                fit.curves.setdefault(name, []).append(value)
    fit.milliseconds = 1000 * spent / max(counted, 1)
    gan.balance_g.probe = gan.balance_d.probe = None
    for name in own:
        fit.looks[name], fit.halves[name] = own[name].record().gramian, half[name].record().gramian
    fit.record = own["G"].record() if fit.looks["G"].shape[-1] > 1 else None  # one gradient has no angle
    return fit


def _observe(monitor: accord.Monitor, losses: Losses, gan: Gan, batch: Batch) -> None:
    """Both losses on each half of the batch: what the halves have in common is no noise of the draw.

    The samples of both halves hang on one graph, which stays for the training step.
    """
    halves = zip("ab", batch.halves(), strict=True)
    monitor.observe({f"{name} {half}": loss for half, part in halves for name, loss in losses(gan, part).items()})
