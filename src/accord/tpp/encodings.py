"""Event encodings: from the time and the mark of an event to the vector that a history encoder reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from accord.tpp.batch import Batch
from accord.tpp.errors import TPPError, nearest

# name -> what becomes of the time, and whether the mark's vector stands alone, beside it or is added to it
ENCODINGS: dict[str, tuple[str | None, str | None]] = {
    "times_only": ("plain", None),
    "log_times_only": ("log", None),
    "marks_only": (None, "alone"),
    "concatenate": ("plain", "beside"),
    "log_concatenate": ("log", "beside"),
    "temporal": ("sinusoid", None),
    "learnable": ("linear", None),
    "temporal_with_labels": ("sinusoid", "added"),
    "learnable_with_labels": ("linear", "added"),
}
TIMES = ("relative", "absolute")


class EventEncoding(nn.Module):
    r"""The vector x of one token, from its gap (or age) tau and its mark k.

    ========================= =================================================== ========
    Name                      x                                                   Size
    ========================= =================================================== ========
    ``times_only``            max(tau, floor)                                     1
    ``log_times_only``        log max(tau, floor)                                 1
    ``marks_only``            W e_k                                               emb
    ``concatenate``           [W e_k ; max(tau, floor)]                           emb + 1
    ``log_concatenate``       [W e_k ; log max(tau, floor)]                       emb + 1
    ``temporal``              s(tau), see ``sinusoid``                            emb
    ``learnable``             Linear(tau)                                         emb
    ``temporal_with_labels``  sqrt(emb) W e_k + s(tau)                            emb
    ``learnable_with_labels`` sqrt(emb) W e_k + Linear(tau)                       emb
    ========================= =================================================== ========

    The start of a window is a token without a mark: tau = 0, and zeros in the place of W e_k.

    Args:
        name: of the table.
        marks: M.
        emb: even and at least 4 where s(tau) is used.
        floor: smallest time in ``plain`` and ``log`` features, in units of time.
        nonneg: keep W >= 0: absolute values at the start, projected after every step.
        time: ``relative``: tau is the time since the token before; ``absolute``: since the window's start.

    Raises:
        TPPError: for unknown names, with the nearest known one, and sizes that do not fit.

    Source: Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590. W starts as the weight of ``Linear(M -> emb)``.

    Example:
        >>> encoding = EventEncoding("log_concatenate", marks=3, emb=4)
        >>> gap = torch.tensor([1.0, 1.0])
        >>> encoding(gap, torch.tensor([0, 2]), gap).shape, encoding.size
        (torch.Size([2, 5]), 5)
        >>> encoding(gap[:1], None, gap[:1])[0].tolist()[:4]
        [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        name: str,
        marks: int,
        emb: int,
        floor: float = 1e-6,
        nonneg: bool = False,
        time: str = "relative",
    ) -> None:
        super().__init__()
        if name not in ENCODINGS:
            raise TPPError(f"unknown encoding {name!r}.{nearest(name, ENCODINGS)}")
        if time not in TIMES:
            raise TPPError(f"unknown time_encoding {time!r}.{nearest(time, TIMES)}")
        self.feature, self.place = ENCODINGS[name]
        if emb < 1 or marks < 1:
            raise TPPError(f"emb={emb}, marks={marks}; expected at least 1 of each.")
        if self.feature == "sinusoid" and (emb % 2 or emb < 4):
            raise TPPError(f"emb={emb}; encoding {name!r} needs an even number, at least 4.")
        self.emb, self.floor, self.nonneg, self.absolute = emb, floor, nonneg, time == "absolute"
        time_size = {None: 0, "plain": 1, "log": 1, "sinusoid": emb, "linear": emb}[self.feature]
        self.size = {None: time_size, "alone": emb, "beside": emb + time_size, "added": emb}[self.place]
        if self.place:
            self.label = nn.Embedding(marks, emb)
            nn.init.uniform_(self.label.weight, -(marks**-0.5), marks**-0.5)
            if nonneg:
                self.label.weight.data.abs_()
        if self.feature == "linear":
            self.time = nn.Linear(1, emb)

    def forward(self, gap: Tensor, mark: Tensor | None, age: Tensor) -> Tensor:
        """Encode m tokens.

        Args:
            gap: (m,) time since the token before.
            mark: (m,); None: these are starts of windows, whatever ``gap`` and ``age`` say.
            age: (m,) time since the window's start.

        Returns:
            (m, size).
        """
        tau = age if self.absolute else gap
        if mark is None:
            tau = torch.zeros_like(tau)
        if self.place is None:
            return self._time(tau)
        label = tau.new_zeros(len(tau), self.emb) if mark is None else self.label(mark)  # (m, emb)
        if self.place == "alone":
            return label
        if self.place == "beside":
            return torch.cat([label, self._time(tau)], 1)
        return torch.add(self._time(tau), label, alpha=math.sqrt(self.emb))

    def tokens(self, batch: Batch) -> Tensor:
        """(T, size) all tokens of a batch."""
        count = len(batch)
        start = self(batch.gap[:1], None, batch.age[:1])  # (1, size), the same for all windows
        events = self(batch.gap[count:], batch.mark[count:], batch.age[count:])  # (T - N, size)
        return torch.cat([start.expand(count, -1), events])

    def _time(self, tau: Tensor) -> Tensor:
        if self.feature == "sinusoid":
            return sinusoid(tau, self.emb)
        if self.feature == "linear":
            return self.time(tau.unsqueeze(1))
        tau = tau.clamp(min=self.floor).unsqueeze(1)  # (m, 1)
        return tau.log() if self.feature == "log" else tau

    def project_(self) -> None:
        """Set negative entries of W to zero if it is to have none."""
        if self.nonneg and self.place:
            self.label.weight.data.clamp_(min=0)


def sinusoid(position: Tensor, size: int) -> Tensor:
    r"""Sines and cosines of one position or time at frequencies from 1 down to 1e-4.

    .. math:: s(x) = [\sin(w_j x)]_j \,\|\, [\cos(w_j x)]_j, \quad w_j = 10^{-4 j / (J - 1)}, \; j = 0..J-1

    Args:
        position: (m,).
        size: 2 J; if odd, the last cosine is left out.

    Returns:
        (m, size).

    Example:
        >>> sinusoid(torch.tensor([0.0]), 4).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    half = (size + 1) // 2
    frequency = torch.logspace(0, -4, half, dtype=position.dtype, device=position.device)  # (J,)
    angle = position.unsqueeze(1) * frequency  # (m, J)
    return torch.cat([angle.sin(), angle.cos()[:, : size - half]], 1)
