"""Truncated backpropagation through time: which time steps a loss may teach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from accord.errors import AccordError

State = TypeVar("State")  # a tensor, or nested tuples, lists and dicts of tensors
Input = TypeVar("Input")


def detached(state: State) -> State:
    """The state without its past: the same numbers, and no gradient flows through them.

    Args:
        state: a tensor (RNN, GRU), a tuple ``(h, c)`` (LSTM), or nested tuples, lists and dicts of them; None stays.

    Returns:
        The same structure.

    Raises:
        AccordError: for a state that holds something else.

    Example:
        >>> import torch
        >>> h = torch.ones(2, requires_grad=True) * 2
        >>> kept, cell = detached((h, h))
        >>> kept.tolist(), kept.requires_grad
        ([2.0, 2.0], False)
    """
    return _detached(state)


def _detached(state: Any) -> Any:
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, Mapping):
        return {name: _detached(part) for name, part in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):  # a named tuple takes its parts one by one
        return type(state)(*map(_detached, state))
    if isinstance(state, tuple | list):
        return type(state)(map(_detached, state))
    raise AccordError(f"a state holds {type(state).__name__}; expected tensors, or tuples, lists and dicts of them.")


def detach_every(k: int, t: int, state: State) -> State:
    """Truncated backpropagation: the state is detached before every k-th step, so that windows of k steps are apart.

    A loss at step t then teaches the steps of its own window alone, between 1 and k of them. For exactly the last k
    steps of each loss, see ``window``.

    Args:
        k: length of the windows.
        t: steps taken so far, from 0; the state is detached where t is a positive multiple of k.
        state: as for ``detached``.

    Returns:
        The state that goes into the next step.

    Raises:
        AccordError: for k below 1 or t below 0.

    Source:
        Williams and Peng 1990, https://doi.org/10.1162/neco.1990.2.4.490: BPTT(h; h') with h = h' = k.

    Example:
        >>> import torch
        >>> w, h = torch.tensor(0.5, requires_grad=True), torch.tensor(1.0)
        >>> for t in range(4):
        ...     h = detach_every(2, t, h) * w
        >>> h.backward()
        >>> w.grad.item()  # h = 0.25 w², not w⁴
        0.25
    """
    if k < 1 or t < 0:
        raise AccordError(f"detach_every(k={k}, t={t}): expected windows of at least one step, and no step before 0.")
    return detached(state) if t and t % k == 0 else state


def unroll(step: Callable[[Input, State], State], inputs: Sequence[Input], state: State) -> list[State]:
    """Every state of a recurrence: ``h_t = step(x_t, h_{t-1})``.

    Args:
        step: one time step, from an input and a state to the next state.
        inputs: T of them, in the order of time.
        state: ``h_0``.

    Returns:
        T + 1 states; that at t is the one after t steps.

    Example:
        >>> unroll(lambda x, h: h + x, [1, 2, 3], 0)
        [0, 1, 3, 6]
    """
    states = [state]
    for x in inputs:
        states.append(step(x, states[-1]))
    return states


def window(
    step: Callable[[Input, State], State], inputs: Sequence[Input], states: Sequence[State], k: int, at: int = -1
) -> State:
    """The state at a time, whose gradient reaches the last k steps before it and no others.

    A window of one loss that leaves other losses alone: with ``window(..., k, at)`` for ``h_at``, the gradient of this
    loss is ``Σ_{at-k < t <= at} ∂L/∂θ_t``, the sum of what those steps contribute (``accord.contributions``). The
    numbers are the same. It takes k steps again, from ``states[at - k]`` detached, hence k forward steps and their
    memory; a step that draws random numbers (dropout) draws new ones. If no other loss reads a state after
    ``at - k``, detaching there is the same for nothing.

    Args:
        step: as for ``unroll``.
        inputs: T of them.
        states: the T + 1 states of ``unroll``.
        k: how many steps the loss may teach.
        at: after how many steps the state is read; -1 is the end.

    Returns:
        The state; that of ``states`` itself if k reaches back to the start.

    Raises:
        AccordError: for k below 1, for a time that is none, or where states and inputs do not belong together.

    Example:
        >>> import torch
        >>> w = torch.tensor(0.5, requires_grad=True)
        >>> step, inputs = lambda x, h: w * h + x, [0.0] * 4
        >>> states = unroll(step, inputs, torch.tensor(1.0))
        >>> h = window(step, inputs, states, k=1)
        >>> h.item() == states[-1].item(), torch.autograd.grad(h, w)[0].item()  # w * h_3, with h_3 = 0.125
        (True, 0.125)
    """
    if len(states) != len(inputs) + 1:
        raise AccordError(f"{len(states)} states for {len(inputs)} inputs; expected one more, as unroll returns them.")
    end = at + len(states) if at < 0 else at
    if k < 1 or not 1 <= end < len(states):
        raise AccordError(f"window(k={k}, at={at}): expected k from 1, and a time between 1 and {len(inputs)}.")
    if k >= end:
        return states[end]
    state = detached(states[end - k])
    for x in inputs[end - k : end]:
        state = step(x, state)
    return state
