"""Starting a backward pass: which engine, under which conditions, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from accord.blocks import Granularity
from accord.engines import compiled, memory
from accord.engines.engine import Engine
from accord.engines.features import Features
from accord.engines.rows import Reduce
from accord.engines.segmented import Segmented
from accord.engines.stacked import Stacked
from accord.errors import AccordError
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
    """

    model: nn.Module
    name: str
    shared: Iterable[str | Tensor] | None
    reduce: Reduce | None
    _automatic: dict[tuple[int, int], str] = field(default_factory=dict)

    def start(
        self,
        losses: Mapping[str, Tensor],
        granularity: Granularity | None,
        features: Sequence[Tensor] | None = None,
        *,
        rows: bool = False,
        retain_graph: bool = False,
    ) -> Engine:
        """Begin the pass.

        Args:
            losses: scalar losses by task name.
            granularity: of the blocks on a probe step; None on others, where one block does.
            features: the shared representation, where the user names it.
            rows: the task gradients themselves are needed.
            retain_graph: the graph is needed afterwards.

        Raises:
            AccordError: when the engine asked for cannot serve this graph.
        """
        values, blocks = list(losses.values()), granularity or "total"
        probe = granularity is not None
        if features is not None:
            if self.name not in ("auto", "features"):
                raise AccordError(f"features= was given, but engine={self.name!r} does not use it.")
            sharing = discover(self.model, losses, self.shared)
            return Features(self.model, sharing, values, blocks, reduce=self.reduce, features=features)
        sharing = discover(self.model, losses, self.shared)
        name = "stacked" if rows else self.name
        if name == "features" and retain_graph:
            name = "auto"  # a look beside the step is at the parameters
        if name == "auto":
            key = (len(losses), sharing.size)
            if key not in self._automatic:
                keep = sharing.graph.reentrant or memory.fits(sharing, len(losses))
                self._automatic[key] = "stacked" if keep else "segmented"
            name = self._automatic[key]
        return ENGINES[name](
            self.model, sharing, values, blocks, retain_graph=retain_graph, reduce=self.reduce, probe=probe
        )

    def look(self, losses: Mapping[str, Tensor], granularity: Granularity | None) -> Engine | None:
        """The task gradients beside a step that does not need them; the graph stays for the step itself.

        Args:
            losses: scalar losses by task name.
            granularity: of the blocks; None to leave this step alone.
        """
        if granularity is None:
            return None
        with by_hand(losses):
            return self.start(losses, granularity, retain_graph=True)


@contextmanager
def by_hand(losses: Mapping[str, Tensor]) -> Iterator[None]:
    """Where task gradients are taken and combined: outside autocast, which would round them, and ungraphed."""
    device = next(iter(losses.values())).device.type
    with torch.autocast(device, enabled=False), torch.no_grad(), compiled.explained():
        yield


def refuse_unreduced(model: nn.Module) -> None:
    """Gradients from ``autograd.grad`` bypass the reducers of distributed wrappers: replicas would drift apart.

    Raises:
        AccordError: for a wrapped or sharded model.
    """
    wrappers = ("DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")
    wrapped = [c.__name__ for m in model.modules() for c in type(m).__mro__ if c.__name__ in wrappers]
    if wrapped or any(hasattr(p, "device_mesh") for p in model.parameters()):
        raise AccordError(
            f"the model is distributed ({wrapped[0] if wrapped else 'sharded parameters'}), and per-task gradients "
            "bypass its reduction. Hand over reduce=, which averages a list of tensors over ranks, or use Sum()."
        )
