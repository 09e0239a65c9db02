"""Memory of one forward pass: what the tasks have in common is computed by the first of them.

The model runs once for each task. A call with the very tensors that it was given in an earlier run has the result that
it had then; so all that lies before the first task-specific layer, or beside them, is computed once. The tasks share
its graph, as in a model with heads; dropout masks are drawn once and the statistics of BatchNorm move once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.overrides import TorchFunctionMode, _get_current_function_mode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from accord.errors import AccordError

VALUES = (int, float, complex, bool, str, bytes, type(None), type, torch.dtype, torch.device, torch.layout)


Call = tuple[str, int]  # name of a module or an operation, and how many calls of it came before in the run


class Changed(AccordError):
    """A run changed in place what all tasks share.

    Args:
        calls: that gave out the tensors which it changed.
    """

    def __init__(self, calls: set[Call]) -> None:
        self.calls = calls
        super().__init__(
            "a tensor that all tasks share was changed in place after a task-specific layer, so that the next task "
            "would see it changed. In the model's forward pass, make a new tensor: x = x + y and not x.add_(y)."
        )


class Memory:
    """Answers calls that an earlier run of the same pass has made with the same tensors, and passes on all others.

    Two kinds of calls are remembered: of whole modules without a task-specific layer in them, and of single operations
    of PyTorch outside such modules. Tensors are the same if they are the same object; a call that is made several times
    in a run is answered in turn. What was computed from a task's own parameters is never remembered.

    A head is only computed in the run of its task. Other runs get a copy of its output, or one that leaves its
    statistics as they are: nobody reads that, but the model may look at its shape. ``wires`` tell if somebody did.

    Args:
        own: the tensors that belong to single tasks: parameters and buffers of the copies.
        modules: modules to be remembered as a whole, by name.
        heads: names of modules whose results only one task takes, with that task.
        copied: calls whose results the model writes over: each run is given a copy.
        state: tensors that every run may change: running statistics.

    Example:
        >>> layer, x = nn.Dropout(0.5), torch.ones(100)
        >>> memory = Memory([], {"layer": layer})
        >>> with memory.at_work():
        ...     with memory.run("a"):
        ...         first = layer(x) + 1
        ...     with memory.run("b"):
        ...         second = layer(x) + 1
        >>> second is first
        True
    """

    def __init__(
        self,
        own: Iterable[Tensor],
        modules: Mapping[str, nn.Module],
        heads: Mapping[str, str] | None = None,
        copied: Collection[Call] = (),
        state: Iterable[Tensor] = (),
    ) -> None:
        self._modules, self._heads, self._copied = modules, heads or {}, copied
        self._outputs: dict[str, list[Any]] = {}  # of heads
        self._task = ""
        self._frames: set[Any] = set()  # checkpoints in which a call was answered from memory
        self.wires: list[Tensor] = []  # leaves of the graphs of what stands in the place of heads' outputs
        self._own = WeakTensorKeyDictionary()
        self._mark(list(own))
        self._state = set(map(id, state))
        self._answers: dict[Any, list[Any]] = {}
        self._made: Counter[Any] = Counter()  # calls of this run, by what they were given and by name
        self._tensors: dict[int, tuple[Tensor, int]] = {}  # that were remembered, and their versions after the run
        self._kept: list[Any] = []  # arguments: while they live, nothing else can have their id
        self._makers: dict[int, Call] = {}  # of tensors, the first call that gave them out
        self._inside = 0  # modules that are remembered as a whole, or the handler of an operation
        self._mode = _Operations(self)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The pass: calls are looked at from here on, and all is forgotten at the end."""
        before: list[tuple[nn.Module, str, Any]] = []
        try:
            for label, module in self._modules.items():
                # a module that was compiled on its own is called by another name
                name = "forward" if module._compiled_call_impl is None else "_compiled_call_impl"
                before.append((module, name, vars(module).get(name)))
                vars(module)[name] = partial(self._whole, label, module, getattr(module, name))
            with self._mode:
                yield
        finally:
            for module, name, was in before:
                if was is None:
                    vars(module).pop(name, None)
                else:
                    vars(module)[name] = was
            for found in (
                self._own,
                self._answers,
                self._tensors,
                self._kept,
                self._makers,
                self._outputs,
                self._frames,
            ):
                found.clear()

    @contextmanager
    def run(self, task: str) -> Iterator[None]:
        """The run for one task.

        Raises:
            Changed: if it changed in place what all tasks share.
        """
        self._task = task
        self._made.clear()
        earlier = list(self._tensors.values())
        yield
        with DisableTorchFunction():  # looking at tensors is an operation, too
            changed = [id(tensor) for tensor, version in earlier if _version(tensor) != version]
            if changed:
                raise Changed({self._makers[i] for i in changed if i in self._makers})
            self._tensors = {i: (tensor, _version(tensor)) for i, (tensor, _) in self._tensors.items()}

    def operation(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operation, remembered or computed."""
        if self._inside:
            return function(*args, **kwargs)
        return self._ask(getattr(function, "__qualname__", ""), function, function, args, kwargs)

    def _whole(self, name: str, module: nn.Module, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of a module, remembered or computed without a look at what it does."""
        aside = _get_current_function_mode() is self._mode
        self._inside += 1
        try:
            if aside:  # a compiled module would have to be compiled together with the mode
                self._mode.__exit__(None, None, None)
            if self._heads.get(name, self._task) != self._task:
                return self._elsewhere(name, module, call, args, kwargs)
            result = self._ask(name, module, call, args, kwargs)
            if name in self._heads:
                self._outputs.setdefault(name, []).append(result)
            return result
        finally:
            if aside:
                self._mode.__enter__()
            self._inside -= 1

    def _elsewhere(
        self, name: str, head: nn.Module, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Something in the place of another task's output."""
        turn, known = self._made[name], self._outputs.get(name, ())
        self._made[name] += 1
        if turn < len(known):
            result = known[turn]
        else:
            training = [part for part in head.modules() if part.training]
            try:
                for part in training:
                    part.training = False
                with torch.no_grad():
                    result = call(*args, **kwargs)
            finally:
                for part in training:
                    part.training = True
        result = tree_map_only(Tensor, self._wired, result)
        self._mark(result)
        return result

    def _wired(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor, with a graph that tells who has used it."""
        if not tensor.is_floating_point():
            return tensor.detach().clone()
        self.wires.append(torch.zeros((), dtype=tensor.dtype, device=tensor.device, requires_grad=True))
        return tensor.detach() + self.wires[-1]

    def _ask(
        self, name: str, what: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        spelled: list[Any] = [what, torch.is_grad_enabled()]
        tensors: list[Tensor] = []
        others: list[Any] = [args, kwargs]
        _spell((args, kwargs), spelled, tensors, others)
        if any(map(self._is_own, tensors)):
            if _frame() in self._frames:
                raise AccordError(
                    "a checkpoint holds task-specific and shared computations, and would compute the wrong ones again. "
                    "Put the checkpoint inside the task-specific layer, or around what is shared alone."
                )
            before = [(t, _version(t)) for t in tensors if id(t) not in self._state and not self._is_own(t)]
            result = call(*args, **kwargs)
            if any(_version(t) != version and id(t) not in self._makers for t, version in before):
                raise Changed(set())  # what the model was given, and no run can have as it was
            self._mark(result)
            return result
        key = tuple(spelled)
        answers, turn, number = self._answers.setdefault(key, []), self._made[key], self._made[name]
        self._made.update((key, name))
        if turn == len(answers):
            answers.append(call(*args, **kwargs))
            self._kept.append(others)
            self._note((name, number), tensors, answers[turn])
        else:
            self._frames.add(_frame())
            self._frames.discard(None)
        if (name, number) not in self._copied:
            return answers[turn]
        result = tree_map_only(Tensor, torch.clone, answers[turn])
        self._mark(result)
        return result

    def _note(self, call: Call, tensors: list[Tensor], result: Any) -> None:
        """Watch the tensors that a remembered call took and gave."""
        results: list[Tensor] = []
        _spell(result, [], results, [])
        for tensor in results:
            if not any(tensor is each for each in tensors):
                self._makers.setdefault(id(tensor), call)
        for tensor in (*tensors, *results):
            self._tensors.setdefault(id(tensor), (tensor, _version(tensor)))

    def _is_own(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value in self._own

    def _mark(self, result: Any) -> None:
        """Note that this belongs to one task."""
        tensors: list[Tensor] = []
        _spell(result, [], tensors, [])
        for tensor in tensors:
            self._own[tensor] = True


class _Operations(TorchFunctionMode):
    """Shows the operations of PyTorch to a memory."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._memory.operation(func, args, kwargs or {})


def _spell(value: Any, key: list[Any], tensors: list[Tensor], others: list[Any]) -> None:
    """Write down what arguments are: numbers and words by value, tensors and everything else by identity."""
    if isinstance(value, Tensor):
        key.append((Tensor, id(value)))
        tensors.append(value)
    elif isinstance(value, VALUES):
        key.append((type(value), value))
    elif isinstance(value, tuple | list):
        key.append((type(value), len(value)))
        for item in value:
            _spell(item, key, tensors, others)
    elif isinstance(value, Mapping):
        key.append((type(value), len(value)))
        for name, item in value.items():
            _spell(name, key, tensors, others)
            _spell(item, key, tensors, others)
    elif isinstance(value, slice):
        key.append(slice)
        for item in (value.start, value.stop, value.step):
            _spell(item, key, tensors, others)
    else:
        key.append((type(value), id(value)))
        others.append(value)


def _frame() -> Any:
    """The innermost checkpoint around this call, if there is one: PyTorch knows it by its hook."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks[0] if hooks and hooks[0].__qualname__.startswith("_checkpoint_hook") else None


def _version(tensor: Tensor) -> int:
    """How often a tensor was changed in place, as far as PyTorch counts."""
    return 0 if tensor.is_inference() else tensor._version
