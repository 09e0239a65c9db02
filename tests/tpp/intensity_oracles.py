"""THP, SAHP and FNN once more, straight from their definitions and without any care for speed or range."""

import numpy as np
import torch
from torch import Tensor

from accord.tpp.decoders.fnn import FNN
from accord.tpp.decoders.intensities import Intensities
from accord.tpp.decoders.sahp import SAHP
from accord.tpp.decoders.thp import THP

D, U, FLOOR = 6, 4, 1e-6
PARTS = {
    "thp": lambda: THP(D, U),
    "sahp": lambda: SAHP(D, U),
    "fnn": lambda: FNN(D, U, 7),
    "fnn-ground": lambda: FNN(D, U, 7, ground=True),
}
QUADRATURE = {"thp": 1e-8, "sahp": 1e-5, "fnn": 1e-8, "fnn-ground": 1e-8}  # relative error of compensators, float64


def sp(x: Tensor, b: Tensor) -> Tensor:
    b = b + 1e-3
    return torch.logaddexp(b * x, torch.zeros_like(x)) / b


def thp_rates(p: THP, h: Tensor, tau: Tensor) -> Tensor:
    x = h @ p.history.weight.T + p.history.bias + p.time.bias + tau[:, None] * p.time.weight[:, 0]
    return sp(x, p.b)


def sahp_rates(p: SAHP, h: Tensor, tau: Tensor) -> Tensor:
    mu, eta = torch.nn.functional.gelu(h @ p.levels.weight.T).chunk(2, 1)
    gamma = sp(h @ p.rate.weight.T, p.b_rate)
    return sp(mu + (eta - mu) * torch.exp(-gamma * tau[:, None]), p.b)


def fnn_network(p: FNN, h: Tensor, tau: Tensor) -> Tensor:
    """(n, U) G, straight from the specification."""
    a = p.alpha + 1e-3
    z = torch.cat((tau.log()[:, None], h), 1) @ p.hidden.weight.T + p.hidden.bias
    act = (1 - (1 + a * z.exp()) ** (-1 / a)) * (1 + sp(z, p.b_hidden))
    return sp(act @ p.out.weight.T + p.out.bias, p.b_out)


def fnn_rates(p: FNN, h: Tensor, tau: Tensor) -> Tensor:
    tau = tau.detach().requires_grad_()
    with torch.enable_grad():
        grown = fnn_network(p, h, tau)
        slopes = torch.stack([torch.autograd.grad(g.sum(), tau, retain_graph=True)[0] for g in grown.T], 1)
    return (slopes.sum(1, keepdim=True) if p.ground else slopes) + p.mu


def rates(p: Intensities, h: Tensor, tau: Tensor) -> Tensor:
    """(n, U) intensities from their definitions."""
    return {THP: thp_rates, SAHP: sahp_rates, FNN: fnn_rates}[type(p)](p, h, tau)


def integral(p: Intensities, h: Tensor, tau: Tensor, low: float = 0.0, points: int = 64) -> Tensor:
    """(n, U) integral of `rates` from low to tau, on panels that grow tenfold from 1e-9 tau."""
    shares, w = panels(torch.cat((torch.zeros(1), torch.logspace(-9, 0, 19))), points)  # (J,)
    length = tau - low
    times = low + torch.outer(shares, length)  # (J, n)
    found = rates(p, h.repeat(len(shares), 1), times.flatten()).unflatten(0, times.shape)  # (J, n, U)
    return length[:, None] * torch.tensordot(w, found, 1)


def panels(edges: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on each of the panels between edges, one behind the other."""
    x, w = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(points))
    return (edges[:-1, None] + edges.diff()[:, None] * (x + 1) / 2).flatten(), torch.outer(
        edges.diff(), w / 2
    ).flatten()


def scattered(p: Intensities, scale: float = 1.0) -> Intensities:
    """Parameters away from where they start, also the sharpnesses."""
    with torch.no_grad():
        for value in p.parameters():
            value.add_(scale * torch.randn_like(value))
    for name in ("b", "b_rate", "alpha", "b_hidden", "b_out"):
        if hasattr(p, name):
            with torch.no_grad():
                getattr(p, name).abs_()
    p.project_()
    return p
