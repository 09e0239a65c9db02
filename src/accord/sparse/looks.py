"""Looks: the gradient of what is not trained, now and then, without touching the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from accord.balancer.write import drop
from accord.errors import AccordError
from accord.monitor import Monitor
from accord.step import Step

TRAINED, FROZEN = "trained", "frozen"


class Looks:
    """An observer of a Balancer: measures the Gramians of the trained and of the other shared scalars.

    A gradient has to be wanted before the forward pass: at the end of the step before a look, the rest of the shared
    parameters is told to require one; after the look, before the Balancer sees the losses, no longer.

    Args:
        rest: shared parameters that are not trained.
        monitor: looks every few steps, in the blocks ``trained`` and ``frozen``; None: never.
        always: the rest requires gradients in every step, as the method is to see them.
        keep: leave ``.grad`` of the rest to the optimiser.
    """

    def __init__(self, rest: Sequence[Tensor], monitor: Monitor | None, *, always: bool, keep: bool) -> None:
        self.rest, self.monitor, self.always, self.keep = rest, monitor, always, keep
        self._open = False  # a step whose losses have been seen
        self._wanted = always
        self._repeat = Repeat(rest)

    def watch(self, model: nn.Module) -> None:
        """Checkpointed parts (``use_reentrant=False``) run again in the backward pass, and have to run alike.

        Args:
            model: its modules with frozen parameters of their own get hooks.
        """
        if self.monitor is not None and not self.always:
            self._repeat.register(model)

    def forget(self) -> None:
        """Undo ``watch``."""
        self._repeat.remove()

    def begin(self) -> None:
        """The next forward pass may be one to look at."""
        due = self.monitor is not None and self.monitor.pace.next <= self.monitor.pace.steps
        self._want(self.always or due)

    def before(self, losses: Mapping[str, Tensor]) -> None:
        """See ``probe.Observer``. Of several micro-batches the first is looked at.

        Args:
            losses: of a step.

        Raises:
            AccordError: if the forward pass came before the Balancer was attached.
        """
        if self._open:
            self._repeat.looked = False
            return
        self._open = True
        if self.monitor is not None:
            pace = self.monitor.pace
            if pace.next <= pace.steps and not self._wanted:
                pace.next += 1  # the step before this one failed, so nobody asked for these gradients: look later
            step = self.monitor.observe(losses)
            if step is not None and self.rest and TRAINED in step.blocks and FROZEN not in step.blocks:
                raise AccordError(
                    "a look is due, but these losses were computed before attach(balancer), or before the last "
                    "backward pass had ended; attach first, and compute the losses of a step after the step before."
                )
        self._repeat.looked = self._wanted
        if not self.always:
            self._want(False)

    def after(self, step: Step) -> None:
        """See ``probe.Observer``.

        Args:
            step: what happened.
        """
        self._open = self._repeat.looked = False
        if not self.keep:
            drop(self.rest)
        self.begin()

    def _want(self, wanted: bool) -> None:
        self._wanted = wanted
        for p in self.rest:
            p.requires_grad_(wanted)

    def state_dict(self) -> dict[str, Any] | None:
        """Where the looks stand."""
        return None if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on from there.

        Args:
            state: what ``state_dict`` gave.
        """
        if self.monitor is not None and state is not None:
            self.monitor.load_state_dict(state)
        self.begin()


class Repeat:
    """While a checkpointed part runs again in the backward pass of a look's step, its parameters want gradients, too.

    Else it would save fewer tensors than the first time, which PyTorch refuses. Outside of it they want none, so that
    neither the Balancer nor autograd gives them any.

    Args:
        rest: shared parameters that are not trained.
    """

    def __init__(self, rest: Sequence[Tensor]) -> None:
        self.rest, self.looked = frozenset(rest), False
        self.handles: list[RemovableHandle] = []

    def __deepcopy__(self, memo: object) -> Repeat:
        return self  # a copy of the model has hooks that find nothing to do

    def register(self, model: nn.Module) -> None:
        """Put the hooks in place.

        Args:
            model: any.
        """
        for module in model.modules():
            if any(p in self.rest for p in module.parameters(recurse=False)):
                self.handles.append(module.register_forward_pre_hook(self.begin))
                self.handles.append(module.register_forward_hook(self.end, always_call=True))

    def remove(self) -> None:
        """Take them away."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def begin(self, module: nn.Module, *_: Any) -> None:
        """Before a module runs."""
        self._want(module, True)

    def end(self, module: nn.Module, *_: Any) -> None:
        """After it."""
        self._want(module, False)

    def _want(self, module: nn.Module, wanted: bool) -> None:
        if self.looked and torch._C._current_graph_task_id() != -1:  # as torch.utils.checkpoint knows a second run
            for p in module.parameters(recurse=False):
                if p in self.rest:
                    p.requires_grad_(wanted)
