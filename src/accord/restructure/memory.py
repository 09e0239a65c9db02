"""Memory of one forward pass: what the tasks have in common is computed by the first of them.

The model runs once for each task. A call with the very tensors that it was given in an earlier run has the result that
it had then; so all that lies before the first task-specific layer, or beside them, is computed once. The tasks share
its graph, as in a model with heads; dropout masks are drawn once and the statistics of BatchNorm move once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from accord.errors import AccordError

AUGMENTED = {f"__i{name}__": f"__{name}__" for name in ("add", "sub", "mul", "truediv", "and", "or", "xor")}
VALUES = (int, float, complex, bool, str, bytes, type(None), type, torch.dtype, torch.device, torch.layout)


class Memory:
    """Answers calls that an earlier run of the same pass has made with the same tensors, and passes on all others.

    Two kinds of calls are remembered: of whole modules without a task-specific layer in them, and of single operations
    of PyTorch outside such modules. Tensors are the same if they are the same object; a call that is made several times
    in a run is answered in turn. What was computed from a task's own parameters is never remembered.

    A head is only computed in the run of its task. Other runs get a copy of its output, or one that leaves its
    statistics as they are: nobody reads that, but the model may look at its shape. ``wires`` tell if somebody did.

    Args:
        own: the tensors that belong to single tasks: parameters and buffers of the copies.
        modules: modules to be remembered as a whole.
        heads: modules whose results only one task takes, with that task.

    Example:
        >>> layer, x = nn.Dropout(0.5), torch.ones(100)
        >>> memory = Memory([], [layer])
        >>> with memory.at_work():
        ...     with memory.run("a"):
        ...         first = layer(x) + 1
        ...     with memory.run("b"):
        ...         second = layer(x) + 1
        >>> second is first
        True
    """

    def __init__(
        self, own: Iterable[Tensor], modules: Sequence[nn.Module], heads: Mapping[nn.Module, str] | None = None
    ) -> None:
        self._modules = dict.fromkeys([*modules, *(heads or {})])
        self._heads = heads or {}
        self._outputs: dict[nn.Module, list[Any]] = {module: [] for module in self._heads}
        self._task = ""
        self.wires: list[Tensor] = []  # leaves of the graphs of what stands in the place of heads' outputs
        self._own = WeakTensorKeyDictionary()
        self._mark(list(own))
        self._answers: dict[Any, list[Any]] = {}
        self._made: Counter[Any] = Counter()  # calls of this run
        self._tensors: dict[int, tuple[Tensor, int]] = {}  # that were remembered, and their versions after the run
        self._kept: list[Any] = []  # arguments: while they live, nothing else can have their id
        self._results: set[int] = set()
        self._inside = 0  # modules that are remembered as a whole, or the handler of an operation
        self._mode = _Operations(self)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The pass: calls are looked at from here on, and all is forgotten at the end."""
        before: list[tuple[nn.Module, str, Any]] = []
        try:
            for module in self._modules:
                # a module that was compiled on its own is called by another name
                name = "forward" if module._compiled_call_impl is None else "_compiled_call_impl"
                before.append((module, name, vars(module).get(name)))
                vars(module)[name] = partial(self._whole, module, getattr(module, name))
            with self._mode:
                yield
        finally:
            for module, name, was in before:
                if was is None:
                    vars(module).pop(name, None)
                else:
                    vars(module)[name] = was
            for found in (self._own, self._answers, self._tensors, self._kept, self._results, self._outputs):
                found.clear()

    @contextmanager
    def run(self, task: str) -> Iterator[None]:
        """The run for one task.

        Raises:
            AccordError: if it changed in place what all tasks share.
        """
        self._task = task
        self._made.clear()
        earlier = list(self._tensors.values())
        yield
        if any(_version(tensor) != version for tensor, version in earlier):
            raise AccordError(
                "a tensor that all tasks share was changed in place after a task-specific layer, so that the next task "
                "would see it changed. In the model's forward pass, make a new tensor: x = x + y and not x.add_(y)."
            )
        self._tensors = {i: (tensor, _version(tensor)) for i, (tensor, _) in self._tensors.items()}

    def operation(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operation, remembered or computed."""
        name = getattr(function, "__name__", "")
        if name in AUGMENTED and id(args[0]) in self._results and any(map(self._is_own, args[1:])):
            # `out += own` would change what the other tasks are about to read; its result is what the name stands for
            function = getattr(type(args[0]), AUGMENTED[name])
        return function(*args, **kwargs) if self._inside else self._ask(function, function, args, kwargs)

    def _whole(self, module: nn.Module, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of a module, remembered or computed without a look at what it does."""
        aside = _get_current_function_mode() is self._mode
        self._inside += 1
        try:
            if aside:  # a compiled module would have to be compiled together with the mode
                self._mode.__exit__(None, None, None)
            head = self._heads.get(module)
            if head is not None and head != self._task:
                return self._elsewhere(module, call, args, kwargs)
            result = self._ask(module, call, args, kwargs)
            if head is not None:
                self._outputs[module].append(result)
            return result
        finally:
            if aside:
                self._mode.__enter__()
            self._inside -= 1

    def _elsewhere(
        self, head: nn.Module, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Something in the place of another task's output."""
        turn = self._made[head]
        self._made[head] += 1
        if turn < len(self._outputs[head]):
            result = self._outputs[head][turn]
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

    def _ask(self, what: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        spelled: list[Any] = [what, torch.is_grad_enabled()]
        tensors: list[Tensor] = []
        others: list[Any] = [args, kwargs]
        _spell((args, kwargs), spelled, tensors, others)
        if any(map(self._is_own, tensors)):
            result = call(*args, **kwargs)
            self._mark(result)
            return result
        key = tuple(spelled)
        answers, turn = self._answers.setdefault(key, []), self._made[key]
        self._made[key] += 1
        if turn < len(answers):
            return answers[turn]
        result = call(*args, **kwargs)
        answers.append(result)
        self._kept.append(others)
        results: list[Tensor] = []
        _spell(result, [], results, [])
        self._results.update(map(id, results))
        for tensor in (*tensors, *results):
            self._tensors.setdefault(id(tensor), (tensor, _version(tensor)))
        return result

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


def _version(tensor: Tensor) -> int:
    """How often a tensor was changed in place, as far as PyTorch counts."""
    return 0 if tensor.is_inference() else tensor._version
