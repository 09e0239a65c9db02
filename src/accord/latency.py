"""latency: what an operation costs, and what an architecture that is not yet decided is expected to cost.

Architecture search mixes the operations of an edge by ``softmax(alpha)``. Its cost is an objective like any other: it
goes into the losses of a Balancer, whose shared parameters are then the architecture's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from accord.errors import AccordError
from accord.undisturbed import undisturbed


def expected(logits: Tensor | Sequence[Tensor], costs: Tensor | Sequence[Tensor]) -> Tensor:
    """Expected cost of a soft architecture: ``sum_e softmax(alpha_e) · cost_e``.

    Differentiable in the logits: ``∂/∂alpha_eo = p_eo (cost_eo - Σ_j p_ej cost_ej)`` with ``p_e = softmax(alpha_e)``.
    It is the mean cost of architectures whose operations are drawn from the p_e, and exact where each p_e has one entry
    of 1.

    Args:
        logits: (E, O), for E edges with O operations each; or E tensors (O_e,), where edges differ.
        costs: in the same form; what one operation costs, in any unit. Numbers add up over edges, so this suits
            operations that run one after the other.

    Returns:
        A scalar in the unit of the costs.

    Raises:
        AccordError: if logits and costs do not have the same form.

    Source:
        Wu et al. 2019 (FBNet), https://arxiv.org/abs/1812.03443, equations 2 and 7; Cai et al. 2019 (ProxylessNAS),
        https://arxiv.org/abs/1812.00332, equation 5.

    Example:
        >>> import torch
        >>> costs = torch.tensor([[0.0, 2.0], [0.0, 6.0]])
        >>> expected(torch.zeros(2, 2), costs).item()
        4.0
        >>> expected(torch.tensor([[99.0, 0.0], [0.0, 99.0]]), costs).item()
        6.0
    """
    if len(logits) != len(costs):
        raise AccordError(f"{len(logits)} edges have logits and {len(costs)} have costs; give one row for each edge.")
    if not len(logits):
        raise AccordError("there is no edge, so there is no cost; give the logits of at least one.")
    parts = []
    for e, (alpha, cost) in enumerate(zip(logits, costs, strict=True)):
        if alpha.ndim != 1 or alpha.shape != cost.shape:
            shapes = f"{tuple(alpha.shape)} and costs {tuple(cost.shape)}"
            raise AccordError(f"edge {e} has logits {shapes}; expected one of each per operation, (O,).")
        parts.append((alpha.softmax(0) * cost.to(alpha)).sum())  # ()
    return torch.stack(parts).sum()


def macs(module: nn.Module, *shapes: Sequence[int]) -> int:
    """Multiply-accumulates of one forward pass, counted from shapes: the same on every machine.

    Matrix products, convolutions and attention are counted, and nothing else: activations, normalisation, pooling and
    copies are free here, though they take time. A depthwise convolution has few of them and is slower than they say.

    Args:
        module: run once on zeros, without gradients, in the mode that it is in.
        shapes: of each of its inputs.

    Returns:
        How many; half the floating-point operations.

    Raises:
        AccordError: if no shape is given.

    Example:
        >>> macs(nn.Conv2d(8, 8, 3, padding=1), (1, 8, 8, 8))  # 8 · 8 · 9 weights at 64 places
        36864
        >>> macs(nn.Identity(), (1, 8, 8, 8))
        0
    """
    inputs = _inputs(module, shapes)
    with torch.no_grad(), undisturbed(module), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def milliseconds(module: nn.Module, *shapes: Sequence[int], runs: int = 200, warm_up: int = 20) -> float:
    """Median time of one forward pass as it was measured here and now, in milliseconds.

    It holds for this machine, this number of threads and these shapes, and it is noisy: let nothing else run, and fix
    the table before the search, so that all methods see the same.

    Args:
        module: run on zeros, without gradients, in the mode that it is in.
        shapes: of each of its inputs.
        runs: how many timings the median is of.
        warm_up: how many runs before them are not timed.

    Raises:
        AccordError: if no shape is given, or runs or warm_up are no such numbers.

    Example:
        >>> 0 < milliseconds(nn.Linear(4, 4), (1, 4), runs=3, warm_up=1) < 1000
        True
    """
    if runs < 1 or warm_up < 0:
        raise AccordError(f"runs={runs} and warm_up={warm_up}, expected runs >= 1 and warm_up >= 0.")
    inputs = _inputs(module, shapes)
    found = []
    with torch.no_grad(), undisturbed(module):
        _wait(inputs[0].device)
        for i in range(warm_up + runs):
            start = time.perf_counter()
            module(*inputs)
            _wait(inputs[0].device)
            if i >= warm_up:
                found.append(1000 * (time.perf_counter() - start))
    return statistics.median(found)


def _inputs(module: nn.Module, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    if not shapes:
        raise AccordError("no shape of an input is given; the cost of a module depends on it, e.g. (1, 8, 8, 8).")
    like = next((t for t in chain(module.parameters(), module.buffers()) if t.is_floating_point()), torch.empty(0))
    return [torch.zeros(tuple(shape), dtype=like.dtype, device=like.device) for shape in shapes]


def _wait(device: torch.device) -> None:
    """Until the device has done its work: a GPU goes on while Python already counts."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
