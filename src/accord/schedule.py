"""ConflictAwareLR: a factor on the learning rate that falls while the tasks' gradients point against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from accord import conflict
from accord.errors import AccordError, nearest
from accord.step import Step

Array = NDArray[np.float64]
Rule = Literal["threshold", "cancellation"]
Statistic = Literal["mean", "min", "conflicting"]

# (pairs,) cosines, none of them NaN -> one number
STATISTICS: dict[str, Callable[[Array], float]] = {
    "mean": lambda cosines: float(cosines.mean()),
    "min": lambda cosines: float(cosines.min()),
    "conflicting": lambda cosines: float((cosines[cosines < 0] if (cosines < 0).any() else cosines).mean()),
}

BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "threshold": (lambda x: 0 <= x <= 2, "in [0, 2]"),
    "shrink": (lambda x: 0 < x < 1, "in (0, 1)"),
    "grow": (lambda x: x >= 1, ">= 1"),
    "floor": (lambda x: 0 < x <= 1, "in (0, 1]"),
    "ceiling": (lambda x: x >= 1, ">= 1"),
    "power": (lambda x: x > 0, "> 0"),
    "ema": (lambda x: 0 <= x < 1, "in [0, 1)"),
    "skip_below": (lambda x: -1 <= x <= 1, "in [-1, 1], or None"),
}
WORDS = {"rule": get_args(Rule), "statistic": get_args(Statistic)}

# Post-hooks run in the order of pre-hooks, not in reverse: two factors on one optimiser could not be undone.
_taken: WeakSet[Optimizer] = WeakSet()


@dataclass
class _Track:
    """What is remembered of one block: exponential averages over the steps in which a pair of tasks is defined."""

    products: Array = field(default_factory=lambda: np.zeros((0, 0)))  # (K, K), of g_i · g_j
    squares: Array = field(default_factory=lambda: np.zeros((0, 0)))  # (K, K), of ‖g_i‖², for the pair (i, j)
    left: float = 0.0  # of ρ
    weight: float = 0.0  # of 1: what the averages have seen so far
    smoothed: float = math.nan
    factor: float = 1.0
    skipped: bool = False

    def add(self, gramian: Array, tasks: NDArray[np.intp], ema: float) -> Array:
        """Take in one Gramian (K, K), of which only these k tasks are defined.

        Returns:
            (pairs,) the smoothed cosines between them; NaN where an average of squared norms is not above zero.
        """
        missing = len(gramian) - len(self.products)
        if missing:
            self.products, self.squares = (np.pad(a, (0, missing)) for a in (self.products, self.squares))
        at = np.ix_(tasks, tasks)
        own = gramian[at]  # (k, k)
        self.products[at] = ema * self.products[at] + (1 - ema) * own
        # Each pair has norms of its own, from the same steps as its product: by Cauchy-Schwarz no cosine exceeds 1.
        self.squares[at] = ema * self.squares[at] + (1 - ema) * np.diag(own)[:, None]
        self.left = ema * self.left + (1 - ema) * float(conflict.cancellation(own))
        self.weight = ema * self.weight + (1 - ema)
        # Halves of a batch can estimate a squared norm below zero: not identifiable, hence NaN.
        length = np.sqrt(np.where(self.squares[at] > 0, self.squares[at], np.nan))  # (k, k)
        return conflict.upper(np.clip(self.products[at] / length / length.T, -1.0, 1.0))


class ConflictAwareLR:
    """Multiplies the learning rate of each step by a factor that depends on how far the gradients agree. A heuristic.

    With ``s`` the smoothed cosine between the tasks' gradients, the rule ``threshold`` is

    ``factor ← max(shrink · factor, floor)`` if ``1 − s > threshold``, else ``min(grow · factor, ceiling)``,

    starting at 1, and the rule ``cancellation``, with ``ρ = ‖Σ g_i‖ / Σ ‖g_i‖`` and its exponential average ``ρ̄``,

    ``factor = max(floor, ρ̄)^power``, which is 1 as long as all gradients are parallel.

    ``s`` is a statistic of ``c_ij = M_ij / sqrt(S_ij S_ji)``, with ``M_ij`` the exponential average of ``g_i · g_j``
    and ``S_ij`` that of ``‖g_i‖²`` over the steps in which both gradients are defined: averages first, then one cosine.
    If the tasks' noise is independent, ``M_ij`` is on average the noiseless product, sign included; a mean of noisy
    cosines can have the wrong sign. The norms keep their noise, so ``c_ij`` is too close to 0, and noise that tasks
    share through their batch stays in ``M_ij``. With ``halves``, every product is between gradients of two disjoint
    halves of the batch, ``M_ij`` of ``(a_i · b_j + a_j · b_i) / 2`` and ``S_ij`` of ``a_i · b_i``: both are free of it.

    The scheduler's rate is never overwritten: hooks put the scaled rate in place for the duration of
    ``optimizer.step()`` and the very same object back afterwards, so that any torch scheduler composes with it. No hook
    runs if the step itself raises; then the next ``update`` or step puts the rate back.

    Source: heuristic. The criterion ``1 − cos > threshold`` is that of gradient agreement filtering, Chaubard et al.
    2024, https://arxiv.org/abs/2412.18052, between micro-batches: where none agree, the step is left out (for tasks:
    ``skip_below``). The multiplicative rule is advice of the field; its defaults and the second rule are Accord's own.

    Args:
        optimizer: any torch optimiser whose parameter groups have an ``lr``.
        rule: ``threshold`` or ``cancellation``.
        threshold: in [0, 2]; 1 shrinks the rate exactly while ``s < 0``.
        shrink: factor per step in conflict, in (0, 1).
        grow: factor per step otherwise, at least 1; 1: the rate never recovers.
        floor: the factor never falls below it, in (0, 1]; at zero it could not grow again.
        ceiling: the factor never rises above it, at least 1; above 1 the step may leave the stable range.
        power: of the rule ``cancellation``, above 0.
        ema: how much of the last averages stays, in [0, 1); 0: this step alone.
        statistic: over the pairs of tasks at hand: ``mean``, ``min``, or ``conflicting`` (the mean of the negative
            cosines; of all, if none is).
        skip_below: the factor is 0 in steps whose own statistic, not smoothed, lies below; None: never.
        per_group: one factor for each parameter group, from the Gramians of its own parameters. Needs a Step with the
            blocks ``rates.blocks``.
        halves: the Steps have 2K tasks, first those of one half of the batch and then, in the same order, those of
            the other; see ``accord.noise``. A pair whose norms do not stand out of the noise leaves the factor alone.
            Only for the rule ``threshold`` without ``skip_below``, which look at single steps.

    Raises:
        AccordError: for arguments out of range, or a second ConflictAwareLR on the same optimiser.

    Example:
        >>> import torch, accord
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> rates = accord.ConflictAwareLR(optimizer)
        >>> balancer = accord.Balancer(model, accord.UPGrad())
        >>> for _ in range(3):
        ...     out = model(torch.eye(2)).mean()
        ...     step = balancer.backward({"up": out, "down": -out})  # opposite gradients
        ...     rates.update(step)
        ...     optimizer.step()
        >>> {name: round(factor, 4) for name, factor in rates.factors.items()}, optimizer.param_groups[0]["lr"]
        ({'total': 0.8574}, 0.1)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        rule: Rule = "threshold",
        threshold: float = 1.0,
        shrink: float = 0.95,
        grow: float = 1.05,
        floor: float = 0.1,
        ceiling: float = 1.0,
        power: float = 1.0,
        ema: float = 0.9,
        statistic: Statistic = "mean",
        skip_below: float | None = None,
        per_group: bool = False,
        halves: bool = False,
    ) -> None:
        if not isinstance(optimizer, Optimizer) or not all("lr" in group for group in optimizer.param_groups):
            raise AccordError(f"optimizer is a {type(optimizer).__name__}; expected a torch optimiser with lr.")
        if optimizer in _taken:
            raise AccordError("this optimiser already has a ConflictAwareLR; close() it first.")
        self.optimizer = optimizer
        self.settings: dict[str, Any] = {
            "rule": rule, "threshold": threshold, "shrink": shrink, "grow": grow, "floor": floor, "ceiling": ceiling,
            "power": power, "ema": ema, "statistic": statistic, "skip_below": skip_below, "per_group": bool(per_group),
            "halves": bool(halves),
        }  # fmt: skip
        for name, value in self.settings.items():
            if name in BOUNDS and not (name == "skip_below" and value is None):
                self.settings[name] = _number(name, value)
            elif name in WORDS and value not in WORDS[name]:
                raise AccordError(f"ConflictAwareLR: {name}={value!r} is not known.{nearest(str(value), WORDS[name])}")
        if halves and (rule != "threshold" or skip_below is not None):
            raise AccordError("halves=True needs rule='threshold' without skip_below: the others look at single steps.")
        self.tasks: tuple[str, ...] = ()
        self._tracks: dict[str, _Track] = {}
        self._in_place: list[tuple[dict[str, Any], Any, Any]] = []  # group, the scheduler's rate, the scaled one
        _taken.add(optimizer)
        self._handles = (
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        )

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"ConflictAwareLR({type(self.optimizer).__name__}, {settings}, factors={self.factors})"

    @property
    def factors(self) -> dict[str, float]:
        """What the learning rate of the next step is multiplied with: of ``total``, or of ``group 0`` and so on."""
        tracks = {name: self._tracks.get(name, _Track()) for name in self._names()}
        return {name: 0.0 if track.skipped else track.factor for name, track in tracks.items()}

    @property
    def smoothed(self) -> dict[str, float]:
        """What the rule looks at: the smoothed cosine, or the smoothed ρ; NaN until it is defined."""
        return {name: self._tracks.get(name, _Track()).smoothed for name in self._names()}

    @property
    def blocks(self) -> dict[Tensor, str]:
        """The name of each parameter's group, for ``Balancer(..., blocks=rates.blocks)`` where ``per_group`` is set."""
        groups = self.optimizer.param_groups
        return {p: f"group {i}" for i, group in enumerate(groups) for p in group["params"]}

    def update(self, step: Step | None) -> None:
        """Learn from a step's Gramians; to be called once after each backward pass, before the optimiser's step.

        A step in which no two gradients are defined (no Gramian, one task, zero gradients) leaves the factor as it is.

        Args:
            step: what ``balancer.backward`` or ``monitor.observe`` returned; None where nothing was observed.

        Raises:
            AccordError: for a step of other tasks, or one without blocks for the parameter groups.
        """
        self._restore()
        for track in self._tracks.values():
            track.skipped = False
        if step is None or step.gramians is None:
            return
        if self.tasks != step.tasks[: len(self.tasks)]:
            raise AccordError(f"the step has tasks {list(step.tasks)}, but earlier ones had {list(self.tasks)}.")
        self.tasks = step.tasks
        for name, gramian in self._gramians(step).items():
            here = step.active.numpy() & conflict.defined(gramian) & np.isfinite(gramian).all(-1)  # (K,)
            if self.settings["halves"]:
                gramian, here = _across(gramian, here)
            tasks = np.flatnonzero(here)
            if len(tasks) > 1:
                self._judge(self._tracks.setdefault(name, _Track()), gramian, tasks)

    def _judge(self, track: _Track, gramian: Array, tasks: NDArray[np.intp]) -> None:
        """The rule itself."""
        at = self.settings
        statistic = STATISTICS[at["statistic"]]
        cosines = track.add(gramian, tasks, at["ema"])  # (pairs,)
        cosines = cosines[~np.isnan(cosines)]
        if not len(cosines):
            return
        if at["rule"] == "cancellation":
            track.smoothed = track.left / track.weight
            track.factor = max(at["floor"], track.smoothed) ** at["power"]
        else:
            track.smoothed = statistic(cosines)
            if 1 - track.smoothed > at["threshold"]:
                track.factor = max(at["shrink"] * track.factor, at["floor"])
            else:
                track.factor = min(at["grow"] * track.factor, at["ceiling"])
        if at["skip_below"] is not None:
            now = conflict.upper(conflict.cosine(gramian[np.ix_(tasks, tasks)]))  # (pairs,)
            track.skipped = statistic(now) < at["skip_below"]

    def close(self) -> None:
        """Take the hooks off the optimiser; the scheduler's rate holds again."""
        self._restore()
        for handle in self._handles:
            handle.remove()
        _taken.discard(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        tracks = {
            name: vars(track) | {"products": torch.tensor(track.products), "squares": torch.tensor(track.squares)}
            for name, track in self._tracks.items()
        }
        return {"settings": dict(self.settings), "tasks": list(self.tasks), "tracks": tracks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Raises:
            AccordError: if it belongs to other settings.
        """
        if {"halves": False} | (state.get("settings") or {}) != self.settings:  # states of before have no `halves`
            raise AccordError(f"the state is of {state.get('settings')}, but this ConflictAwareLR has {self.settings}.")
        self.tasks = tuple(state["tasks"])
        self._tracks = {
            name: _Track(**{**track, "products": _array(track["products"]), "squares": _array(track["squares"])})
            for name, track in state["tracks"].items()
        }

    def _names(self) -> list[str]:
        per_group = self.settings["per_group"]
        return [f"group {i}" for i in range(len(self.optimizer.param_groups))] if per_group else ["total"]

    def _gramians(self, step: Step) -> dict[str, Array]:
        """(K, K) of each name."""
        assert step.gramians is not None
        if not self.settings["per_group"]:
            return {"total": step.gramians.sum(0).numpy()}
        names = self._names()
        found = {name: g.numpy() for name, g in zip(step.blocks, step.gramians, strict=True) if name in names}
        if step.blocks and not found:
            raise AccordError(
                f"the step has the blocks {list(step.blocks)}, expected {names}; per_group needs "
                "Balancer(..., blocks=rates.blocks)."
            )
        return found

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        """A new object rather than a change in place: groups may share one tensor as their rate."""
        self._restore()
        factors = list(self.factors.values())
        for i, group in enumerate(optimizer.param_groups):
            factor = factors[i if self.settings["per_group"] else 0]
            if factor != 1:
                kept, group["lr"] = group["lr"], group["lr"] * factor
                self._in_place.append((group, kept, group["lr"]))

    def _after_step(self, *_: Any) -> None:
        self._restore()

    def _restore(self) -> None:
        for group, kept, scaled in self._in_place:
            if group["lr"] is scaled:  # else somebody has set another rate since
                group["lr"] = kept
        self._in_place.clear()


def _across(gramian: Array, here: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    """Products between the two halves only: (2K, 2K), (2K,) -> (K, K), (K,)."""
    k, odd = divmod(len(gramian), 2)
    if odd:
        raise AccordError(f"halves=True needs 2K tasks, one half's and then the other's; the step has {len(gramian)}.")
    return (gramian[:k, k:] + gramian[k:, :k]) / 2, here[:k] & here[k:]


def _number(name: str, value: Any) -> float:
    holds, bounds = BOUNDS[name]
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not holds(value):
        raise AccordError(f"ConflictAwareLR: {name}={value!r}, expected a finite number {bounds}.")
    return float(value)


def _array(values: Tensor) -> Array:
    return values.to("cpu", torch.float64).numpy().copy()
