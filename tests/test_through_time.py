"""Truncated backpropagation: a window is the sum of what its steps contribute, and nothing else."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from accord import AccordError
from accord.engines.by_use import contributions, uses
from accord.through_time import detach_every, detached, unroll, window

T, N = 7, 3
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def recurrence(kind):
    """Weights by time step, so that the contributions of every step are known."""
    torch.manual_seed(0)
    cell = CELLS[kind](2, 4).double()
    weights = dict(cell.named_parameters())
    copies = uses(weights, T)
    inputs = list(zip(copies, torch.randn(T, N, 2).double(), strict=True))
    zero = torch.zeros(N, 4).double()

    def step(x, state):
        return functional_call(cell, x[0], (x[1], state))

    return step, inputs, (zero, zero) if kind == "lstm" else zero, copies, list(weights.values())


def loss_of(state):
    h = state[0] if isinstance(state, tuple) else state
    return (h - 0.3).square().sum() + h.sin().sum()


def gradient(loss, parameters):
    return list(torch.autograd.grad(loss, parameters, retain_graph=True))


def summed(found, steps, like):
    """Σ of the contributions of some steps, slowly."""
    total = [torch.zeros_like(p) for p in like]
    for u in steps:
        for i, g in enumerate(found.parts[0][u]):
            if g is not None:
                total[i] = total[i] + g
    return total


# The law


@pytest.mark.parametrize("kind", CELLS)
@settings(deadline=None, max_examples=12)
@given(k=st.integers(1, T + 2), at=st.integers(1, T))
def test_a_window_drops_the_earlier_contributions(kind, k, at):
    step, inputs, state, copies, weights = recurrence(kind)
    states = unroll(step, inputs, state)
    found = contributions(loss_of(states[at]), copies)
    short = window(step, inputs, states, k, at)
    torch.testing.assert_close(loss_of(short), loss_of(states[at]), rtol=0, atol=0)
    expected = summed(found, range(max(at - k, 0), at), weights)
    torch.testing.assert_close(gradient(loss_of(short), weights), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("k", [1, 3, T, T + 1])
def test_detaching_every_k_steps_keeps_the_last_window_alone(kind, k):
    step, inputs, state, copies, weights = recurrence(kind)
    found = contributions(loss_of(unroll(step, inputs, state)[-1]), copies)
    for t, x in enumerate(inputs):
        state = step(x, detach_every(k, t, state))
    start = (T - 1) // k * k  # the last multiple of k before the last step
    expected = summed(found, range(start, T), weights)
    torch.testing.assert_close(gradient(loss_of(state), weights), expected, rtol=1e-11, atol=1e-13)


def test_a_window_of_one_loss_leaves_the_other_alone():
    """The early loss at step 6 reads states inside the window of the late one, and still teaches all six steps."""
    step, inputs, state, _, weights = recurrence("gru")
    states = unroll(step, inputs, state)
    early, whole = loss_of(states[6]), gradient(loss_of(states[6]), weights)
    late = loss_of(window(step, inputs, states, 3))
    alone = gradient(late, weights)
    both = gradient(early + late, weights)
    torch.testing.assert_close(both, [a + b for a, b in zip(whole, alone, strict=True)])


def test_a_window_that_reaches_the_start_is_the_state_itself():
    step, inputs, state, _, _ = recurrence("rnn")
    states = unroll(step, inputs, state)
    assert window(step, inputs, states, T) is states[-1]
    assert window(step, inputs, states, 4, at=-4) is states[T - 3]


# Parts


def test_detached_keeps_numbers_and_structure():
    pair = namedtuple("pair", "h c")
    x = torch.ones(2, requires_grad=True) * 3
    found = detached({"a": [x, None], "b": pair(x, (x,))})
    assert type(found["b"]) is pair
    assert found["a"][1] is None
    for part in (found["a"][0], found["b"].h, found["b"].c[0]):
        assert torch.equal(part, x)
        assert not part.requires_grad


def test_unroll_is_the_loop():
    assert unroll(lambda x, h: 2 * h + x, [1, 0, 3], 1) == [1, 3, 6, 15]
    assert unroll(lambda x, h: h, [], "start") == ["start"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: detached((1.0,)), "a state holds float"),
        (lambda: detach_every(0, 1, None), "windows of at least one step"),
        (lambda: detach_every(2, -1, None), "no step before 0"),
        (lambda: window(max, [1, 2], [0, 1], 1), "2 states for 2 inputs; expected one more"),
        (lambda: window(max, [1], [0, 1], 0), "expected k from 1"),
        (lambda: window(max, [1], [0, 1], 1, at=2), "a time between 1 and 1"),
        (lambda: window(max, [1], [0, 1], 1, at=0), "a time between 1 and 1"),
    ],
)
def test_mistakes_are_said(call, message):
    with pytest.raises(AccordError, match=message):
        call()
