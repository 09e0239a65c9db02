"""Small networks for scans of digits, of which each edge may be one of five operations: mixed, and decided.

``mixed edge(x) = Σ_o softmax(alpha)_o operation_o(x)``. Letters: `E` edges, `O` operations, `C` channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, pad, relu

import accord
from accord import latency

OPERATIONS = ("skip", "1x1", "dw3x3", "3x3", "5x5")
EDGES, CHANNELS, SIDE, CLASSES = 3, 8, 8, 10


@dataclass(frozen=True)
class Scans:
    """Images (N, 1, 8, 8) and labels (N,) for the weights, for the architecture, and for the test; all disjoint."""

    weights: tuple[Tensor, Tensor]
    choice: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """What a decided network is trained on: all but the test."""
        return torch.cat([self.weights[0], self.choice[0]]), torch.cat([self.weights[1], self.choice[1]])


def scans(seed: int, *, shuffled: bool = False) -> Scans:
    """scikit-learn's 1797 digits, split by seed: 600, 600 and 597; ``shuffled`` labels in training mean nothing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None]  # (N, 1, 8, 8)
    y = torch.tensor(found.target)  # (N,)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    x, y = x[order], y[order]
    x = (x - x[:1200].mean()) / x[:1200].std()  # of the training scans
    if shuffled:
        y[:1200] = y[torch.randperm(1200, generator=generator)]
    return Scans((x[:600], y[:600]), (x[600:1200], y[600:1200]), (x[1200:], y[1200:]))


def batches(part: tuple[Tensor, Tensor], size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without repetition within an epoch; the same ones for whoever asks with the same seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < size:
            order = torch.cat([order, torch.randperm(len(part[0]), generator=generator)])
        yield part[0][order[:size]], part[1][order[:size]]
        order = order[size:]


def operation(name: str) -> nn.Module:
    """One operation on (N, C, 8, 8), on its own.

    Example:
        >>> [latency.macs(operation(name), (1, CHANNELS, SIDE, SIDE)) for name in OPERATIONS]
        [0, 4096, 4608, 36864, 102400]
    """
    if name == "skip":
        return nn.Identity()
    groups, side = (CHANNELS, 3) if name == "dw3x3" else (1, int(name[0]))
    return nn.Conv2d(CHANNELS, CHANNELS, side, padding=side // 2, groups=groups, bias=False)


def table() -> Tensor:
    """(E, O) multiply-accumulates of each operation on each edge, as shares of the dearest architecture's."""
    costs = torch.tensor([float(latency.macs(operation(name), (1, CHANNELS, SIDE, SIDE))) for name in OPERATIONS])
    return (costs / (EDGES * costs.max())).expand(EDGES, -1)


class Mixed(nn.Module):
    """Stem, mixed edges, mean over places, linear head.

    All operations are linear, so a mixture of them is one convolution with the mixture of their kernels: five times
    cheaper than to run each, and the same number up to rounding.

    Args:
        seed: of the initial weights; the architecture begins undecided, with alpha = 0.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem, self.head = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.Linear(CHANNELS, CLASSES)
            self.edges = nn.ModuleList(nn.ModuleList(map(operation, OPERATIONS)) for _ in range(EDGES))
            self.norms = nn.ModuleList(nn.BatchNorm2d(CHANNELS) for _ in range(EDGES + 1))
        self.alpha = nn.Parameter(torch.zeros(EDGES, len(OPERATIONS)))  # (E, O)

    def weights(self) -> list[nn.Parameter]:
        """All parameters but the architecture's."""
        return [p for p in self.parameters() if p is not self.alpha]

    def kernel(self, edge: int) -> Tensor:
        """(C, C, 5, 5), the mixture of the kernels of an edge."""
        p = self.alpha[edge].softmax(0)  # (O,)
        _, one, deep, three, five = (getattr(op, "weight", None) for op in self.edges[edge])  # type: ignore[attr-defined]
        skip = torch.eye(CHANNELS)[:, :, None, None]  # (C, C, 1, 1)
        alone = torch.eye(CHANNELS)[:, :, None, None] * deep  # type: ignore[operator]  # (C, C, 3, 3), each for itself
        return p[4] * five + pad(p[3] * three + p[2] * alone, [1] * 4) + pad(p[1] * one + p[0] * skip, [2] * 4)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """Logits.

        Args:
            x: (N, 1, 8, 8).

        Returns:
            (N, 10).
        """
        x = relu(self.norms[EDGES](self.stem(x)))  # (N, C, 8, 8)
        for e in range(EDGES):
            x = relu(self.norms[e](conv2d(x, self.kernel(e), padding=2)))
        return self.head(x.mean((2, 3)))

    def decided(self) -> tuple[str, ...]:
        """The likeliest operation of each edge; of equal ones the first."""
        return tuple(OPERATIONS[int(o)] for o in self.alpha.argmax(1))


def train_anew(architecture: Sequence[str], data: Scans, seed: int, steps: int) -> float:
    """Test error of an architecture after training it from new weights on all training scans.

    With batch normalisation and one cycle of the learning rate: without them small networks are far from where they can
    get after as many steps, and the comparison of architectures would be one of learning speeds.

    Args:
        architecture: an operation per edge.
        data: the scans.
        seed: of initial weights and batches, equal for all architectures.
        steps: how many.

    Example:
        >>> 0 <= train_anew(("skip", "skip", "1x1"), scans(0), 0, 2) <= 1
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Conv2d(1, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        head = nn.Linear(CHANNELS, CLASSES)
        for name in architecture:
            layers += [operation(name), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps)
    balancer = accord.Balancer(net, "Sum()")
    for x, y in batches(data.train, 64, steps, seed):
        balancer.backward({"accuracy": cross_entropy(net(x), y)})
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    net.eval()
    with torch.no_grad():
        return float((net(data.test[0]).argmax(1) != data.test[1]).double().mean())
