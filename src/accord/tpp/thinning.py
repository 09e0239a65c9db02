"""Thinning: exact samples of the next gap from bounds of the intensity."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.tpp.model import PointProcess

ROUNDS = 100_000  # proposals for one gap before something must be wrong


def thin(
    model: PointProcess, h_time: Tensor, begin: Tensor, limit: Tensor, window: float, generator: torch.Generator
) -> Tensor:
    r"""Sample gaps by thinning.

    On a window of the given length above ``s`` the ground intensity stays below a bound m. A proposal comes after an
    Exp(m) wait: beyond the window, s moves to its end; inside, it is kept with probability lambda(s) / m. The bound is
    one over the whole window and is taken anew for each, so samples are exact for every intensity that has a bound.

    Args:
        model: whose time part has a ``bound``.
        h_time: (n, D) histories.
        begin: (n,) where the search begins; the gap is known to be larger.
        limit: (n,) where it ends.
        window: length of the pieces on which the intensity is bounded; only speed depends on it.
        generator: on the CPU.

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
    s, h = begin, h_time
    for _ in range(ROUNDS):
        open_ = s < limit[rows]
        rows, s, h = rows[open_], s[open_], h[open_]
        if len(rows) == 0:
            return found
        end = s + window
        bound = part.bound(h, s, end)  # (n,)
        wait, coin = (torch.rand(len(rows), generator=generator, dtype=torch.float64).to(s) for _ in range(2))
        proposed = s - torch.log1p(-wait) / bound
        inside = proposed <= end
        at = torch.where(inside, proposed, end)
        log_density, compensator = part.density(h, at.clamp(min=model.floor))
        kept = inside & (coin * bound < torch.exp(log_density + compensator)) & (at < limit[rows])
        found[rows[kept]] = at[kept]
        rows, s, h = rows[~kept], at[~kept], h[~kept]
    raise RuntimeError(f"{type(part).__name__}: no gap was accepted in {ROUNDS} rounds; its bound is far too high.")
