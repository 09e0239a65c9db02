"""equilibrium: does an auxiliary loss still push where the main task is solved?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord.engines import Starter
from accord.errors import AccordError

Points = Callable[[torch.Generator], Tensor]  # one draw of points (N, ...)
Loss = Callable[[Tensor, torch.Generator], Tensor]  # of points (N, ...), a scalar
FEWEST = 8  # draws: from here on the expansion of Student's quantile in `t_interval` is good to 0.4 %


@dataclass(frozen=True, eq=False)
class Push:
    """How a loss pushes points that stand where the main task is solved, one number per draw.

    Args:
        near: (R,) norm of its gradient at points where the main task is solved.
        far: (R,) norm at points elsewhere, the measure of what is large.
        towards: (R,) cosine of the push (minus the gradient) near with the direction asked about; NaN without one.

    Example:
        >>> push = Push(torch.tensor([1.0, 3.0]), torch.tensor([4.0, 4.0]), torch.tensor([torch.nan, torch.nan]))
        >>> push.ratio
        0.5
    """

    near: Tensor
    far: Tensor
    towards: Tensor

    @property
    def ratio(self) -> float:
        """Mean of near / far over the draws: 0, or sampling noise, if the loss agrees with the solved main task."""
        return float((self.near / self.far).mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % t-interval of ``ratio`` over the draws."""
        return t_interval(self.near / self.far)

    @property
    def direction(self) -> float:
        """Mean of ``towards`` over the draws: 1 if the points are pushed exactly there."""
        return float(self.towards.mean())

    @property
    def direction_interval(self) -> tuple[float, float]:
        """95 % t-interval of ``direction`` over the draws."""
        return t_interval(self.towards)


def equilibrium(
    losses: Mapping[str, Loss],
    near: Points,
    far: Points,
    *,
    towards: Callable[[Tensor], Tensor] | None = None,
    draws: int = 32,
    seed: int = 0,
) -> dict[str, Push]:
    """The static audit of auxiliary losses; nothing is trained.

    ``ratio = mean ‖∇L(x_near)‖ / ‖∇L(x_far)‖``, the points x themselves being what the gradient is taken in. The main
    task of a generator, for instance, is solved by particles that are real samples. A loss that compares means is at
    rest there, up to ``O(1/sqrt(N))`` from the draw of N points. One that asks each sample to resemble a random other
    one still pushes, and it pushes towards the mean. To tell noise from a push, ask again with 4N points: noise halves.

    A loss that is at rest may still be in conflict before, and one that pushes may help early on; this says where
    a training that has solved the main task would be driven next.

    Source: ours.

    Args:
        losses: functions of points (N, ...) and a generator, by name; each gives a scalar.
        near: one draw of points where the main task is solved, from a generator.
        far: one draw of points elsewhere, such as noise of the same size.
        towards: the direction asked about, (N, ...) from points (N, ...): ``lambda x: x.mean(0) - x``.
        draws: R, how often points are drawn; at least 8.
        seed: of all randomness.

    Returns:
        A ``Push`` for each loss.

    Raises:
        AccordError: for no losses, too few draws, points that are no floating-point numbers, a loss that does not
            depend on them, and one whose gradient far away vanishes, so that there is nothing to compare with.

    Example:
        >>> import torch, accord
        >>> data = torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
        >>> def draw(generator):
        ...     return data[torch.randint(len(data), (256,), generator=generator)]
        >>> def moments(x, generator):  # compares means: at rest on real samples
        ...     return (x.mean(0) - draw(generator).mean(0)).square().sum()
        >>> def pairs(x, generator):  # every sample shall resemble a random other one
        ...     return (x - draw(generator)).square().sum(1).mean()
        >>> found = equilibrium(
        ...     {"moments": moments, "pairs": pairs}, draw, lambda g: draw(g) + 3, towards=lambda x: x.mean(0) - x
        ... )
        >>> found["moments"].ratio < 0.1 < 0.4 < found["pairs"].ratio
        True
        >>> found["pairs"].direction > 0.6
        True
    """
    if not losses:
        raise AccordError("equilibrium needs at least one loss to look at, found none.")
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < FEWEST:
        raise AccordError(f"equilibrium: draws={draws!r}, expected an integer >= {FEWEST}, for an interval over draws.")
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in losses}
    for _ in range(draws):
        here, there = near(generator).detach(), far(generator).detach()  # (N, ...) both
        aim = None if towards is None else towards(here).detach()  # (N, ...)
        pushes, references = (_gradients(losses, points, generator) for points in (here, there))
        for name in losses:
            gradient, reference = pushes[name], float(references[name].norm())
            if not reference > 0:
                raise AccordError(
                    f"the gradient of {name!r} at the points far away is {reference}, so there is nothing to compare "
                    "with; choose `far` where this loss has something to do."
                )
            cosine = float("nan") if aim is None else _cosine(-gradient, aim)
            found[name].append((float(gradient.norm()), reference, cosine))
    return {name: Push(*torch.tensor(rows, dtype=torch.float64).unbind(1)) for name, rows in found.items()}


class _Particles(nn.Module):
    """Points as the parameters of a model, so that an engine can take gradients in them."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        if not points.is_floating_point():
            raise AccordError(f"points must be floating-point numbers, found {points.dtype}; use points.float().")
        self.points = nn.Parameter(points.clone())  # (N, ...)


def _gradients(losses: Mapping[str, Loss], points: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The gradient of each loss in the points, (N, ...)."""
    found = {}
    for name, loss in losses.items():
        particles = _Particles(points)
        value = loss(particles.points, generator)
        if not isinstance(value, Tensor) or not value.requires_grad:
            raise AccordError(f"{name!r} does not depend on the points; compute it from them, without detach().")
        # `shared` keeps to the points, although the networks inside the loss have parameters, too.
        engine = Starter(particles, "stacked", ("points",), None).start({name: value}, rows=True)
        assert engine.rows is not None
        (row,) = engine.rows.rows
        index = next(i for i, p in enumerate(engine.sharing.shared) if p is particles.points)
        gradient = row[index]
        found[name] = torch.zeros_like(points) if gradient is None else gradient
    return found


def _cosine(a: Tensor, b: Tensor) -> float:
    """NaN where one of the two is zero and has no direction."""
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size > 0 else float("nan")


def t_interval(values: Tensor) -> tuple[float, float]:
    """95 % interval of the mean, ``m ± t s / sqrt(R)``; undefined values leave it undefined.

    The quantile is Cornish and Fisher's expansion in 1/(R-1), whose error is below 0.4 % from 8 values on.

    Args:
        values: (R,).

    Example:
        >>> low, high = t_interval(torch.tensor([0.0, 2.0] * 8))
        >>> round(low, 3), round(high, 3)  # 1 ± 2.1314 * 1.0328 / 4
        (0.45, 1.55)
    """
    values = values.double()
    z, free = 1.959964, len(values) - 1
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    half = t * float(values.std()) / len(values) ** 0.5
    mean = float(values.mean())
    return mean - half, mean + half
