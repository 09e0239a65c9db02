"""A short training in which the conflict of time and mark is measured, tensor by tensor."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam

from accord.balancer import Balancer
from accord.cli.tpp.order import Order
from accord.cli.tpp.source import training
from accord.cli.tpp.watch import Watch
from accord.conflict import PairConflict, pair_conflict, published_gramians
from accord.engines import Starter, by_hand
from accord.tpp.fit import fit
from accord.tpp.model import TASKS, PointProcess

PARTS = ("encoder", "decoder")


@dataclass(eq=False)
class Measured:
    """The plain gradient of the summed losses; before every n-th step the Gramians of its two terms are taken.

    Args:
        model: that is trained.
        every: n.
    """

    model: PointProcess
    every: int
    names: tuple[str, ...] = ()  # B tensors that both losses reach
    steps: list[int] = field(default_factory=list)
    exact: list[NDArray[np.float64]] = field(default_factory=list)  # (B, 2, 2) each
    thresholded: list[NDArray[np.float64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.balancer = Balancer(self.model, "Sum()")
        self.starter = Starter(self.model, "auto", None, None)

    def __call__(self, losses: Mapping[str, Tensor]) -> None:
        """Measure if it is due, then fill ``.grad``."""
        if self.balancer.index % self.every == 0 and len(losses) == len(TASKS):
            self._look({task: losses[task] for task in TASKS})
        self.balancer.backward(losses)

    def _look(self, losses: Mapping[str, Tensor]) -> None:
        with by_hand(losses):
            engine = self.starter.start(losses, "tensor", rows=True, retain_graph=True)
        assert engine.rows is not None
        self.names = engine.blocks.names
        self.steps.append(self.balancer.index)
        self.exact.append(engine.gramians.cpu().numpy())
        chosen = np.argsort(engine.blocks.index)  # parameters in the order of the blocks: one each
        one, other = ([row[p].detach().cpu().numpy() for p in chosen] for row in engine.rows.rows)
        self.thresholded.append(published_gramians(one, other) if len(chosen) else np.empty((0, 2, 2)))

    def gramians(self, part: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(T, B', 2, 2) of ``encoder`` or ``decoder``: as they are, and of thresholded gradients."""
        chosen = [b for b, name in enumerate(self.names) if name.startswith(f"{part}.")]
        return np.stack(self.exact)[:, chosen], np.stack(self.thresholded)[:, chosen]

    @property
    def parts(self) -> dict[str, tuple[PairConflict, PairConflict]]:
        """Measures of each part of the model with a shared tensor, and the same of thresholded gradients."""
        found = {}
        for part in PARTS:
            exact, thresholded = self.gramians(part)
            if exact.shape[1]:
                found[part] = (pair_conflict(exact), pair_conflict(thresholded))
        return found


def measure(order: Order, every: int) -> Measured:
    """Train as the authors of the study do, on summed losses, and measure.

    Args:
        order: what is trained, and how.
        every: steps between two measurements.

    Raises:
        TPPError: for a mistake in the order.
        SystemExit: 130, after Ctrl-C.
    """
    order = dataclasses.replace(order, patience=order.epochs, paper_compat=True)  # a threshold means sums
    order.check()
    taken = training(order.data, order.reading, order.seed)
    model = order.fresh(taken)
    measured, watch = Measured(model, every), Watch(order.epochs)
    try:
        with watch:
            fit(
                model, taken.splits, epochs=order.epochs, batch=order.batch, patience=order.patience, stopping="joint",
                optimizer=lambda parameters: Adam(parameters, order.lr), backward=measured, seed=order.seed,
                paper_compat=True, simulated=taken.simulated, on_epoch=watch.epoch,
            )  # fmt: skip
    except KeyboardInterrupt:
        print("\nStopped; nothing was kept.", file=sys.stderr)
        raise SystemExit(130) from None
    return measured
