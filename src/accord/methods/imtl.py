"""IMTL: scaled losses on the heads' side, equal projections on the shared side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from accord.methods import checks
from accord.methods.imtlg import equal_projections
from accord.methods.imtll import Scales
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class IMTL(Weighting):
    """Impartial multi-task learning, the hybrid of IMTL-L and IMTL-G.

    IMTL-L learns ``s_i`` on ``Σ e^{s_i} L_i − s_i``; IMTL-G finds the weights α of the gradients ``e^{s_i} g_i`` of the
    scaled losses, ``Σα = 1``; so ``w_i = α_i e^{s_i}``. The direction is that of IMTL-G, which does not depend on the
    scale of a loss; the length is that of a mean of gradients of losses of about 1.

    Source: Liu et al. 2021 (ICLR), "Towards Impartial Multi-task Learning",
    [openreview IMPnRXEWpvr](https://openreview.net/forum?id=IMPnRXEWpvr), section 3.3 and algorithm 1.

    The paper's heads follow the scaled losses, with weights ``e^{s_i}``. A Balancer has ``heads="weighted"``, which
    gives them ``w_i`` (with α, as on the shared side), and ``heads="plain"``, which gives them 1.

    Args:
        init: of s, as in IMTLL; 0.0 in the paper.
        lr: learning rate of Adam on s, as in IMTLL.

    Example:
        >>> import torch
        >>> gramian, losses = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64)), torch.tensor([0.5, 2.0])
        >>> weights = IMTL()(gramian, losses.double())  # scaled gradients of length 2 and 1: α = (1, 2)/3
        >>> weights.numpy().round(6).tolist()
        [0.666667, 0.333333]
    """

    init: str | float = "log"
    lr: float = 1e-3

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "SI", "H1", "NC-full-rank"})

    def __post_init__(self) -> None:
        self._scales = Scales(self, self.init, self.lr)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Equal projections of the scaled losses' gradients; then s makes its step. See the class."""
        assert gramian is not None
        scales = self._scales.step(checks.present(self, losses), context)  # (k,)
        relative = scales / scales.max()  # (k,), α does not depend on a common factor
        return scales * equal_projections(self, gramian * relative[:, None] * relative, context.epsilon)

    def state_dict(self) -> dict[str, Any]:
        """S and the moments of Adam."""
        return self._scales.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._scales.load_state_dict(state)
