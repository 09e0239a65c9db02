"""Heads: what turns the features of a task into its output. Each factory gives a ``Head`` for any encoder that fits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from accord.architectures.architecture import Head
from accord.architectures.form import Form
from accord.errors import AccordError


def pooled(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """(N, D) one vector for each example: the mean over pixels of a map, or over valid positions of a sequence.

    Args:
        x: (N, D), (N, D, H, W) or (N, L, D).
        valid: (N, L) for sequences; the vector of one without any valid position is 0.

    Example:
        >>> pooled(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    if x.ndim == 4:
        return x.mean((2, 3))  # (N, D)
    if x.ndim == 3:
        if valid is None:
            return x.mean(1)  # (N, D)
        kept = torch.where(valid[..., None], x, 0).sum(1)  # (N, D)
        return kept / valid.sum(1, keepdim=True).clamp(min=1)  # (N, D)
    return x


def vector(size: int) -> Head:
    """A head with one output vector for each example: the pooled features through a linear layer.

    Args:
        size: of the output, (N, size).

    Example:
        >>> vector(10)(Form("map", 8, (4, 4)))(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 10])
    """
    return lambda form: _Vector(form.width, size)


def per_token(size: int) -> Head:
    """A head with one output vector for each position of a sequence: a linear layer.

    Args:
        size: of the output, (N, L, size).

    Raises:
        AccordError: when built for anything but sequences.
    """

    def build(form: Form) -> nn.Module:
        _expect(form, "sequence", "a vector for each token")
        return _PerToken(form.width, size)

    return build


def dense(channels: int, size: tuple[int, int], hidden: int = 64) -> Head:
    """A head with one output vector for each pixel: a 3 x 3 and a 1 x 1 convolution, enlarged to the full size.

    Args:
        channels: of the output, (N, channels, *size).
        size: (H, W) of the output.
        hidden: channels between both.

    Raises:
        AccordError: when built for anything but maps.
    """

    def build(form: Form) -> nn.Module:
        _expect(form, "map", "a vector for each pixel")
        return _Dense(form.width, hidden, channels, size)

    return build


def _expect(form: Form, kind: str, what: str) -> None:
    if form.kind != kind:
        raise AccordError(f"a task that wants {what} needs an encoder that gives a {kind}; this one gives {form.kind}.")


class _Vector(nn.Module):
    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, size)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        out: Tensor = self.linear(pooled(x, valid))  # (N, size)
        return out


class _PerToken(nn.Module):
    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, size)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        out: Tensor = self.linear(x)  # (N, L, size)
        return out


class _Dense(nn.Module):
    def __init__(self, width: int, hidden: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.inner = nn.Conv2d(width, hidden, 3, padding=1)
        self.outer = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        out: Tensor = self.outer(self.inner(x))  # (N, channels, h, w)
        if out.shape[2:] != self.size:
            out = interpolate(out, self.size, mode="bilinear", align_corners=False)  # (N, channels, H, W)
        return out
