"""The model of a run with what the configuration adds to it: layers of their own, a mask, an anchor."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accord import problems
from accord.balancer import Balancer
from accord.bench import store
from accord.bench.anchor import Anchor
from accord.bench.config import RunConfig
from accord.errors import AccordError
from accord.problems import Batch, Part, seeds
from accord.restructure import TaskSpecific, carry, task_specific
from accord.sharing import discover, inside
from accord.sparse.install import Site
from accord.sparse.mask import Mask
from accord.sparse.origin import origin
from accord.sparse.scope import Regime
from accord.sparse.training import SparseTraining
from accord.undisturbed import undisturbed

HEADS = "heads"  # every architecture of ours keeps the heads of its tasks there
BATCHES = 32  # of the training data, at most, for rules that look at gradients
NUMBERS = ("trainable", "total", "shared", "selected", "density", "hash")  # of a mask, in a result
REGIME: Regime = "scratch"  # our problems begin with random weights: norms and embeddings are trained


class Prepared:
    """A model made ready for a run. Without additions it is the problem's model, and nothing else happens.

    Args:
        config: of the run.
        problem: makes the model, and the losses for rules that look at gradients.
        train: training data; rules that look at gradients see the first batches of an order of their own.
        mask: of a run that goes on; it is never made a second time.
        looks: folder for the record of looks at trained and frozen weights.
    """

    def __init__(
        self, config: RunConfig, problem: problems.Problem, train: Part, mask: Mask | None, looks: Path
    ) -> None:
        self.config, self.problem, self._train = config, problem, train
        self.model = problem.model(config.seed)
        if config.split is not None and config.split_after is None:
            self.split()
        self.seconds = 0.0  # that the selection took
        self.sparse: SparseTraining | None = None
        self._projects = type(problem).after_step is not problems.Problem.after_step
        heads = self._heads() if config.sparse is not None or config.anchor is not None else ()
        if config.sparse is not None:
            self.sparse = self._select(heads, mask, looks)
        self.anchor = None if config.anchor is None else self._anchor(heads, config.anchor)

    def split(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Give every task its copies of the layers; an optimiser goes on with them as it would have with the layers."""
        assert self.config.split is not None
        self.model = task_specific(self.model, self.config.split, self.problem.tasks)
        if optimizer is not None:
            carry(optimizer, self.model)

    @property
    def due(self) -> int | None:
        """After how many epochs layers are still to be split; None: no more are."""
        return None if isinstance(self.model, TaskSpecific) else self.config.split_after

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of all tasks, each with its own copies."""
        if isinstance(self.model, TaskSpecific):
            base = self.model.base
            return self.model.by_task(lambda: self.problem.losses(base, batch))
        return dict(self.problem.losses(self.model, batch))

    def metrics(self, examples: Part) -> dict[str, dict[str, float]]:
        """The metrics of all tasks, likewise."""
        if isinstance(self.model, TaskSpecific):
            base = self.model.base
            return self.model.by_task(lambda: self.problem.metrics(base, examples), remember=False)
        return dict(self.problem.metrics(self.model, examples))

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser is given."""
        return list(self.model.parameters() if self.sparse is None else self.sparse.parameters())

    def attach(self, balancer: Balancer) -> None:
        """Look at the steps of this Balancer, and do what they need."""
        if self.sparse is not None:
            self.sparse.attach(balancer)

    def after_update(self) -> None:
        """The optimiser has made its step."""
        if self.anchor is not None:
            self.anchor.pull()
        sites = () if self.sparse is None or not self._projects else tuple(self.sparse.sites.values())
        for site in sites:
            site.placed.write(site.dense)
        self._constrain()
        for site in sites:
            _take(site)

    def summary(self) -> store.Sparsity | None:
        """What is trained; None where everything is."""
        if self.sparse is None:
            return None
        numbers = {name: getattr(self.sparse.mask, name) for name in NUMBERS}
        return store.Sparsity(**numbers, seconds=self.seconds)

    def _constrain(self) -> None:
        """Constraints of the problem on its parameters, those of every task's copies too."""
        if not isinstance(self.model, TaskSpecific):
            self.problem.after_step(self.model)
        elif self._projects:
            for task in self.model.tasks:
                with self.model.on(task):
                    self.problem.after_step(self.model.base)

    def verify(self) -> None:
        """Nothing that is not trained has changed.

        Raises:
            AccordError: naming what has.
        """
        if self.sparse is not None:
            self.sparse.verify()

    def close(self) -> None:
        """The looks are on the disk afterwards."""
        if self.sparse is not None:
            self.sparse.close()

    def trained(self, parameters: Iterable[Tensor]) -> int:
        """How many of these scalars are trained, each counted once."""
        own: set[Tensor] = set(self.parameters())
        if self.sparse is not None and self.sparse.trains == "all":  # the dense weights are counted, with all of theirs
            own -= {site.placed.values for site in self.sparse.sites.values()}
        return sum(p.numel() for p in parameters if p in own)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the model's own state."""
        return {} if self.sparse is None else {"sparse": self.sparse.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            AccordError: if the state belongs to another mask.
        """
        if self.sparse is not None:
            self.sparse.load_state_dict(state["sparse"])

    def _select(self, heads: tuple[str, ...], mask: Mask | None, looks: Path) -> SparseTraining:
        config, began = self.config, time.perf_counter()
        assert config.sparse is not None
        if mask is not None:
            shared = {name: p for name, p in self.model.named_parameters() if name not in mask.heads}
            if origin(shared) != mask.origin:
                raise AccordError(
                    f"{config.place} began with other weights than those of its mask; remove this folder to begin anew."
                )
        made = SparseTraining(
            self.model, config.sparse if mask is None else mask, heads=heads, regime=REGIME,
            losses=self._losses() if mask is None else None, order=config.sparse_order, trains=config.sparse_trains,
            look=config.looks, path=looks if config.looks else None, seed=config.seed,
        )  # fmt: skip
        self.seconds = time.perf_counter() - began
        return made

    def _heads(self) -> tuple[str, ...]:
        """The tasks' own parameters: the module ``heads`` if there is one, else what a single loss reaches."""
        known = (HEADS,) if isinstance(getattr(self.model, HEADS, None), nn.Module) else ()
        if known and self.config.split is None:
            return known
        batch = next(iter(self._train))
        with undisturbed(self.model, grad=True):
            sharing = discover(self.model, self.losses(batch))
        own = {p for head in sharing.heads for p in head}
        found = (name for name, p in self.model.named_parameters() if p in own and not inside(name, [HEADS]))
        return (*known, *found)

    def _losses(self) -> Iterator[Mapping[str, Tensor]]:
        """The losses of the first training batches, one after the other; the model is left as it was."""
        self.model.train()
        order = self._train.shuffled(seeds.generator(self.config.seed, "selection"))
        for batch in itertools.islice(order, BATCHES):
            with undisturbed(self.model, grad=True):
                losses = self.losses(batch)
                yield {task: losses[task] for task in self.config.tasks or self.problem.tasks}

    def _anchor(self, heads: tuple[str, ...], strength: float) -> Anchor:
        """Everything but the heads, as it is now."""
        trained = {id(p) for p in self.parameters()}
        held = [p for name, p in self.model.named_parameters() if id(p) in trained and not inside(name, heads)]
        return Anchor(held, strength, self.config.lr)


@torch.no_grad()
def _take(site: Site) -> None:
    """What a constraint has made of the selected places of a weight is what is trained from now on."""
    values = site.placed.values
    present = site.placed.selection.gather(site.dense)
    kept = present == values.to(present.dtype)  # else trained values of more digits than the weight would be rounded
    values.copy_(torch.where(kept, values, present.to(values.dtype)))
