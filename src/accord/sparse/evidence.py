"""Evidence: what the tasks' gradients in some batches say about each scalar of a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord import inner
from accord import losses as checked
from accord.engines import by_hand
from accord.engines.stacked import task_gradients
from accord.errors import AccordError, nearest
from accord.sharing import discover
from accord.sparse.owners import Owner, owners
from accord.undisturbed import undisturbed

Losses = Mapping[str, Tensor]


def _pairs(rows: Tensor) -> Tensor:
    """``Σ_{i<j} g_i g_j``; summed pair by pair, as ``((Σ g)² − Σ g²)/2`` would lose its sign to rounding."""
    before, total = torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
    for row in rows:
        total += row * before
        before += row
    return total[None]


# From the K gradients (K, ...) of one batch to what is added up: (K, ...) for each task, or (1, ...) for all together.
STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "gradient": lambda rows: rows,
    "magnitude": Tensor.abs,
    "square": Tensor.square,
    "agreement": lambda rows: rows.sign().sum(0, keepdim=True).abs() / len(rows),
    "product": _pairs,
    "unit product": _pairs,  # of gradients of length 1
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sums over batches for one parameter, in its shape or that of its matrix.

    Args:
        tasks: K names.
        batches: how many were seen.
        sums: by statistic, (K, ...) where it is one of each task, else (1, ...); see ``STATISTICS``.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> losses = [{"up": model.weight.sum(), "down": (model.weight * torch.tensor([1.0, -2.0])).sum()}]
        >>> evidence = collect(model, losses, ["weight"], ["product", "agreement"])["weight"]
        >>> evidence.mean("product").tolist(), evidence.mean("agreement").tolist()
        ([[[1.0, -2.0]]], [[[1.0, 0.0]]])
    """

    tasks: tuple[str, ...]
    batches: int
    sums: Mapping[str, Tensor]

    def mean(self, statistic: str) -> Tensor:
        """(K, ...) or (1, ...): the mean over batches.

        Raises:
            AccordError: if it was not collected.
        """
        if statistic not in self.sums:
            raise AccordError(f"the evidence has no {statistic!r}; it was collected for {', '.join(self.sums)}.")
        return self.sums[statistic] / self.batches

    def viewed(self, matrix: Callable[[Tensor], Tensor]) -> Evidence:
        """The same in another shape.

        Args:
            matrix: from the parameter's shape to that of its matrix.
        """
        return Evidence(
            self.tasks, self.batches, {s: torch.stack([matrix(part) for part in sums]) for s, sums in self.sums.items()}
        )

    def of(self, task: str) -> Evidence:
        """The evidence of one task by itself; statistics of all tasks together stay out.

        Raises:
            AccordError: for an unknown task.
        """
        if task not in self.tasks:
            raise AccordError(f"the evidence has no task {task!r}.{nearest(task, self.tasks)}")
        i, k = self.tasks.index(task), len(self.tasks)
        return Evidence((task,), self.batches, {s: v[i : i + 1] for s, v in self.sums.items() if len(v) == k})


def collect(
    model: nn.Module, losses: Iterable[Losses] | None, names: Sequence[str], statistics: Sequence[str]
) -> dict[str, Evidence]:
    """Statistics of the task gradients in some parameters, added up batch by batch: K backward passes for each.

    What is held is one batch's gradients and the sums: K·P or P numbers for each statistic, however many batches
    there are. Statistics of BatchNorm and random numbers are as before afterwards; parameters and ``.grad`` are not
    touched. Whether layers train or evaluate is up to who computes the losses. Ranks are not averaged: collect on one
    of them.

    Args:
        model: names the parameters.
        losses: of each batch, scalar losses by task with their graphs; best a generator, so that one graph lives at a
            time. Always the same tasks.
        names: of the parameters. Where no loss reaches one, its sums are zero. Weights of which some scalars are
            trained already go by the name of the weight, and count whole.
        statistics: keys of ``STATISTICS``.

    Raises:
        AccordError: for unknown names, without batches, for other tasks in some batch, for gradients that are not
            finite, and where no loss reaches any of the parameters.
    """
    if not names:
        return {}
    known = {owner.name: owner for owner in owners(model)}
    for name in names:
        if name not in known:
            raise AccordError(f"the model has no parameter {name!r}.{nearest(name, known)}")
    chosen = {name: known[name] for name in names}
    sums: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    tasks: tuple[str, ...] = ()
    batches, reached = 0, False
    with undisturbed(model, grad=True), _whole(chosen.values()):
        for batch in _batches(losses):
            tasks = tasks or tuple(batch)
            if set(batch) != set(tasks):
                raise AccordError(
                    f"batch {batches} has the tasks {list(batch)}, the first {list(tasks)}; rules that read data need "
                    "all tasks in every batch."
                )
            rows = _gradients(model, {task: batch[task] for task in tasks}, chosen)
            norms = _norms(rows, tasks, batches)  # (K,)
            reached = reached or any(row for row in rows)
            for name, owner in chosen.items():
                _add(sums[name], owner.parameter, [row.get(name) for row in rows], norms, statistics)
            batches += 1
    if not batches:
        raise AccordError("losses= was empty; give the losses of at least one batch.")
    if not reached:
        raise AccordError(f"no loss reaches any of the {len(names)} weights to choose in. Do they require a gradient?")
    return {name: Evidence(tasks, batches, sums[name]) for name in names}


def _batches(losses: Iterable[Losses] | None) -> Iterator[dict[str, Tensor]]:
    if losses is None:
        raise AccordError(
            "this rule chooses by the tasks' gradients and needs data: give losses=, an iterable with the losses by "
            "task of each batch, for example (compute(batch) for batch in loader)."
        )
    if isinstance(losses, Mapping | Tensor):
        raise AccordError("losses= is one batch; expected an iterable of batches: [losses], or a generator of them.")
    for batch in losses:
        yield checked.check(batch)


@contextmanager
def _whole(chosen: Iterable[Owner]) -> Iterator[None]:
    """Weights of which some scalars are trained take the gradient of the rest, too."""
    frozen = [o.parameter for o in chosen if o.placed is not None and not o.parameter.requires_grad]
    try:
        for p in frozen:
            p.requires_grad_(True)
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)


def _gradients(model: nn.Module, losses: dict[str, Tensor], chosen: Mapping[str, Owner]) -> list[dict[str, Tensor]]:
    """For each task its gradient in those of the parameters that it reaches, alone or with others."""
    with by_hand(losses):
        sharing = discover(model, losses)
        sharing, rows, heads = task_gradients(model, sharing, list(losses.values()))
    found = []
    for row, own, head in zip(rows, sharing.heads, heads, strict=True):
        here = dict(zip((*sharing.shared, *own), (*row, *head), strict=True))
        wanted = {name: _of(owner, here) for name, owner in chosen.items()}
        found.append({n: g.to_dense() if g.is_sparse else g for n, g in wanted.items() if g is not None})
    return found


def _of(owner: Owner, here: Mapping[Tensor, Tensor | None]) -> Tensor | None:
    """The gradient of one parameter."""
    rest = here.get(owner.parameter)
    values = None if owner.placed is None else here.get(owner.placed.values)
    if owner.placed is None or values is None:
        return rest
    if rest is None:
        raise AccordError(
            f"only some scalars of {owner.name!r} are trained, and the losses were computed before the rest was asked "
            "for: make losses= a generator, which computes them batch by batch."
        )
    return owner.placed.selection.scatter_(rest.clone(), values.to(rest.dtype))


def _norms(rows: Sequence[Mapping[str, Tensor]], tasks: Sequence[str], batch: int) -> Tensor:
    """(K,) float64: the length of each task's gradient in all parameters; it must be finite."""
    device = next((g.device for row in rows for g in row.values()), None)
    squares = torch.zeros(len(rows), dtype=torch.float64, device=device)  # (K,)
    for i, row in enumerate(rows):
        for gradient in row.values():
            squares[i] += inner.squares(gradient[None])[0]
    broken = [task for task, fine in zip(tasks, squares.isfinite().tolist(), strict=True) if not fine]
    if broken:
        raise AccordError(
            f"the gradient of {', '.join(broken)} in batch {batch} is not finite, so it cannot say where to train. "
            "Leave the batch out, or compute its losses without autocast."
        )
    return squares.sqrt()


def _add(
    sums: dict[str, Tensor],
    parameter: Tensor,
    gradients: Sequence[Tensor | None],
    norms: Tensor,
    statistics: Sequence[str],
) -> None:
    """One batch's statistics in one parameter."""
    wide = torch.promote_types(parameter.dtype, torch.float32)
    nothing = torch.zeros_like(parameter, dtype=wide)
    rows = torch.stack([nothing if g is None else g.detach().to(wide) for g in gradients])  # (K, ...)
    for statistic in statistics:
        of = rows
        if statistic == "unit product":
            lengths = torch.where(norms > 0, norms, 1).to(rows)  # (K,)
            of = rows / lengths.view(-1, *[1] * parameter.ndim)
        now = STATISTICS[statistic](of)
        sums[statistic] = sums[statistic] + now if statistic in sums else now
