"""PointProcess: one or two history encoders and a decoder; its likelihood in three terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from accord.tpp.batch import Batch
from accord.tpp.decoders.part import JointPart, MarkPart, TimePart
from accord.tpp.encoders.encoder import Encoder
from accord.tpp.errors import TPPError
from accord.tpp.events import Events

TASKS = ("time", "mark")


@dataclass(frozen=True)
class Likelihood:
    """The log likelihood of a batch, term by term.

    Args:
        time: (n,) log f(tau_i) of the scored events.
        mark: (n,) log p(k_i | tau_i).
        window: (N,) compensator from the last event to the end of the window; 0 where that is unknown. It belongs to
            the time task, with a minus sign.
    """

    time: Tensor
    mark: Tensor
    window: Tensor

    def losses(self, reduction: str = "mean") -> dict[str, Tensor]:
        """Negative log likelihoods of the two tasks, in nats.

        Args:
            reduction: ``mean`` over scored events, or ``sum``.
        """
        time, mark = self.window.sum() - self.time.sum(), -self.mark.sum()
        scale = 1 if reduction == "sum" else max(len(self.time), 1)
        return {"time": time / scale, "mark": mark / scale}


@dataclass(frozen=True)
class Decoded:
    """What a decoder says about n gaps: log f, Lambda and log p(k | tau).

    Args:
        log_density: (n,) log f(tau).
        compensator: (n,) Lambda(tau).
        log_marks: (n, M) log p(k | tau).
    """

    log_density: Tensor
    compensator: Tensor
    log_marks: Tensor

    @property
    def log_intensities(self) -> Tensor:
        """(n, M) log lambda_k(tau)."""
        return (self.log_density + self.compensator).unsqueeze(1) + self.log_marks


class PointProcess(nn.Module):
    r"""A neural marked temporal point process, f(tau, k | history) = f(tau) p(k | tau).

    .. math:: \mathrm{NLL}_T = -\sum_i \log f(\tau_i) + \Lambda(t_{end} - t_L), \quad
              \mathrm{NLL}_M = -\sum_i \log p(k_i \mid \tau_i)

    Which task a parameter serves is where it lies: ``encoder`` and ``decoder`` are dicts with the one key ``shared``,
    or with the keys ``time`` and ``mark``. Make one with ``build``.

    Args:
        encoder: ``{"shared": e}`` or ``{"time": e, "mark": e}``.
        decoder: ``{"shared": joint part}`` or ``{"time": time part, "mark": mark part}``.
        marks: M.
        floor: smallest gap of an event, in units of time; smaller ones (ties) are taken for it.
        settings: what ``build`` was called with, for checkpoints.

    Source: Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590, sections 2 to 4.
    """

    def __init__(
        self,
        encoder: Mapping[str, Encoder],
        decoder: Mapping[str, TimePart | MarkPart],
        marks: int,
        floor: float = 1e-6,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, parts in (("encoder", encoder), ("decoder", decoder)):
            if set(parts) not in ({"shared"}, set(TASKS)):
                raise TPPError(f"{name} has the parts {list(parts)}; expected 'shared', or 'time' and 'mark'.")
        self.encoder = nn.ModuleDict(encoder)
        self.decoder = nn.ModuleDict(decoder)
        self.marks = marks
        self.floor = floor
        self.settings = dict(settings or {})
        self.project_()

    def forward(self, batch: Batch) -> Likelihood:
        """The log likelihood of a batch, term by term."""
        h_time, h_mark = self.encode(batch)  # (T, D) twice
        before = h_time[batch.prev]  # (n, D)
        tau = batch.gap[batch.event].clamp(min=self.floor)  # (n,)
        if "shared" in self.decoder:
            log_density, log_marks = cast(JointPart, self.decoder["shared"]).log_joint(before, tau)
        else:
            log_density = self.time_part.log_density(before, tau)
            log_marks = self.mark_part.log_marks(before if h_mark is h_time else h_mark[batch.prev], tau)
        mark = log_marks.gather(1, batch.scored_marks.unsqueeze(1)).squeeze(1)  # (n,)
        return Likelihood(log_density, mark, self.window(batch, h_time))

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(T, D) histories after every token, for the time and for the mark; one tensor where the encoder is shared."""
        if "shared" in self.encoder:
            shared = self.encoder["shared"](batch)
            return shared, shared
        return self.encoder["time"](batch), self.encoder["mark"](batch)

    def score(self, batch: Batch, h_time: Tensor, h_mark: Tensor) -> Decoded:
        """What the decoder says about the scored events."""
        before = h_time[batch.prev]  # (n, D)
        return self.decode(before, before if h_mark is h_time else h_mark[batch.prev], batch.gap[batch.event])

    def window(self, batch: Batch, h_time: Tensor) -> Tensor:
        """(N,) compensators from the last events to the ends of the windows."""
        if not batch.windowed:
            return h_time.new_zeros(len(batch))
        return self.time_part.compensator(h_time[batch.last], batch.tail)

    def decode(self, h_time: Tensor, h_mark: Tensor, tau: Tensor) -> Decoded:
        """Densities, compensators and mark distributions at given gaps.

        Args:
            h_time: (n, D) histories for the time.
            h_mark: (n, D) histories for the mark.
            tau: (n,) gaps; those below the floor are taken for the floor.
        """
        tau = tau.clamp(min=self.floor)
        if "shared" in self.decoder:
            return Decoded(*cast(JointPart, self.decoder["shared"]).joint(h_time, tau))
        return Decoded(*self.time_part.density(h_time, tau), self.mark_part.log_marks(h_mark, tau))

    def encoders(self) -> dict[str, Encoder]:
        """The encoders by tag."""
        return {tag: cast(Encoder, encoder) for tag, encoder in self.encoder.items()}

    @property
    def time_part(self) -> TimePart:
        """The part of the decoder that knows times."""
        return cast(TimePart, self.decoder["shared" if "shared" in self.decoder else "time"])

    @property
    def mark_part(self) -> MarkPart:
        """The part of the decoder that knows marks."""
        return cast(MarkPart, self.decoder["shared" if "shared" in self.decoder else "mark"])

    @property
    def disjoint(self) -> bool:
        """Whether no parameter serves both tasks."""
        return "shared" not in self.encoder and "shared" not in self.decoder

    def task_of(self) -> dict[str, str]:
        """Parameter name -> ``shared``, ``time`` or ``mark``."""
        return {name: name.split(".")[1] for name, _ in self.named_parameters()}

    def block_of(self) -> dict[str, str]:
        """Parameter name -> module of the conflict study: ``embedding``, ``history``, ``mlp`` or ``decoder``.

        Names of parts for one task end in ``-time`` or ``-mark``.
        """
        found = {}
        for tag, encoder in self.encoders().items():
            suffix = "" if tag == "shared" else f"-{tag}"
            for name, block in encoder.blocks().items():
                found[f"encoder.{tag}.{name}"] = f"{block}{suffix}"
        for tag, part in self.decoder.items():
            suffix = "" if tag == "shared" else f"-{tag}"
            found |= {f"decoder.{tag}.{name}": f"decoder{suffix}" for name, _ in part.named_parameters()}
        return found

    def accept(self, events: Events) -> None:
        """Refuse events with another number of marks.

        Raises:
            TPPError: saying both.
        """
        if len(events.marks) != self.marks:
            raise TPPError(f"the model knows {self.marks} marks and the events have {len(events.marks)}.")

    @torch.no_grad()
    def project_(self) -> None:
        """Put parameters back where constraints want them (non-negative weights, rates); after every optimiser step."""
        for part in [*self.encoder.values(), *self.decoder.values()]:
            cast(Encoder, part).project_()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.parameters()).dtype
