"""Weight gradients that are never formed: a layer's gradient is ``δ_iᵀX``; a small triangle of X gives its Gramian.

A linear layer with input ``X (T, d_in)`` and cotangents ``δ_i (T, d_out)`` has ``dL_i/dW = δ_iᵀX``. With ``Xᵀ = QR``,
R a (T, T) triangle, ``⟨δ_iᵀX, δ_jᵀX⟩ = ⟨Rδ_i, Rδ_j⟩``: where T is small against d_in, K products with R replace K
weight gradients, and the combined gradient is one product ``(Σ w_i δ_i)ᵀX``. (The form ``⟨XXᵀ, δ_iδ_jᵀ⟩`` of per-sample
gradient clipping squares the rounding errors where gradients cancel over the batch; R does not.) A convolution is the
same with X its unfolded input, T = batch x positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from accord.inner import dots
from accord.sharing import Node, Sharing

MARGIN = 1.25  # how much fewer operations the factored form must need: small products run below full speed
FACTORISED = (torch.float32, torch.float64)  # what LAPACK's QR takes, complex numbers aside
TRIANGLE = 8.0  # what an operation of the QR factorisation costs, in those of a product


@dataclass
class Factored:
    """The gradients of K tasks in one weight, as factors.

    Args:
        index: of the weight among the shared parameters.
        weight: the parameter.
        node: the layer's node in the graph.
        matrix: X (T, d_in).
        cotangents: K tensors δ_i (T, d_out), filled in by the passes; None where a task does not reach the layer.
    """

    index: int
    weight: Tensor
    node: Node
    matrix: Tensor
    cotangents: list[Tensor | None] = field(default_factory=list)

    @property
    def edge(self) -> GradientEdge:
        """Where a backward pass finds the cotangent."""
        return GradientEdge(self.node, 0)

    def receive(self, cotangent: Tensor | None) -> None:
        """Take the next task's gradient of the layer's output, (T, d_out) or (N, d_out, ...)."""
        if cotangent is not None and cotangent.ndim > 2:
            cotangent = cotangent.flatten(2).transpose(1, 2).flatten(0, 1)  # (T, d_out)
        self.cotangents.append(cotangent)

    def rows(self) -> list[Tensor | None]:
        """K tensors ``Rδ_i`` (r, d_out), r = min(T, d_in), with the inner products of the gradients."""
        triangle = torch.linalg.qr(self.matrix.T, mode="r").R  # (r, T)
        return [None if c is None else triangle @ c for c in self.cotangents]

    def combine(self, weights: Sequence[float | None]) -> Tensor | None:
        """``Σ w_i δ_iᵀX`` in the shape of the weight; None where no participating task reaches it."""
        total: Tensor | None = None
        for cotangent, weight in zip(self.cotangents, weights, strict=True):
            if cotangent is None or weight is None:
                continue
            total = cotangent * weight if total is None else total.add_(cotangent, alpha=weight)
        return None if total is None else (total.T @ self.matrix).view_as(self.weight)

    def inner(self, vector: Tensor) -> tuple[list[int], Tensor]:
        """The tasks that reach the weight, and (k',) float64 ``⟨δ_iᵀX, V⟩ = ⟨δ_i, XVᵀ⟩``."""
        image = self.matrix @ vector.reshape(len(vector), -1).T.to(self.matrix.dtype)  # (T, d_out)
        tasks = [i for i, c in enumerate(self.cotangents) if c is not None]
        return tasks, dots([c for c in self.cotangents if c is not None], image)


def layers(sharing: Sharing) -> list[Factored]:
    """The shared linear and convolution weights whose gradients are cheaper as factors.

    A weight qualifies if this step's graph uses it once, in one such layer; nothing is assumed about modules. Inputs
    kept by hooks (non-reentrant checkpoints) are left alone: looking at them would run the forward pass again. So are
    weights with hooks of their own, which want to see the gradient. Only on the CPU, where it is measured.

    Args:
        sharing: which parameter is reached by which losses.
    """
    if not sharing.roots or not sharing.shared or sharing.shared[0].device.type != "cpu":
        return []
    place = {p: i for i, p in enumerate(sharing.shared)}
    found: list[tuple[Factored, tuple[Node, ...]]] = []
    for node in sharing.graph.order:
        if (name := type(node).__name__) in LAYERS:
            slot, saved = LAYERS[name]
            chain = _chain(node, slot, transposed=saved != "input")
            index = place.get(getattr(chain[-1], "variable", None), -1) if chain else -1  # type: ignore[arg-type]
            if index >= 0:
                layer = _layer(node, saved, sharing.shared[index], index, len(sharing.reach[index]))
                if layer is not None:
                    found.append((layer, chain))
    if not found:
        return []
    storages = {p.untyped_storage().data_ptr() for p in sharing.shared if p.layout == torch.strided}
    for layer, _ in found:
        if layer.matrix.untyped_storage().data_ptr() in storages:  # a parameter as input: the optimiser will change it
            layer.matrix = layer.matrix.clone()
    parents = Counter(child for edges in sharing.graph.edges.values() for child, _ in edges)
    return [layer for layer, chain in found if all(parents[node] == 1 for node in chain)]


# name of the node -> which of its inputs is the weight, and where it saved the layer's input
LAYERS = {"AddmmBackward0": (2, "mat1"), "MmBackward0": (1, "self"), "ConvolutionBackward0": (1, "input")}


def _chain(node: Node, slot: int, transposed: bool) -> tuple[Node, ...]:
    """The nodes from a layer to its weight: the leaf, after a transposition for linear layers."""
    child = node.next_functions[slot][0]
    if not transposed:
        return () if child is None else (child,)
    if type(child).__name__ != "TBackward0":
        return ()
    return (child, child.next_functions[0][0])


def _layer(node: Node, saved: str, weight: Tensor, index: int, k: int) -> Factored | None:
    """The layer as factors, if that is cheaper for k tasks."""
    if getattr(node, f"_raw_saved_{saved}").unpack_hook is not None or weight._backward_hooks:
        return None
    convolution = saved == "input"
    if convolution and (node._saved_transposed or node._saved_groups != 1 or weight.ndim > 4):
        return None
    if convolution and any(
        len(setting) != weight.ndim - 2 for setting in (node._saved_stride, node._saved_padding, node._saved_dilation)
    ):  # one number for all dimensions
        return None
    if not convolution and getattr(node, "_saved_alpha", 1) != 1:
        return None
    x = getattr(node, f"_saved_{saved}")
    outside, inside = len(weight), weight.shape[1:].numel()
    if x.dtype != weight.dtype or weight.dtype not in FACTORISED or x.layout != torch.strided:
        return None
    if not _cheaper(k, _rows(node, x, weight) if convolution else len(x), inside, outside):
        return None
    matrix = _unfolded(node, x, weight) if convolution else x.detach()
    return Factored(index, weight, node, matrix)


def _cheaper(k: int, t: int, inside: int, outside: int) -> bool:
    """Compare the multiplications of K weight gradients with those of the factored form."""
    formed = k * t * inside * outside
    factored = k * t * min(t, inside) * outside + TRIANGLE * t * t * inside + t * inside * outside
    return t < inside and formed > MARGIN * factored


def _rows(node: Node, x: Tensor, weight: Tensor) -> int:
    """T of a convolution: batch times output positions."""
    count = len(x)
    for size, kernel, stride, padding, dilation in zip(
        x.shape[2:], weight.shape[2:], node._saved_stride, node._saved_padding, node._saved_dilation, strict=True
    ):
        count *= (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return count


def _unfolded(node: Node, x: Tensor, weight: Tensor) -> Tensor:
    """(T, d_in): for each output position the inputs that it sees."""
    settings = [weight.shape[2:], node._saved_dilation, node._saved_padding, node._saved_stride]
    if weight.ndim == 3:  # one dimension is two with a height of one
        x = x.unsqueeze(2)
        settings = [(1, settings[0][0]), (1, settings[1][0]), (0, settings[2][0]), (1, settings[3][0])]
    kernel, dilation, padding, stride = (tuple(s) for s in settings)
    patches = torch.nn.functional.unfold(x.detach(), kernel, dilation, padding, stride)  # (N, d_in, positions)
    return patches.transpose(1, 2).flatten(0, 1)  # (T, d_in)
