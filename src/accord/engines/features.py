"""The engine that measures at the shared representation: K short passes through the heads, one through the trunk.

Gramians are those of ``z_i = ∂L_i/∂z``, flattened over batch and features (Sener & Koltun 2018, arXiv 1810.04650,
section 3.3: the upper bound of MGDA-UB). Non-conflict then holds in feature space, not for the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from accord.blocks import Blocks, Granularity
from accord.engines.engine import Engine
from accord.engines.head import Heads
from accord.errors import AccordError
from accord.rows import Reduce
from accord.sharing import Sharing, cut_at, frontier


class Features(Engine):
    """Gramian of the gradients at the shared representation; extra memory K·|z|.

    Args:
        model: unused; every engine is constructed alike.
        sharing: which parameter is reached by which losses.
        losses: K scalars.
        granularity: unused; the representation is one block.
        retain_graph: keep the graph for a later pass of the user's own.
        reduce: refused: feature Gramians of ranks are summed, not averaged.
        probe: of no use: the parameters' gradients are never seen apart.
        features: the shared representation, if the graph's own cut is not wanted.

    Raises:
        AccordError: when the heads do not part from the trunk in a clean cut and ``features`` is not given.
    """

    space = "features"

    def __init__(
        self,
        model: nn.Module,
        sharing: Sharing,
        losses: Sequence[Tensor],
        granularity: Granularity | Mapping[Tensor, str] = "total",
        *,
        retain_graph: bool = False,
        reduce: Reduce | None = None,
        probe: bool = False,
        features: Sequence[Tensor] | None = None,
    ) -> None:
        if reduce is not None:
            raise AccordError("engine='features' does not take reduce= yet; use engine='stacked'.")
        if sharing.graph.reentrant:
            raise AccordError(
                "engine='features' cannot look inside a reentrant checkpoint; use checkpoint(..., use_reentrant=False)."
            )
        cut = frontier(sharing) if features is None else cut_at(sharing, features)
        if cut is None:
            raise AccordError(
                "engine='features' found no clean cut between heads and trunk (heads take tensors on several levels). "
                "Use engine='stacked' or 'segmented', or let every head start from the same tensors."
            )
        self.sharing = sharing
        self.retain_graph = retain_graph
        # What the user names may lie below nodes that heads share; the graph's own cut never does.
        self.head = Heads(sharing, losses, cut, retain_graph or features is not None)
        self.heads = self.head.gradients
        self.blocks = Blocks(("features",), (0,) * len(self.head.edges))
        self.gramians = self.head.cotangents.gramians(self.blocks)  # (1, K, K)

    def inner(self, vectors: Sequence[Tensor | None]) -> None:
        """See ``Engine.inner``; unknown here."""

    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """See ``Engine.combine``; there are no rows to keep."""
        return self.head.through_trunk(weights, self.retain_graph)
