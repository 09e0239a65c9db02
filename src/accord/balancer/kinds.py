"""The kinds of training step, from the losses to ``.grad`` and the Step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from accord import losses as checked
from accord import scale as scaling
from accord.balancer.passes import Active, Pass, Setup
from accord.balancer.settings import check_attached, from_losses
from accord.balancer.solving import participants
from accord.balancer.write import write
from accord.engines import Engine, by_hand, plain
from accord.methods import Aggregation
from accord.rows import Rows
from accord.step import Step, spread


def plainly(setup: Setup) -> bool:
    """Whether the step is PyTorch's own, bit for bit."""
    return setup.method.plain and setup.scale in ("sum", "native") and setup.starter.parts is None


def run(now: Pass) -> tuple[Step, Engine | None, Active]:
    """The step, the engine (where somebody looks), and which columns took part."""
    method = now.setup.method
    if plainly(now.setup):
        step, engine = _plain(now)
    else:
        with by_hand(now.losses):
            if isinstance(method, Aggregation):
                step, engine = _look_and_combine(now) if method.needs_validation else _aggregate(now)
            elif from_losses(method):
                step, engine = _scalarise(now) if now.held is None else _scalarise_held(now)
            else:
                step, engine = _weigh(now)
    active = np.flatnonzero(step.active[now.columns].numpy())
    return step, engine if now.probe is not None else None, np.array(now.columns, dtype=np.intp)[active]


def _plain(now: Pass) -> tuple[Step, Engine | None]:
    """PyTorch itself; a probe looks first and leaves the graph as it was."""
    engine = now.setup.starter.look(now.losses, now.probe)
    plain.backward(list(now.scaled(now.losses).values()))
    step = now.begin(checked.values(now.losses))
    step.weights = step.active.double()  # (K,)
    if engine is not None:
        step.measure(engine.blocks.names, engine.gramians.cpu(), now.columns)
    # Asking a GPU whether a loss is finite would make it wait, and the plain step must cost nothing.
    if step.losses.device.type == "cpu":
        step.note_not_finite(list(now.losses), now.columns)
    return step, engine


def _scalarise(now: Pass) -> tuple[Step, Engine | None]:
    """Weights from the losses alone, then one backward pass."""
    check_attached(now.losses)
    numbers = now.setup.starter.values(now.losses).cpu()  # (k,), the one copy
    engine = now.setup.starter.look(now.losses, now.probe)
    step = now.begin(numbers)
    active = participants(step, list(now.losses), now.columns, numbers, None)
    if len(active):
        now.solve(step, active, numbers)
        now.sum_up(active, step)
    if engine is not None:
        step.measure(engine.blocks.names, engine.gramians.cpu(), now.columns)
    return step, engine


def _scalarise_held(now: Pass) -> tuple[Step, Engine | None]:
    """The same where the backward passes have been made already, one per task and micro-batch."""
    engine, _ = now.engine(rows=False)
    numbers, gramians, _ = engine.together(now.setup.starter.values(now.losses))
    step = now.begin(numbers)
    finite = gramians.sum(0).diagonal().isfinite() | (now.unit is not None)  # (k,); a GradScaler must see the others
    active = participants(step, list(now.losses), now.columns, torch.where(finite, numbers, torch.nan), None)
    step.weights = torch.zeros(len(now.tasks), dtype=torch.float64)  # (K,)
    if len(active):
        now.solve(step, active, numbers)
    own = now.weights(step, active)
    write(engine.sharing.shared, engine.combine(own, keep=now.probe is not None))
    now.write_heads(engine, step, own)
    step.measure(engine.blocks.names, gramians, now.columns)
    return step, engine


def _weigh(now: Pass) -> tuple[Step, Engine | None]:
    """Gramian, weights, combination."""
    refresh, weights = now.setup.refresh, now.setup.refresh.weights(now.index, now.columns)
    if weights is not None and now.probe is None and now.held is None:
        return _again(now, weights)
    engine, cross = now.engine(rows=now.setup.method.needs_gradients or now.setup.blockwise is not None)
    numbers, gramians, cross = engine.together(now.setup.starter.values(now.losses), cross)
    step = now.begin(numbers)
    gramian = gramians.sum(0)  # (k, k)
    seen = gramian if cross is None else torch.where(cross.isfinite(), gramian, torch.nan)
    active = participants(step, list(now.losses), now.columns, numbers, seen)
    if now.overflow(step, engine, numbers, seen):
        return step, engine
    if not len(gramians):
        active = _unmeasured(now, step)
    if now.setup.blockwise is not None:
        _by_block(now, step, engine, gramians, active, numbers)
    else:
        step.weights = torch.zeros(len(now.tasks), dtype=torch.float64)  # (K,)
        if not len(gramians):
            step.weights[step.active] = 1.0
        elif weights is not None:
            step.weights[now.columns] = torch.tensor(weights, dtype=torch.float64)
            step.weights[~step.active] = 0
        elif len(active):
            now.solve(step, active, numbers, gramian, engine, cross)
            complete = len(active) == len(now.columns)
            refresh.keep(now.index, now.columns, step.weights[now.columns].tolist() if complete else None)
        own = now.weights(step, active)
        write(engine.sharing.shared, engine.combine(own, keep=now.probe is not None))
        now.write_heads(engine, step, own)
    step.space = engine.space
    step.measure(engine.blocks.names, gramians, now.columns)
    return step, engine


def _again(now: Pass, weights: list[float]) -> tuple[Step, None]:
    """The weights of an earlier step, at about the cost of a plain one; no Gramian, so only losses are checked."""
    numbers = now.setup.starter.values(now.losses).cpu()  # (k,), the one copy
    step = now.begin(numbers)
    active = participants(step, list(now.losses), now.columns, numbers, None)
    step.weights = torch.zeros(len(now.tasks), dtype=torch.float64)  # (K,)
    for i in active:
        step.weights[now.columns[i]] = weights[i]
    if now.setup.heads == "weighted" and now.setup.starter.reduce is None:
        now.sum_up(active, step)
    else:
        now.once(active, step)
    return step, None


def _by_block(now: Pass, step: Step, engine: Engine, gramians: Tensor, active: Active, numbers: Tensor) -> None:
    """One problem per block, each with the tasks that reach it."""
    blockwise, at = now.setup.blockwise, [now.columns[i] for i in active]
    assert blockwise is not None
    assert engine.rows is not None
    own = gramians.numpy()[:, active][:, :, active]  # (B, k, k)
    context = now.context(active, engine.epsilon)
    table, events = blockwise.solve(now.setup.scale, engine.blocks.names, own, numbers.numpy()[active], context)
    step.events = (*step.events, *events)
    step.block_weights = spread(torch.from_numpy(table), at, len(now.tasks))  # (B, K)
    rest = 1 / max(len(active), 1) if now.setup.scale == "mean" else 1.0  # for what no block measures
    wide: list[list[float | None]] = [[None] * len(now.columns) for _ in range(len(table) + 1)]
    for place, i in enumerate(active):
        for weights, found in zip(wide, (*table[:, place].tolist(), rest), strict=True):
            weights[i] = found
    rows = engine.rows if now.probe is None else engine.rows.pick(range(len(engine.rows)))  # a probe needs them later
    write(engine.sharing.shared, rows.combine_blocks(wide, engine.blocks.index))
    now.write_heads(engine, step, [1.0] * len(now.columns))


def _unmeasured(now: Pass, step: Step) -> Active:
    """All finite tasks take part where nothing is there to weigh: they have no parameter in common."""
    step.events = tuple(event for event in step.events if event.kind != "zero")
    return np.flatnonzero(step.active[now.columns].numpy())


def _aggregate(now: Pass) -> tuple[Step, Engine]:
    """Whole gradients; tasks that do not reach a tensor take no part in it."""
    method = now.setup.method
    assert isinstance(method, Aggregation)
    engine, _ = now.engine(rows=True)
    assert engine.rows is not None
    numbers, gramians, _ = engine.together(now.setup.starter.values(now.losses))
    step = now.begin(numbers)
    gramian = gramians.sum(0)
    active = participants(step, list(now.losses), now.columns, numbers, gramian)
    if now.overflow(step, engine, numbers, gramian):
        return step, engine
    step.measure(engine.blocks.names, gramians, now.columns)
    if not len(gramians):
        active = _unmeasured(now, step)
    combined: list[Tensor | None] = [None] * len(engine.sharing.shared)
    places = now.places(engine) if len(gramians) else []
    if len(active) and places:
        own = gramian.numpy()[np.ix_(active, active)]  # (k, k)
        rows = now.rows(engine, active)
        parts = method.combine(rows, own, numbers.numpy()[active], now.context(active, engine.epsilon))
        for p, part in zip(places, parts, strict=True):
            combined[p] = part
    factor = scaling.factor(now.setup.scale, method.native_scale, len(active))
    found = [c for c in combined if c is not None]
    if factor != 1 and found:
        torch._foreach_mul_(found, factor)
    vectors = engine.rows.inner(combined, engine.blocks)  # (B, k), the rows in units of `unit`
    lengths = Rows([combined]).inner(combined, engine.blocks)  # (B, 1)
    vectors = vectors if now.unit is None else vectors / now.unit
    measured = torch.cat([vectors, lengths], 1).cpu()  # (B, k + 1), the second copy
    step.descent = spread(measured[:, :-1], now.columns, len(now.tasks))  # (B, K)
    step.descent[:, ~step.active] = 0
    step.direction_norm = float(measured[:, -1].sum().sqrt())
    if now.unit is not None and found:
        torch._foreach_mul_(found, now.unit)
    write(engine.sharing.shared, combined)
    _sum_the_rest(now, engine, active, places)
    now.write_heads(engine, step, [1.0] * len(now.losses))
    return step, engine


def _sum_the_rest(now: Pass, engine: Engine, active: Active, places: list[int]) -> None:
    """The plain gradient for shared tensors that are none of the method's business."""
    assert engine.rows is not None
    others = sorted(set(range(len(engine.sharing.shared))) - set(places))
    if others:
        share = 1 / max(len(active), 1) if now.setup.scale == "mean" else 1.0
        weights = [share if i in active else None for i in range(len(now.columns))]
        summed = Rows([[row[p] for p in others] for row in engine.rows.rows]).combine(weights)
        write([engine.sharing.shared[p] for p in others], summed)


def _look_and_combine(now: Pass) -> tuple[Step, Engine | None]:
    """A direction for all parameters, heads included, from what the method sees elsewhere."""
    method = now.setup.method
    assert isinstance(method, Aggregation)
    numbers = now.setup.starter.values(now.losses).cpu()  # (k,), the one copy
    engine = now.setup.starter.look(now.losses, now.probe)
    step = now.begin(numbers)
    active = participants(step, list(now.losses), now.columns, numbers, None)
    if len(active):
        context = now.context(active)
        assert context.elsewhere is not None
        k = len(active)
        combined = method.combine(Rows([[] for _ in active]), np.zeros((k, k)), numbers.numpy()[active], context)
        factor: float | Tensor = scaling.factor(now.setup.scale, method.native_scale, k)
        factor = factor if now.unit is None else factor * now.unit
        write(context.elsewhere.parameters, [None if c is None else c * factor for c in combined])
    if engine is not None:
        step.measure(engine.blocks.names, engine.gramians.cpu(), now.columns)
    return step, engine
