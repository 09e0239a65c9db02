"""Thinning: exact samples of the next gap from bounds of the intensity."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.tpp.draws import uniform
from accord.tpp.model import PointProcess

ROUNDS = 100_000  # proposals for one gap before something must be wrong


def thin(model: PointProcess, h_time: Tensor, begin: Tensor, limit: Tensor, scale: float, keys: Tensor) -> Tensor:
    r"""Sample gaps by thinning.

    On a window above ``s`` the ground intensity stays below a bound m. A proposal comes after an Exp(m) wait: beyond
    the window, s moves to its end; inside, it is kept with probability lambda(s) / m. Windows grow by 2 after a wait
    that left them and shrink by 2 after a rejection, so that steep intensities get tight bounds. The bound is one over
    the whole window, and the window depends only on what was seen before: samples are exact for every intensity that
    has a bound.

    Args:
        model: whose time part has a ``bound``.
        h_time: (n, D) histories.
        begin: (n,) where the search begins; the gap is known to be larger.
        limit: (n,) where it ends.
        scale: length of the first window; only speed depends on it.
        keys: (n,) of random numbers; see ``accord.tpp.draws``.

    Returns:
        (n,) gaps; inf where none came before ``limit``.

    Raises:
        NotImplementedError: if the family has no bound.

    Source: Lewis & Shedler 1979, https://doi.org/10.1002/nav.3800260304; Ogata 1981,
        https://doi.org/10.1109/TIT.1981.1056305.
    """
    part = model.time_part
    found = torch.full_like(begin, torch.inf)
    rows = torch.arange(len(begin), device=begin.device)
    s, window = begin, torch.full_like(begin, scale)
    for number in range(ROUNDS):
        going = (s < limit[rows]).nonzero().squeeze(1)
        rows, s, window = rows[going], s[going], window[going]
        if len(rows) == 0:
            return found
        end, h, key = s + window, h_time[rows], keys[rows]
        bound = part.bound(h, s, end)  # (n,)
        proposed = s - torch.log(uniform(key, 2 * number)).to(s) / bound
        inside = proposed <= end
        at = torch.where(inside, proposed, end)
        log_density, compensator = part.density(h, at.clamp(min=model.floor))
        rate = torch.exp(log_density + compensator)
        kept = inside & (uniform(key, 2 * number + 1).to(s) * bound < rate)
        found[rows[kept]] = torch.where(at < limit[rows], at, torch.inf)[kept]
        rest = (~kept).nonzero().squeeze(1)
        rows, s, window = rows[rest], at[rest], torch.where(inside, window / 2, 2 * window)[rest]
    raise RuntimeError(f"{type(part).__name__}: no gap was accepted in {ROUNDS} rounds; its bound is far too high.")
