"""SparseTraining: only the selected scalars of a model are trained, with any method and any optimiser."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.optim import Optimizer

from accord.balancer import Balancer
from accord.errors import AccordError, nearest
from accord.monitor import Monitor
from accord.record import Record
from accord.sparse import frozen
from accord.sparse.agreement import agree
from accord.sparse.fitness import check_model, check_there
from accord.sparse.guard import guard
from accord.sparse.install import install, remove
from accord.sparse.looks import FROZEN, TRAINED, Looks
from accord.sparse.mask import Mask
from accord.sparse.norms import hold_statistics
from accord.sparse.placed import Placed
from accord.sparse.rule import Rule
from accord.sparse.scope import Regime, Treatment
from accord.sparse.select import select
from accord.sparse.selection import Columns
from accord.sparse.structured import fits

Order = Literal["mask-then-combine", "combine-then-mask"]
Trains = Literal["selected", "all"]
Statistics = Literal["move", "freeze"]


class SparseTraining:
    """Selects, and changes the model so that nothing but the selection is trained: frozen scalars stay bit for bit.

    A weight of which k inputs per output unit are trained holds them as a small parameter ``values``, ``(out, k)``;
    task gradients, moments, what ranks exchange, weight decay and the norm that is clipped are all theirs alone. The
    forward pass is that of the dense model. Build it before the optimiser and before any wrapper (DDP, compile).

    Args:
        model: is changed in place; ``merge`` changes it back.
        rule: which scalars: a rule, its spelling (``"PSN(k=300)"``), or a Mask that was made before.
        heads: names or prefixes of the tasks' own parameters, trained whole.
        regime: ``pretrained`` or ``scratch``: what becomes of norms, tokens and tables; see ``select``.
        overrides: ``frozen``, ``whole`` or ``rows`` by pattern of names.
        losses: losses of some batches, for rules that need data.
        order: ``mask-then-combine`` (the method sees the gradients of what is trained; memory K·S) or
            ``combine-then-mask`` (it sees whole gradients, as in the paper's formula; memory K·P).
        look: at every n-th step also measure the gradient of what is not trained; 0: never. Needs ``attach``.
        path: folder for what the looks record; None: memory.
        trains: ``selected``, or ``all``: dense training, of which the selection is only looked at.
        bn_stats: ``move`` (running statistics follow the data) or ``freeze`` (those of the shared part stay and are
            used).
        seed: of random rules.

    Raises:
        AccordError: for a mask of another model, a model that is sparse already, or an unknown choice.

    Source: arXiv 2411.18615; the compact form is ours.

    Example:
        >>> import accord
        >>> from accord.sparse.training import SparseTraining
        >>> model = nn.ModuleDict({"trunk": nn.Linear(8, 4), "a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})
        >>> training = SparseTraining(model, "PSN(k=2)", heads=("a", "b"))
        >>> optimizer = torch.optim.AdamW(training.parameters())
        >>> balancer = accord.Balancer(model, "UPGrad()")
        >>> z = model["trunk"](torch.ones(3, 8)).tanh()
        >>> step = balancer.backward({task: model[task](z).square().mean() for task in "ab"})
        >>> optimizer.step()
        >>> training.verify()
        >>> training
        SparseTraining(PSN(k=2): 22 of 46 trained, 12 of 36 shared)
    """

    def __init__(
        self,
        model: nn.Module,
        rule: Rule | str | Mask,
        *,
        heads: str | Sequence[str] = (),
        regime: Regime = "pretrained",
        overrides: Mapping[str, Treatment] | None = None,
        losses: Iterable[Mapping[str, Tensor]] | None = None,
        order: Order = "mask-then-combine",
        look: int = 0,
        path: str | os.PathLike[str] | None = None,
        trains: Trains = "selected",
        bn_stats: Statistics = "move",
        seed: int = 0,
    ) -> None:
        choices = (("order", order, Order), ("trains", trains, Trains), ("bn_stats", bn_stats, Statistics))
        for name, value, known in choices:
            if value not in get_args(known):
                raise AccordError(f"{name}={value!r} is not known.{nearest(str(value), get_args(known))}")
        check_model(model)
        if any(isinstance(module, Placed) for module in model.modules()):
            raise AccordError("the model trains sparsely already; merge() the SparseTraining before, or go on with it.")
        self.model, self.order, self.trains, self.seed = model, order, trains, seed
        self._options: dict[str, Any] = {"heads": heads, "regime": regime, "overrides": overrides}
        self.mask = rule if isinstance(rule, Mask) else select(model, rule, losses=losses, seed=seed, **self._options)
        self.first, self.reselections = self.mask.hash, 0
        _check_fits(self.mask, parameters := dict(model.named_parameters()))
        self._required = {p: p.requires_grad for p in parameters.values()}
        self.frozen = {name: parameters[name] for name in self.mask.frozen}
        self.sites = install(model, self.mask.selections)
        pairs = [(site.dense, site.placed.values) for site in self.sites.values() if trains == "selected"]
        self._handles = (guard(self, pairs), *(hold_statistics(model, self.mask.heads) if bn_stats == "freeze" else ()))
        self._looks = Looks(self.rest, self._monitor(look, path), always=self._whole, keep=trains == "all")
        self._balancers: list[Balancer] = []
        for p in self.rest:
            p.requires_grad_(self._whole)
        self._digests = self.digests()

    def __repr__(self) -> str:
        return f"SparseTraining({repr(self.mask).removeprefix('Mask(')}"

    @property
    def _whole(self) -> bool:
        """Whether whole gradients are made in every step."""
        return self.trains == "all" or self.order == "combine-then-mask"

    @property
    def rest(self) -> list[Tensor]:
        """Shared tensors outside the selection: dense weights, whose selected places do not count, and frozen ones."""
        return [*(site.dense for site in self.sites.values()), *self.frozen.values()]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by the names that it had before."""
        names: dict[Tensor, str] = {site.placed.values: name for name, site in self.sites.items()}
        dense: dict[Tensor, str] = {site.dense: f"{name} (rest)" for name, site in self.sites.items()}
        rest = set(self.rest) if self.trains == "selected" else set()
        return {
            names.get(p) or dense.get(p) or name: p
            for name, p in self.model.named_parameters()
            if p not in rest and (p.requires_grad or p in dense)
        }

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, for the optimiser."""
        return list(self.named_parameters().values())

    def attach(self, balancer: Balancer) -> None:
        """Let a Balancer's steps be seen: needed for looks and for ``combine-then-mask``.

        Args:
            balancer: of the same model, wrapped or not.

        Raises:
            AccordError: for another model, or an optimiser that holds what is not trained.
        """
        known = set(balancer.model.parameters())
        if any(site.placed.values not in known for site in self.sites.values()):
            raise AccordError("this Balancer has another model; give it the one of the SparseTraining.")
        if self._balancers:
            raise AccordError("this SparseTraining is attached to a Balancer already.")
        if balancer.optimizer is not None:
            self.check(balancer.optimizer)
        if self._looks.monitor is not None:
            self._looks.monitor.starter.reduce = balancer.starter.reduce
        self._balancers.append(balancer)
        balancer.observers.append(self._looks)
        self._looks.watch(self.model)
        self._looks.begin()

    def check(self, optimizer: Optimizer) -> None:
        """Say if an optimiser was built from other parameters than ``parameters()``.

        Args:
            optimizer: any.

        Raises:
            AccordError: if it holds weights that are not trained, or none that are.
        """
        held = {p for group in optimizer.param_groups for p in group["params"]}
        stale = [name for name, p in zip([*self.sites, *self.frozen], self.rest, strict=True) if p in held]
        if self.trains == "selected" and stale:
            raise AccordError(
                f"the optimiser holds {len(stale)} tensor(s) that are not trained, the first {stale[0]!r}: build it "
                "after the SparseTraining, from training.parameters()."
            )
        if not held & set(self.parameters()):
            raise AccordError("the optimiser holds nothing that is trained: build it from training.parameters().")

    def describe(self) -> str:
        """The mask as a table, and which column-structured weights get the smaller product, or why not."""
        lines = [self.mask.describe()]
        for name, site in self.sites.items():
            if isinstance(site.placed.selection, Columns):
                reasons = {reason for module, own in site.users if (reason := fits(module, own, site.placed))}
                lines.append(f"{name}: " + (f"whole product ({', '.join(reasons)})" if reasons else "smaller product"))
        return "\n".join(lines)

    def record(self) -> Record:
        """What the looks saw: Gramians in the blocks ``trained`` and ``frozen``; their sum is that of dense gradients.

        Raises:
            AccordError: without ``look=``.
        """
        if self._looks.monitor is None:
            raise AccordError("nothing was looked at; give SparseTraining(look=n) and attach it to the Balancer.")
        return self._looks.monitor.record()

    def close(self) -> None:
        """Write down what the looks saw, and stop writing."""
        if self._looks.monitor is not None:
            self._looks.monitor.close()

    def digests(self) -> dict[str, str]:
        """SHA-256 of everything frozen, by tensor; empty under ``trains="all"``."""
        if self.trains == "all":
            return {}
        selected = {name: frozen.digest(s.dense, s.placed.selection) for name, s in self.sites.items()}
        return selected | {name: frozen.digest(p) for name, p in self.frozen.items()}

    def verify(self) -> None:
        """Nothing frozen has changed by a bit since the start, or since the last selection.

        Raises:
            AccordError: naming the tensors that did.
        """
        frozen.check(self.digests(), self._digests)

    def agree(self) -> None:
        """All ranks have the same mask. Does nothing in a single process.

        Raises:
            AccordError: if they do not.
        """
        agree(self.mask.hash, next(self.model.parameters()).device)

    def select_again(
        self, rule: Rule | str | None = None, losses: Iterable[Mapping[str, Tensor]] | None = None
    ) -> Mask:
        """The mask that a rule chooses from the present values; nothing is changed. See ``reselect``.

        Args:
            rule: by default the one that chose first.
            losses: for rules that need data.
        """
        wanted = [p.requires_grad for p in self.rest]  # for a look, perhaps, which the rule must not see
        for p in self.rest:
            p.requires_grad_(False)
        try:
            seed = self.seed + self.reselections + 1
            return select(self.model, rule or self.mask.rule, losses=losses, seed=seed, **self._options)
        finally:
            for p, want in zip(self.rest, wanted, strict=True):
                p.requires_grad_(want)

    def adopt(self, mask: Mask) -> None:
        """Train the places of another mask from now on; what was trained stays where it is.

        Optimisers know nothing of it: ``accord.sparse.reselect`` carries their state.

        Args:
            mask: with selections in the same tensors, and the same others whole and frozen.

        Raises:
            AccordError: for a mask of other tensors, and while masks per task divide the present one.
        """
        if any(site.placed.divided for site in self.sites.values()):
            raise AccordError(
                "masks per task divide the present places: detach(balancer) them, choose again, divide the new mask."
            )
        if set(mask.selections) != set(self.sites) or (mask.whole, mask.frozen) != (self.mask.whole, self.mask.frozen):
            raise AccordError("the new mask selects in other tensors than the present one; keep rule and budget alike.")
        for name, site in self.sites.items():
            site.placed.reselect(site.dense, mask.selections[name].to(site.dense.device))
        self.mask = mask
        self._digests = self.digests()

    def merge(self) -> nn.Module:
        """Make the model an ordinary one again, with the trained values in its weights; ends the sparse training."""
        for balancer in self._balancers:
            balancer.observers.remove(self._looks)
        for site in self.sites.values():
            remove(site)
        for p, required in self._required.items():
            p.requires_grad_(required)
        for handle in self._handles:
            handle.remove()
        self._looks.forget()
        self.sites, self.frozen, self._balancers, self._handles = {}, {}, [], ()
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """The mask with its hash, the digests of what is frozen, and where the looks stand."""
        return {
            "mask": self.mask.state_dict(), "first": self.first, "reselections": self.reselections,
            "order": self.order, "trains": self.trains, "digests": dict(self._digests),
            "looks": self._looks.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; before the model's own ``load_state_dict``. Nothing is selected anew.

        Args:
            state: what ``state_dict`` gave.

        Raises:
            AccordError: if it belongs to another mask, another model or other settings.
        """
        for key in ("order", "trains"):
            if state.get(key) != getattr(self, key):
                raise AccordError(f"the state has {key}={state.get(key)!r}, this training {getattr(self, key)!r}.")
        mask = Mask.from_state(state["mask"])
        same = mask.hash == self.mask.hash and (mask.origin == self.mask.origin or state["reselections"])
        if not same and not (state["first"] == self.first and state["reselections"]):
            raise AccordError(
                f"the state belongs to another mask or model ({mask!r}); this one began as {self.mask!r}. Resume with "
                "SparseTraining(model, Mask.from_state(state['mask']))."
            )
        if mask.hash != self.mask.hash:
            self.adopt(mask)
        self.first, self.reselections = state["first"], int(state["reselections"])
        self._digests = dict(state["digests"])
        self._looks.load_state_dict(state["looks"])

    def _monitor(self, look: int, path: str | os.PathLike[str] | None) -> Monitor | None:
        if not isinstance(look, int) or isinstance(look, bool) or look < 0:
            raise AccordError(f"look={look!r}, expected a whole number of steps, or 0 for never.")
        if look == 0:
            if path is not None:
                raise AccordError("path= is for what looks record; give look=, too.")
            return None
        named = dict(self.model.named_parameters())
        blocks: dict[Tensor, str] = {site.placed.values: TRAINED for site in self.sites.values()}
        blocks |= {named[name]: TRAINED for name in self.mask.whole}
        blocks |= dict.fromkeys(self.rest, FROZEN)
        return Monitor(self.model, every=look, blocks=blocks, path=path, shared=list(blocks))


def _check_fits(mask: Mask, parameters: Mapping[str, nn.Parameter]) -> None:
    """Names and shapes of the mask are those of the model."""
    missing = [name for name in mask.shapes if name not in parameters]
    unknown = [name for name in parameters if name not in mask.shapes]
    if missing or unknown:
        found = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is new"
        raise AccordError(f"the mask is of another model: {found} here. Select for this model, before wrapping it.")
    for name, shape in mask.shapes.items():
        if parameters[name].shape != shape:
            raise AccordError(
                f"the mask is of another model: {name!r} has shape {tuple(parameters[name].shape)} here, "
                f"{tuple(shape)} there."
            )
        check_there(name, parameters[name])
