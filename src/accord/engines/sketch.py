"""Sketches: each task's gradient in k numbers per block, kept where the gradients themselves are not.

Random signs times fold (feature hashing with the hash ``index mod k``; Weinberger et al. 2009,
https://arxiv.org/abs/0902.2206): ``S(v)_j = Σ_{n ≡ j mod k} s_n v_n`` with independent signs. ``S`` is linear and
``E[S(v)·S(u)] = v·u`` with a standard error of at most about ``‖v‖‖u‖ √(2/k)`` (0.02 of the norms at k = 4096), and
``1/√k`` when v and u are nearly orthogonal; blocks of at most k numbers do not collide and are exact. Not for
guarantees; enough to say who an optimiser's step harms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.blocks import Blocks

SIZE = 4096  # k


class Sketch:
    """Sketches of K gradients per block.

    Args:
        blocks: which parameter belongs to which block.
        sizes: how many numbers each parameter holds.
        tasks: K.
        device: where the gradients are.
        seed: of the signs; equal on all ranks.
    """

    def __init__(self, blocks: Blocks, sizes: Sequence[int], tasks: int, device: torch.device, seed: int = 0) -> None:
        self.blocks, self.seed = blocks, seed
        filled = [0] * len(blocks.names)
        self.starts: list[int] = []  # where each parameter begins in its block, so that small ones do not overlap
        for block, size in zip(blocks.index, sizes, strict=True):
            self.starts.append(filled[block] if block >= 0 else 0)
            if block >= 0:
                filled[block] += size
        self.sums = torch.zeros(len(blocks.names), tasks, SIZE, dtype=torch.float64, device=device)  # (B, K, k)

    def add(self, parameter: int, gradients: Sequence[Tensor | None]) -> None:
        """Fold the gradients of one parameter in.

        Args:
            parameter: its place among the shared parameters.
            gradients: K tensors; None where a task does not reach it.
        """
        block = self.blocks.index[parameter]
        present = [i for i, g in enumerate(gradients) if g is not None]
        if block >= 0 and present:
            signs = self._signs(parameter, next(g for g in gradients if g is not None))
            for i in present:
                self.sums[block, i] += fold(gradients[i], signs, self.starts[parameter])  # type: ignore[arg-type]

    def inner(self, vectors: Sequence[Tensor | None]) -> Tensor:
        """Estimated inner products with one vector per parameter.

        Returns:
            (B, K) float64.
        """
        folded = torch.zeros_like(self.sums[:, 0])  # (B, k)
        for p, vector in enumerate(vectors):
            if vector is not None and self.blocks.index[p] >= 0:
                folded[self.blocks.index[p]] += fold(vector, self._signs(p, vector), self.starts[p])
        return torch.einsum("bks,bs->bk", self.sums, folded)  # (B, K)

    def _signs(self, parameter: int, like: Tensor) -> Tensor:
        """(n,) of +1 and -1 as int8, made anew each time: holding them would cost P bytes."""
        source = torch.Generator(like.device).manual_seed(self.seed * 1_000_003 + parameter)
        return torch.randint(0, 2, (like.numel(),), generator=source, dtype=torch.int8, device=like.device) * 2 - 1


def fold(vector: Tensor, signs: Tensor, start: int) -> Tensor:
    """Sum every k-th entry, with signs.

    Args:
        vector: n numbers, any shape.
        signs: (n,).
        start: the place of the first entry, modulo k.

    Returns:
        (k,) float64.
    """
    vector = vector.to_dense() if vector.is_sparse else vector
    signed = vector.reshape(-1) * signs  # (n,)
    start %= SIZE
    total = torch.zeros(SIZE, dtype=torch.float64, device=vector.device)  # (k,)
    head, rest = signed[: SIZE - start], signed[SIZE - start :]
    total[start : start + head.numel()] += head
    whole = rest.numel() // SIZE * SIZE
    total += rest[:whole].view(-1, SIZE).sum(0, dtype=torch.float64)
    total[: rest.numel() - whole] += rest[whole:]
    return total
