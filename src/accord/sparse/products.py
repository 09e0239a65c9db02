"""The products of a layer of which only some input columns are trained: forward, and what each gradient takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad


@dataclass(frozen=True, eq=False)
class Product(ABC):
    """``y = x Wᵀ`` in some layout; W ``(out, fan_in)``.

    Args:
        index: (G, k) int64, the trained columns of each group of rows.
        group: rows per group.
    """

    index: Tensor
    group: int

    @abstractmethod
    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer."""

    @abstractmethod
    def keep(self, x: Tensor) -> Tensor:
        """What of the input the gradient of the trained columns takes; x itself where that is not more."""

    @abstractmethod
    def values(self, gradient: Tensor, kept: Tensor, shape: torch.Size) -> Tensor:
        """(out, k): the gradient of the trained columns, from that of the output; ``shape`` is the input's."""

    @abstractmethod
    def weight(self, gradient: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the whole weight, which has that shape."""

    @abstractmethod
    def input(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the input, which has that shape."""

    @abstractmethod
    def bias(self, gradient: Tensor) -> Tensor:
        """(out,)."""


@dataclass(frozen=True, eq=False)
class Linear(Product):
    """``F.linear``.

    Example:
        >>> x, product = torch.arange(6.0).view(2, 3), Linear(torch.tensor([[0, 2]]), group=1)
        >>> product.values(torch.ones(2, 1), product.keep(x), x.shape)
        tensor([[3., 7.]])
    """

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See ``Product``."""
        return F.linear(x, weight, bias)

    def keep(self, x: Tensor) -> Tensor:
        """See ``Product``."""
        return x[..., self.index.reshape(-1)] if self.index.numel() < x.shape[-1] else x  # (..., G k)

    def values(self, gradient: Tensor, kept: Tensor, shape: torch.Size) -> Tensor:
        """See ``Product``."""
        above = gradient.reshape(-1, gradient.shape[-1])  # (N, out)
        below = kept.reshape(-1, kept.shape[-1])  # (N, G k) or (N, fan_in)
        k = self.index.shape[1]
        parts = []
        for g, columns in enumerate(self.index):
            own = below[:, columns] if kept.shape == shape else below[:, g * k : (g + 1) * k]  # (N, k)
            parts.append(above[:, g * self.group : (g + 1) * self.group].T @ own)  # (group, k)
        return torch.cat(parts)  # (out, k)

    def weight(self, gradient: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
        """See ``Product``."""
        return gradient.reshape(-1, shape[0]).T @ x.reshape(-1, shape[1])  # (out, fan_in)

    def input(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """See ``Product``."""
        return gradient @ weight

    def bias(self, gradient: Tensor) -> Tensor:
        """See ``Product``."""
        return gradient.reshape(-1, gradient.shape[-1]).sum(0)


@dataclass(frozen=True, eq=False)
class Conv(Product):
    """``F.conv2d`` without groups. The trained columns are whole input channels, all places of the kernel together.

    Args:
        kernel: its height and width.
        stride: of the layer.
        padding: of the layer, in zeros.
        dilation: of the layer.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def channels(self) -> Tensor:
        """(G, c): the channels of each group of rows."""
        taps = self.kernel[0] * self.kernel[1]
        return self.index[:, ::taps] // taps

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See ``Product``."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def keep(self, x: Tensor) -> Tensor:
        """See ``Product``."""
        channels = self.channels
        return x[:, channels.reshape(-1)] if channels.numel() < x.shape[1] else x  # (N, G c, H, W)

    def values(self, gradient: Tensor, kept: Tensor, shape: torch.Size) -> Tensor:
        """See ``Product``."""
        channels, parts = self.channels, []
        c = channels.shape[1]
        for g, own in enumerate(channels):
            x = kept[:, own] if kept.shape == shape else kept[:, g * c : (g + 1) * c]  # (N, c, H, W)
            above = gradient[:, g * self.group : (g + 1) * self.group]  # (N, group, H', W')
            parts.append(self.weight(above, x, torch.Size((above.shape[1], c, *self.kernel))).flatten(1))
        return torch.cat(parts)  # (out, k)

    def weight(self, gradient: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
        """See ``Product``."""
        return grad.conv2d_weight(x, shape, gradient, self.stride, self.padding, self.dilation)

    def input(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """See ``Product``."""
        return grad.conv2d_input(shape, weight, gradient, self.stride, self.padding, self.dilation)

    def bias(self, gradient: Tensor) -> Tensor:
        """See ``Product``."""
        return gradient.sum((0, 2, 3))
