"""A GRU over packed sequences: on CPU several times as fast as PyTorch's, with the same parameters and results."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from accord.tpp.errors import TPPError

WIDTH = 16  # units are padded to a multiple of it: one vector register of float32
aten = torch.ops.aten


def gru(module: nn.GRU, x: Tensor, sizes: Sequence[int], initial: Tensor | None = None) -> Tensor:
    """Hidden vectors after every token: one layer, one direction, sequences of any lengths without padding.

    With the gates ``r, z`` and the candidate ``n`` of ``nn.GRU``: ``h' = (1 - z) n + z h``. Layout as in
    ``PackedSequence.data``: tokens are sorted by step, the sequences within a step by decreasing length. Gradients on
    CPU are carried by hand: differentiable once, and under ``autograd.grad(..., is_grads_batched=True)``.

    Args:
        module: its parameters in the order of ``nn.GRU``: one layer, one direction, with biases.
        x: (T, in) tokens; the rows of step t lie together.
        sizes: for each step the number of sequences that still have a token; never increasing, T in total.
        initial: (sizes[0], rnn) hidden vectors before the first token; None: zeros.

    Returns:
        (T, rnn), in the layout of ``x``.

    Raises:
        TPPError: for sizes that do not fit, and for modules with more layers or directions, or without biases.

    Source:
        Cho et al., https://arxiv.org/abs/1406.1078; the arithmetic is that of ``torch.nn.GRU``.

    Example:
        >>> module = nn.GRU(2, 3)
        >>> x = torch.randn(5, 2)  # sequence a has 3 tokens, sequence b has 2: rows a1 b1 a2 b2 a3
        >>> hidden = gru(module, x, [2, 2, 1])
        >>> torch.allclose(hidden[[0, 2, 4]], module(x[[0, 2, 4]])[0], atol=1e-6)
        True
    """
    sizes = list(sizes)
    _check(module, x, sizes)
    if initial is None:
        initial = x.new_zeros(sizes[0], module.hidden_size)
    if x.device.type != "cpu":
        packed, _ = module(PackedSequence(x, torch.tensor(sizes)), initial[None])
        return packed.data
    weights = _weights(module)
    needed = torch.is_grad_enabled() and any(p.requires_grad for p in (x, initial, *weights))
    return _Recurrence.apply(x, initial, *weights, sizes, needed)


def step(module: nn.GRU, x: Tensor, h: Tensor) -> Tensor:
    """One event: the hidden vectors after the tokens x, from those before.

    Args:
        module: as for ``gru``.
        x: (n, in) one token of each sequence.
        h: (n, rnn).

    Returns:
        (n, rnn).

    Example:
        >>> module, x, h = nn.GRU(2, 3), torch.randn(4, 2), torch.zeros(4, 3)
        >>> torch.allclose(step(module, x, h), gru(module, x, [4], h), atol=1e-6)
        True
    """
    return torch.gru_cell(x, h, *_weights(module))


def _weights(module: nn.GRU) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By name: a parametrised module's parameters are others, and these are what it makes of them."""
    return module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0, module.bias_hh_l0  # type: ignore[return-value]


def _check(module: nn.GRU, x: Tensor, sizes: list[int]) -> None:
    if module.num_layers != 1 or module.bidirectional or not module.bias:
        raise TPPError(f"found {module}; expected a GRU of one layer and one direction, with biases.")
    if not sizes or sum(sizes) != len(x) or sizes[-1] < 1 or any(a < b for a, b in pairwise(sizes)):
        raise TPPError(
            f"{len(x)} tokens in {len(sizes)} steps of {sizes[:3]}... sequences; expected as many tokens as the sum of "
            "the steps, which are positive and never increase: sort the sequences by decreasing length."
        )


def _padded(weight: Tensor, P: int) -> Tensor:
    """The three gates of a weight (3 R, ...) or bias (3 R), each filled with zeros to P rows: (3, P, ...)."""
    gates = weight.unflatten(0, (3, -1))
    out = weight.new_zeros(3, P, *gates.shape[2:])
    out[:, : gates.shape[1]] = gates
    return out


def _recurrent(weight: Tensor, P: int) -> Tensor:
    """The recurrent weight (3 R, R) padded in both axes: (3 P, P)."""
    return nn.functional.pad(_padded(weight, P), (0, P - weight.shape[1])).flatten(0, 1)


class _Recurrence(torch.autograd.Function):
    """All steps; also forms, once for all its backward passes, what these multiply by.

    Units are padded with zeros from R to P, a multiple of 16: they stay zero, and small matrix products of unaligned
    width take almost twice the time.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, initial, w_in, w_rec, b_in, b_rec, sizes, needed = inputs
        R = initial.shape[1]
        P = -(-R // WIDTH) * WIDTH
        weight, bias, extra = _padded(w_in, P), _padded(b_in, P), _padded(b_rec, P)
        n = torch.addmm(bias[2], x, weight[2].T)  # (T, P)
        # r multiplies only the recurrent half of n, so that half stays apart from the input half.
        weight[2], bias[2] = 0, 0
        gates = torch.addmm((bias + extra).flatten(), x, weight.flatten(0, 1).T)  # (T, 3 P)
        opened = torch.empty_like(gates)
        hidden = torch.empty_like(n)
        r, z, _ = opened.view(-1, 3, P).unbind(1)  # (T, P) each
        hn = gates[:, 2 * P :]
        turned = _recurrent(w_rec, P).T
        h = nn.functional.pad(initial, (0, P - R))
        before = []
        parts = (part.split(sizes) for part in (gates, opened, r, z, hn, n, hidden))
        for B, gates_t, opened_t, r_t, z_t, hn_t, n_t, hidden_t in zip(sizes, *parts, strict=True):
            if len(h) > B:
                h = h[:B]
            before.append(h)
            gates_t.addmm_(h, turned)
            torch.sigmoid(gates_t, out=opened_t)  # all three gates: one contiguous pass is faster than two of three
            n_t.addcmul_(r_t, hn_t).tanh_()
            torch.lerp(n_t, h, z_t, out=hidden_t)
            h = hidden_t
        if needed:
            previous = torch.cat(before)  # (T, P)
            keep = z.clone()
            by_n = aten.tanh_backward(1 - z, n)  # d h'/d(argument of tanh)
            # In place, onto the gates: the product with d h' gives d(arguments of r, z) and d(W_hn h + b_hn).
            torch.mul(by_n, r, out=opened[:, 2 * P :])
            aten.sigmoid_backward(hn.mul_(by_n), r, grad_input=r)
            aten.sigmoid_backward(n.neg_().add_(previous), z, grad_input=z)
            ctx.save_for_backward(x, w_in, w_rec, previous, opened, by_n, keep)
            ctx.sizes = sizes
        return hidden[:, :R].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:6]
        found = _backward(grads[0], *ctx.saved_tensors, ctx.sizes, wanted)
        return *(g if w else None for g, w in zip(found, wanted, strict=True)), None, None


# An operator of its own rather than plain code: PyTorch then knows how to run it for a batch of cotangents.
@torch.library.custom_op("accord::gru_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad: Tensor,
    x: Tensor,
    w_in: Tensor,
    w_rec: Tensor,
    previous: Tensor,
    factors: Tensor,
    by_n: Tensor,
    keep: Tensor,
    sizes: Sequence[int],
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    found = _gradients(grad[:, None], x, w_in, w_rec, previous, factors, by_n, keep, sizes, wanted)
    return tuple(g[0] for g in found)  # type: ignore[return-value]


def _refuse(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("the GRU can be differentiated once on CPU; call the nn.GRU itself for a second derivative.")


_backward.register_autograd(_refuse)


@_backward.register_vmap
def _(info: Any, axes: tuple[Any, ...], grad: Tensor, *others: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    if axes[0] is None or any(axis is not None for axis in axes[1:8]):
        raise TPPError("a GRU on CPU can be batched over cotangents, not over tokens or weights; call nn.GRU itself.")
    return _gradients(grad.movedim(axes[0], 1), *others), (0,) * 6


def _gradients(
    grad: Tensor,
    x: Tensor,
    w_in: Tensor,
    w_rec: Tensor,
    previous: Tensor,
    factors: Tensor,
    by_n: Tensor,
    keep: Tensor,
    sizes: Sequence[int],
    wanted: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Of K cotangents (T, K, R): the wanted ones of d x, d initial, d weights, d biases, each (K, ...)."""
    T, K, R = grad.shape
    P = previous.shape[1]
    total = grad.new_zeros(T, K, P)  # d h', grows from the last step to the first
    total[..., :R] = grad
    inner = grad.new_empty(T, K, 3 * P)
    weight = _recurrent(w_rec, P)
    start = grad.new_zeros(sizes[0], K, P)
    # The K rows of a token lie together, so every step is one matrix product whatever K is.
    steps = zip(
        sizes,
        [start, *total.split(sizes)[:-1]],
        total.split(sizes),
        inner.split(sizes),
        factors.view(T, 1, 3, P).split(sizes),
        keep[:, None].split(sizes),
        strict=True,
    )
    for B, earlier, total_t, inner_t, factors_t, keep_t in reversed(list(steps)):
        torch.mul(factors_t, total_t[:, :, None], out=inner_t.view(B, K, 3, P))
        earlier = earlier[:B]
        earlier.addcmul_(total_t, keep_t)
        earlier.view(B * K, P).addmm_(inner_t.view(B * K, 3 * P), weight)
    return _collect(x, w_in, previous, by_n, total, inner, start, R, wanted)


def _collect(
    x: Tensor,
    w_in: Tensor,
    previous: Tensor,
    by_n: Tensor,
    total: Tensor,
    inner: Tensor,
    start: Tensor,
    R: int,
    wanted: Sequence[bool],
) -> tuple[Tensor, ...]:
    """The wanted gradients, one matrix product over all tokens each; nothing in place of the others."""
    T, K, P = total.shape

    def product(tokens: Tensor) -> Tensor:  # (T, m) -> (K, 3 R, m), a sum over tokens
        gates = (tokens.T @ inner.view(T, -1)).T  # a third faster than the other order
        return gates.unflatten(0, (K, 3, P))[:, :, :R].flatten(1, 2)

    ones = x.new_ones(T, 1)
    by_w_rec = product(previous)[..., :R] if wanted[3] else x.new_empty(K, 0)
    by_b_rec = product(ones)[..., 0] if wanted[5] else x.new_empty(K, 0)
    # From here on for the input halves: only n differs, which r does not multiply there.
    torch.mul(total, by_n[:, None], out=inner[..., 2 * P :])
    by_x = x.new_empty(K, 0)
    if wanted[0]:
        by_x = (inner.view(T * K, 3 * P) @ _padded(w_in, P).flatten(0, 1)).view(T, K, -1).transpose(0, 1)
    by_w_in = product(x) if wanted[2] else x.new_empty(K, 0)
    by_b_in = product(ones)[..., 0] if wanted[4] else x.new_empty(K, 0)
    return by_x, start[..., :R].transpose(0, 1), by_w_in, by_w_rec, by_b_in, by_b_rec
