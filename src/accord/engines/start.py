"""Starting a backward pass: which engine, under which conditions, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from accord.blocks import Granularity
from accord.engines import compiled, memory
from accord.engines.confined import Part, parts_of
from accord.engines.engine import Engine
from accord.engines.features import Features
from accord.engines.once import Once
from accord.engines.segmented import Segmented
from accord.engines.stacked import Stacked
from accord.errors import AccordError
from accord.losses import values
from accord.rows import Reduce
from accord.sharing import discover

ENGINES: dict[str, type[Stacked] | type[Segmented] | type[Features]] = {
    "stacked": Stacked,
    "segmented": Segmented,
    "features": Features,
}


@dataclass
class Starter:
    """Starts engines for one model, always the same one for the same number of tasks and parameters.

    Args:
        model: names the parameters.
        name: ``auto`` or one of ``ENGINES``.
        shared: what enters the Gramian; see ``sharing.discover``.
        reduce: averages tensors over ranks.
        parts: for each task the places of parameters in which its gradient counts; None: everywhere.
    """

    model: nn.Module
    name: str
    shared: Iterable[str | Tensor] | None
    reduce: Reduce | None
    parts: Mapping[str, Part] | None = None
    _automatic: dict[tuple[int, int], str] = field(default_factory=dict)

    def start(
        self,
        losses: Mapping[str, Tensor],
        blocks: Granularity | Mapping[Tensor, str] = "total",
        features: Sequence[Tensor] | None = None,
        *,
        probe: bool = False,
        rows: bool = False,
        retain_graph: bool = False,
    ) -> Engine:
        """Begin the pass.

        Args:
            losses: scalar losses by task name.
            blocks: in which Gramians are measured.
            features: the shared representation, where the user names it.
            probe: somebody will ask for inner products with the update.
            rows: the task gradients themselves are needed.
            retain_graph: the graph is needed afterwards.

        Raises:
            AccordError: when the engine asked for cannot serve this graph.
        """
        scalars = list(losses.values())
        if self.parts is not None:
            return self._in_parts(losses, blocks, features, retain_graph=retain_graph)
        if features is not None:
            if self.name not in ("auto", "features"):
                raise AccordError(f"features= was given, but engine={self.name!r} does not use it.")
            sharing = discover(self.model, losses, self.shared)
            return Features(self.model, sharing, scalars, blocks, reduce=self.reduce, features=features)
        sharing = discover(self.model, losses, self.shared)
        name = self.name
        if name == "features" and retain_graph:
            name = "auto"  # a look beside the step is at the parameters
        if name == "auto":
            key = (len(losses), sharing.size)
            if key not in self._automatic:
                keep = sharing.graph.reentrant or memory.fits(sharing, len(losses))
                self._automatic[key] = "stacked" if keep else "segmented"
            name = self._automatic[key]
        options: dict[str, Any] = {"retain_graph": retain_graph, "reduce": self.reduce, "probe": probe}
        if rows:
            return Stacked(self.model, sharing, scalars, blocks, whole=True, **options)
        return ENGINES[name](self.model, sharing, scalars, blocks, **options)

    def _in_parts(
        self,
        losses: Mapping[str, Tensor],
        blocks: Granularity | Mapping[Tensor, str],
        features: Sequence[Tensor] | None,
        *,
        retain_graph: bool,
    ) -> Engine:
        """Whole gradients, which are then set to zero outside each task's part."""
        assert self.parts is not None
        own = parts_of(self.parts, losses)
        if features is not None or self.name not in ("auto", "stacked"):
            asked = "features=" if features is not None else f"engine={self.name!r}"
            raise AccordError(
                f"each task has places of its own, which needs the task gradients themselves; {asked} never has them. "
                "Use engine='stacked'."
            )
        sharing = discover(self.model, losses, self.shared)
        options: dict[str, Any] = {"retain_graph": retain_graph, "reduce": self.reduce, "parts": own}
        return Stacked(self.model, sharing, list(losses.values()), blocks, whole=True, **options)

    def once(self, losses: Mapping[str, Tensor]) -> Engine:
        """A pass with weights that are known already; nothing is measured."""
        if self.parts is not None:  # the gradient of a sum does not tell whose it is
            return self.start(losses)
        sharing = discover(self.model, losses, self.shared)
        if sharing.graph.reentrant:  # hides what lies below: only whole passes per loss see it
            return self.start(losses)
        return Once(sharing, list(losses.values()), reduce=self.reduce)

    def reached(self, losses: Mapping[str, Tensor]) -> list[Tensor]:
        """All leaves that the losses reach, also those that are not the model's."""
        sharing = discover(self.model, losses, self.shared)
        return [*sharing.shared, *(p for own in sharing.heads for p in own)]

    def values(self, losses: Mapping[str, Tensor]) -> Tensor:
        """(K,) float64 values of the losses on their device, averaged over ranks."""
        numbers = values(losses)
        if self.reduce is not None:
            self.reduce([numbers])
        return numbers

    def look(
        self, losses: Mapping[str, Tensor], granularity: Granularity | Mapping[Tensor, str] | None
    ) -> Engine | None:
        """The task gradients beside a step that does not need them; the graph stays for the step itself.

        Args:
            losses: scalar losses by task name.
            granularity: of the blocks; None to leave this step alone.
        """
        if granularity is None:
            return None
        with by_hand(losses):
            return self.start(losses, granularity, probe=True, retain_graph=True)


@contextmanager
def by_hand(losses: Mapping[str, Tensor]) -> Iterator[None]:
    """Where task gradients are taken and combined: outside autocast, which would round them, and ungraphed."""
    device = next(iter(losses.values())).device.type
    with torch.autocast(device, enabled=False), torch.no_grad(), compiled.explained():
        yield


def refuse_unreduced(model: nn.Module, reduce: Reduce | None, *, one_backward: bool) -> None:
    """Gradients from ``autograd.grad`` bypass the reducers of distributed wrappers: replicas would drift apart.

    Args:
        model: wrapped or not.
        reduce: averages tensors over ranks.
        one_backward: the method makes one backward pass of a weighted sum, which the wrapper reduces by itself.

    Raises:
        AccordError: for sharded parameters, for a static graph, for a wrapped model without ``reduce``, and for an
            unwrapped one where nobody would reduce the gradient.
    """
    kinds = {c.__name__: m for m in model.modules() for c in type(m).__mro__}
    if "FullyShardedDataParallel" in kinds or any(hasattr(p, "device_mesh") for p in model.parameters()):
        raise AccordError(
            "the model's parameters are sharded over ranks, where per-task gradients are not whole. Use Sum(), or "
            "DistributedDataParallel with reduce=."
        )
    wrapper = kinds.get("DistributedDataParallel")
    if wrapper is not None and getattr(wrapper, "static_graph", False):
        raise AccordError("DistributedDataParallel(static_graph=True) counts backward passes; set static_graph=False.")
    if wrapper is not None and reduce is None:
        raise AccordError(
            "the model is distributed (DistributedDataParallel), and per-task gradients and losses bypass its "
            "reduction. Hand over reduce=, which averages a list of tensors over ranks in place, or use Sum()."
        )
    if wrapper is None and reduce is not None and one_backward:
        raise AccordError(
            "reduce= averages the losses of a loss weighting, and leaves its gradient to DistributedDataParallel; "
            "wrap the model."
        )
