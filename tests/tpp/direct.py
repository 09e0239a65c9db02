"""What the tests of RMTPP, LNM, JointLNM, STHP, Poisson and the mark heads share."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from accord.tpp.decoders.joint_lnm import JointLNM
from accord.tpp.decoders.lnm import LNM
from accord.tpp.decoders.poisson import Poisson
from accord.tpp.decoders.rmtpp import RMTPP
from accord.tpp.decoders.sthp import STHP
from accord.tpp.heads import MarkHead

N, D, M, FLOOR = 40, 6, 5, 1e-6
Part = TypeVar("Part", bound=nn.Module)


def moderate(part: Part, dtype: torch.dtype = torch.float64) -> Part:
    """The part with random parameters in (-0.4, 0.4), inside its constraints.

    With ``histories`` every affine map of h then lies within 0.4 (D + 1) = 2.8 of 0: no seed can leave what the oracles
    resolve, for example a log-normal narrower than e^-2.8 = 0.06.
    """
    part.to(dtype)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.copy_(0.8 * torch.rand(parameter.shape, dtype=torch.float64) - 0.4)
    part.project_()
    return part


def histories(dtype: torch.dtype = torch.float64) -> Tensor:
    """(N, D) in (-1, 1)."""
    return (2 * torch.rand(N, D, dtype=torch.float64) - 1).to(dtype)


def gaps(low: float = -4.0, high: float = 1.0) -> Tensor:
    """(N,) from 10^low to 10^high."""
    return torch.logspace(low, high, N, dtype=torch.float64)


def legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], computed here, not by the package."""
    x, w = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2)


@torch.no_grad()
def rescale(part: nn.Module, c: float) -> None:
    """Express the parameters of a part in a unit of time c times as small."""
    if isinstance(part, RMTPP):
        part.rate /= c
        part.growth /= c
        part.level.bias -= math.log(c)
    elif isinstance(part, LNM | JointLNM):
        means = part.maps.out_features // 3
        part.maps.bias[means : 2 * means] += math.log(c)
    elif isinstance(part, Poisson):
        part.log_rates -= math.log(c)
    elif isinstance(part, STHP):  # the slopes must not depend on h, or no bias could rescale them
        units = part.out.in_features
        part.ramps.history.bias[:units] = torch.atanh(torch.tanh(part.ramps.history.bias[:units]) / c)
        part.sharpness.copy_(c * (part.sharpness + 1e-3) - 1e-3)
        part.out.weight /= c
        part.out.bias /= c
    else:
        assert isinstance(part, MarkHead)
        part.history.bias -= math.log(c) * part.gap.weight.squeeze(1)
