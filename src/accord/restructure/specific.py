"""TaskSpecific: a model of which some layers are task-specific and all others shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn

from accord.errors import AccordError, nearest
from accord.restructure.choose import find
from accord.restructure.copies import Copies
from accord.restructure.heads import heads, refuse_unused, touched
from accord.restructure.memory import Call, Changed, Memory
from accord.sharing import inside
from accord.undisturbed import undisturbed

Pick = Literal["name", "position", "whole"] | Callable[[Any, str], Any]
Compute = Callable[[str], Mapping[str, Any]]  # from a task to results by task, its own among them if it has one


def task_specific(
    model: nn.Module, layers: str | Iterable[str], tasks: Sequence[str], *, pick: Pick | None = None
) -> TaskSpecific:
    """Make some layers of a model task-specific: each task gets its copy, which starts with the same values.

    The model is changed in place and wrapped. All other parameters stay the same objects, and so do the chosen
    layers' own, which go to the first task: an optimiser need only be told of the copies (``carry``).

    Args:
        model: any; its forward pass is run once for each task, and computes once what comes before the copies.
        layers: names of modules, or patterns in which ``*`` stands for one part of a name: ``encoder.*.norm1``.
        tasks: K names, at least two.
        pick: what of the model's output belongs to a task. ``name``: ``output[task]``; ``position``: the outputs are
            in the order of the tasks; ``whole``: all of it; or a function ``(output, task)``. None: by name where the
            output is a mapping with the names of all tasks, the whole where it is one tensor.

    Returns:
        The wrapped model. The parameter ``fc.weight`` of a chosen layer ``fc`` is now ``fc.TASK.weight``, one for each
        task; all others have the names they had.

    Raises:
        AccordError: for layers that do not exist or cannot be had (``accord.restructure.find``), fewer than two tasks,
            tasks twice, or names that a module cannot have.

    Source: Shi et al. 2023 (Recon), https://arxiv.org/abs/2302.11289, for layers chosen by their conflict scores.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> model = task_specific(net, ["2"], ["depth", "edges"])
        >>> {task: tuple(y.shape) for task, y in model(torch.ones(3, 4)).items()}
        {'depth': (3, 1), 'edges': (3, 1)}
        >>> [name for name, _ in model.named_parameters()]
        ['0.weight', '0.bias', '2.depth.weight', '2.depth.bias', '2.edges.weight', '2.edges.bias']
    """
    _check_tasks(tasks)
    if isinstance(model, TaskSpecific):
        raise AccordError(f"this model is task-specific already, in {', '.join(model.layers)}; choose all at once.")
    if pick is not None and not callable(pick) and pick not in get_args(get_args(Pick)[0]):
        raise AccordError(f"pick={pick!r} is not known.{nearest(str(pick), get_args(get_args(Pick)[0]))}")
    found = find(model, layers, tasks)
    for name in found:
        parent, _, last = name.rpartition(".")
        holder = model.get_submodule(parent)
        holder._modules[last] = Copies(cast(nn.Module, holder._modules[last]), tasks)
    return TaskSpecific(model, found, tuple(tasks), pick)


@dataclass
class _Plan:
    """How a pass goes: which modules are heads, and of which task; which results the model writes over."""

    heads: dict[str, str] = field(default_factory=dict)
    copied: set[Call] = field(default_factory=set)


class TaskSpecific(nn.Module):
    """A model that runs once for each task, with that task's copies of the chosen layers; see ``task_specific``.

    It has the parameters, names and state of the model it wraps, and hands on attributes that it does not know.

    Args:
        model: with ``Copies`` where the layers were.
        layers: their names.
        tasks: K names.
        pick: as for ``task_specific``.
    """

    base: nn.Module  # what it wraps: no child, so that names of parameters have no prefix

    def __init__(self, model: nn.Module, layers: tuple[str, ...], tasks: tuple[str, ...], pick: Pick | None) -> None:
        super().__init__()
        vars(self)["base"] = model
        for part in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            vars(self)[part] = vars(model)[part]  # the same dictionary: whatever changes one changes the other
        self.training = model.training
        self.layers, self.tasks, self.pick = layers, tasks, pick
        self._task: str | None = None
        self._memory: Memory | None = None
        self._plans: dict[tuple[bool, bool], _Plan] = {}  # by mode, and whether graphs are recorded

    def __getattr__(self, name: str) -> Any:
        base = vars(self).get("base")
        try:
            return super().__getattr__(name)
        except AttributeError:
            if base is None:
                raise
            return getattr(base, name)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the model that it wraps, too."""
        self.base.train(mode)
        return super().train(mode)

    @torch.compiler.disable
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Each task's own output, from the run with its copies; within ``on(task)``, that run alone.

        Returns:
            What ``pick`` says, by task; with ``pick="position"`` a tuple in the order of the tasks. Within
            ``on(task)`` what the model returns.

        Raises:
            AccordError: if it is not clear what of the output belongs to a task, or a run changes in place what
                others need.
        """
        if self._task is not None:
            return self.base(*args, **kwargs)
        outputs = self._runs(lambda task: {task: self._own(self.base(*args, **kwargs), task)})
        return tuple(outputs.values()) if self.pick == "position" else outputs

    def by_task(self, compute: Callable[[], Mapping[str, Any]], *, remember: bool = True) -> dict[str, Any]:
        """What a function that calls the model gives for each task, from the run with that task's copies.

        It serves functions that know nothing of copies, such as one that computes the losses of all tasks. A task that
        they leave out is left out.

        Args:
            compute: calls the model and returns something for each task.
            remember: compute once what the tasks have in common. Leave it out for an evaluation of many batches, whose
                results would all be kept to its end.

        Example:
            >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
            >>> model = task_specific(net, "1", ["a", "b"])
            >>> def losses():
            ...     y = model(torch.ones(3, 2))
            ...     return {"a": y[:, 0].mean(), "b": y[:, 1].mean()}
            >>> list(model.by_task(losses))
            ['a', 'b']
        """
        if not remember:
            return self._each(lambda task: compute())
        return self._runs(lambda task: compute())

    def _runs(self, compute: Compute) -> dict[str, Any]:
        """The results of one pass by task."""
        kind = (self.training, torch.is_grad_enabled())
        if kind not in self._plans:
            self._plans[kind] = self._try(compute)
        plan = self._plans[kind]
        found, wires = self._pass(compute, plan)
        if wires and touched(found, wires):  # the model has branched in another way: rather compute too much
            plan.heads.clear()
            found, _ = self._pass(compute, plan)
        return found

    def _try(self, compute: Compute) -> _Plan:
        """What trials without a trace tell: which module is whose, and what the model writes over."""
        plan, settled = _Plan(), False
        while True:
            try:
                with undisturbed(self.base, grad=torch.is_grad_enabled()):
                    found, _ = self._pass(compute, plan)
            except Changed as change:
                if change.calls <= plan.copied:
                    raise
                plan.copied |= change.calls
                continue
            if settled or len(found) < len(self.tasks):
                return plan
            refuse_unused(self.copies(), found)
            settled = True
            plan.heads.update(heads(self.base, self.layers, found))

    def _pass(self, compute: Compute, plan: _Plan) -> tuple[dict[str, Any], list[Tensor]]:
        with self._remembering(plan) as memory:
            return self._each(compute), memory.wires

    def _each(self, compute: Compute) -> dict[str, Any]:
        found = {}
        for task in self.tasks:
            with self.on(task):
                results = compute(task)
                if task in results:
                    found[task] = results[task]
        return found

    @contextmanager
    def on(self, task: str) -> Iterator[None]:
        """Within it the model is that of one task: its copies stand where the layers were.

        Args:
            task: its name.

        Raises:
            AccordError: for an unknown task, or within another one.

        Example:
            >>> trunk, head = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 1)
            >>> model = task_specific(trunk, "1", ["a", "b"])
            >>> with model.on("a"):
            ...     y = head(model(torch.ones(1, 2)))
            >>> tuple(y.shape)
            (1, 1)
        """
        if task not in self.tasks:
            raise AccordError(f"there is no task {task!r}.{nearest(task, self.tasks)}")
        if self._task is not None:
            raise AccordError(f"the model is that of {self._task!r} here; leave that before on({task!r}).")
        slots = [(self._holder(name), name.rpartition(".")[2]) for name in self.layers]
        copies = [cast(Copies, holder._modules[last]) for holder, last in slots]
        self._task = task
        try:
            for (holder, last), each in zip(slots, copies, strict=True):
                holder._modules[last] = each._modules[task]
            if self._memory is None:
                yield
            else:
                with self._memory.run(task):
                    yield
        finally:
            for (holder, last), each in zip(slots, copies, strict=True):
                holder._modules[last] = each
            self._task = None

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Within it what the tasks have in common is computed once; for loops that call ``on(task)`` themselves.

        Example:
            >>> trunk = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
            >>> model, x = task_specific(trunk, "1", ["a", "b"]), torch.ones(1, 2)
            >>> with model.one_pass():
            ...     for task in model.tasks:
            ...         with model.on(task):
            ...             y = model(x)
        """
        with self._remembering(_Plan()):
            yield

    @contextmanager
    def _remembering(self, plan: _Plan) -> Iterator[Memory]:
        if self._memory is not None or self._task is not None:
            raise AccordError("this pass has begun already: begin it once, outside of on(task).")
        own = [tensor for each in self.copies().values() for tensor in (*each.parameters(), *each.buffers())]
        modules = dict(_whole(self.base, "", (*self.layers, *plan.heads)))
        modules |= {name: self.base.get_submodule(name) for name in plan.heads}
        self._memory = Memory(own, modules, plan.heads, plan.copied, self.base.buffers())
        try:
            with self._memory.at_work():
                yield self._memory
        finally:
            self._memory = None

    def copies(self) -> dict[str, Copies]:
        """The copies by the name of their layer; outside of ``on(task)``."""
        return {name: cast(Copies, self.base.get_submodule(name)) for name in self.layers}

    def _holder(self, name: str) -> nn.Module:
        return self.base.get_submodule(name.rpartition(".")[0])

    def _own(self, output: Any, task: str) -> Any:
        """What of the output belongs to a task."""
        if callable(self.pick):
            return self.pick(output, task)
        named = isinstance(output, Mapping) and all(name in output for name in self.tasks)
        if self.pick == "whole" or (self.pick is None and isinstance(output, Tensor)):
            return output
        if named and self.pick in (None, "name"):
            return output[task]
        if self.pick == "position" and isinstance(output, Sequence) and len(output) == len(self.tasks):
            return output[self.tasks.index(task)]
        kind = f"a {type(output).__name__}"
        if isinstance(output, Sequence | Mapping):
            kind += f" of {len(output)}" if isinstance(output, Sequence) else f" with {', '.join(map(str, output))}"
        raise AccordError(
            f"the model returns {kind}, and it is not clear what of it is for each of {', '.join(self.tasks)}: give "
            "pick='name', 'position', 'whole' or a function (output, task)."
        )

    def extra_repr(self) -> str:
        """The layers and the tasks."""
        return f"task_specific={list(self.layers)}, tasks={list(self.tasks)}"


def _whole(module: nn.Module, name: str, layers: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """The largest modules that can be called and hold none of the layers, with their names."""
    for last, child in module._modules.items():
        full = f"{name}.{last}" if name else last
        if child is None or full in layers:
            continue
        mixed = any(inside(layer, [full]) for layer in layers)
        if mixed or (type(child).forward is nn.Module.forward and "forward" not in vars(child)):
            yield from _whole(child, full, layers)
        else:
            yield full, child


def _check_tasks(tasks: Sequence[str]) -> None:
    if isinstance(tasks, str) or len(tasks) < 2:
        raise AccordError(f"tasks={tasks!r}: a layer becomes task-specific for at least two tasks; give their names.")
    twice = [task for i, task in enumerate(tasks) if task in tasks[:i]]
    if twice:
        raise AccordError(f"the task {twice[0]!r} is named twice; each gets one copy.")
    for task in tasks:
        if not task or "." in task or hasattr(nn.Module(), task) or task in ("forward", "training"):
            raise AccordError(f"the task {task!r} cannot be the name of a module; give it another name.")
