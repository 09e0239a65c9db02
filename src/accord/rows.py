"""Rows: the gradients of K tasks in n parameters, tensor by tensor, never concatenated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from accord import inner
from accord.blocks import Blocks

SMALL = 1 << 16  # tensors up to this size are joined, so that biases and norms do not cost a product each

Reduce = Callable[[Sequence[Tensor]], None]  # averages tensors over ranks, in place


class Rows:
    """K x n gradient tensors; None where a task does not reach a parameter.

    Args:
        rows: ``rows[i][p]``, the gradient of task i in parameter p.
        names: of the n parameters, for who keeps gradients from step to step.

    Example:
        >>> import torch
        >>> rows = Rows([[torch.tensor([3.0, 4.0])], [torch.tensor([4.0, 3.0])]])
        >>> rows.cross(rows).tolist()
        [[25.0, 24.0], [24.0, 25.0]]
    """

    def __init__(self, rows: list[list[Tensor | None]], names: Sequence[str] = ()) -> None:
        self.rows = rows
        self.names = names

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, tasks: Sequence[int]) -> Rows:
        """The rows of some tasks; the tensors are the same, the lists are not.

        Args:
            tasks: places among the K.
        """
        return Rows([list(self.rows[i]) for i in tasks], self.names)

    def cross(self, other: Rows) -> Tensor:
        """Inner products with other rows in the same parameters; what a task does not reach counts as zero.

        Args:
            other: K' rows.

        Returns:
            (K, K') float64.
        """
        return Rows([*self.rows, *other.rows]).gramian()[: len(self), len(self) :]  # (K, K')

    def gramian(self) -> Tensor:
        """Inner products over all parameters.

        Returns:
            (K, K) float64.
        """
        return self.gramians(Blocks(("total",), (0,) * len(self.rows[0])))[0]  # (K, K)

    def gramians(self, blocks: Blocks) -> Tensor:
        """Inner products per block.

        Returns:
            (B, K, K) float64.
        """
        k = len(self.rows)
        device = next((g.device for row in self.rows for g in row if g is not None), None)
        total = torch.zeros(len(blocks.names), k, k, dtype=torch.float64, device=device)  # (B, K, K)
        for block, tasks, vectors in self._groups(blocks):
            own = inner.gramian(vectors)  # (k', k')
            if len(tasks) == k:
                total[block] += own
            else:
                at = _index(tasks, device)  # (k',)
                total[block, at[:, None], at] += own
        return total

    def _groups(self, blocks: Blocks) -> Iterator[tuple[int, tuple[int, ...], list[Tensor]]]:
        """Parameters of one block that the same tasks reach: large ones one by one, small ones joined."""
        small: dict[tuple[int, tuple[int, ...], torch.dtype], list[int]] = defaultdict(list)
        for p, block in enumerate(blocks.index):
            tasks = tuple(i for i, row in enumerate(self.rows) if row[p] is not None)
            if block < 0 or not tasks:
                continue
            vectors = [self._at(i, p) for i in tasks]
            if vectors[0].numel() <= SMALL and not any(v.is_sparse for v in vectors):
                small[block, tasks, vectors[0].dtype].append(p)
            else:
                yield block, tasks, vectors
        for (block, tasks, _), members in small.items():
            if len(members) == 1:
                yield block, tasks, [self._at(i, members[0]) for i in tasks]
            else:
                yield block, tasks, [torch.cat([self._at(i, p).reshape(-1) for p in members]) for i in tasks]

    def _at(self, task: int, p: int) -> Tensor:
        gradient = self.rows[task][p]
        assert gradient is not None  # callers ask only for tasks that reach p
        return gradient

    def inner(self, vectors: Sequence[Tensor | None], blocks: Blocks) -> Tensor:
        """Inner products with one vector per parameter, such as the update that was taken.

        Args:
            vectors: one tensor per parameter; None counts as zero.
            blocks: where to add them up.

        Returns:
            (B, K) float64.
        """
        k = len(self.rows)
        device = next((v.device for v in vectors if v is not None), None)
        total = torch.zeros(len(blocks.names), k, dtype=torch.float64, device=device)  # (B, K)
        for p, (block, vector) in enumerate(zip(blocks.index, vectors, strict=True)):
            tasks = [i for i, row in enumerate(self.rows) if row[p] is not None]
            if block >= 0 and vector is not None and tasks:
                found = inner.dots([self._at(i, p) for i in tasks], vector)  # (k',)
                if len(tasks) == k:
                    total[block] += found
                else:
                    total[block].index_add_(0, _index(tasks, device), found)
        return total

    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """``Σ w_i g_i`` per parameter, giving each row's memory back as soon as it has been added.

        Args:
            weights: K numbers; None for a task that takes no part (its row may be NaN).
            keep: leave the rows in place, for a probe that needs them after the optimiser's step.

        Returns:
            One tensor per parameter; None where no participating task reaches it.
        """
        combined: list[Tensor | None] = [None] * len(self.rows[0])
        for row, weight in zip(self.rows, weights, strict=True):
            sums, gradients = [], []
            for p, gradient in enumerate(row):
                if not keep:
                    row[p] = None
                if gradient is None or weight is None:
                    continue
                before = combined[p]
                if before is None:
                    # A fresh tensor: what autograd returned may be expanded, or shared with a saved tensor.
                    combined[p] = _wide(gradient) * weight
                else:
                    sums.append(before)
                    gradients.append(gradient)
                del gradient
            if sums:
                assert weight is not None
                torch._foreach_add_(sums, gradients, alpha=weight)
        return combined

    def combine_blocks(self, weights: Sequence[Sequence[float | None]], blocks: Sequence[int]) -> list[Tensor | None]:
        """``Σ w_bi g_i`` with the weights of each parameter's block; gives the rows' memory back.

        Args:
            weights: (B + 1) times K numbers, the last of them for parameters in no block; None as in ``combine``.
            blocks: for each parameter its block, or -1.

        Returns:
            One tensor per parameter; None where no participating task reaches it.
        """
        combined: list[Tensor | None] = [None] * len(blocks)
        for block, own in zip((*range(len(weights) - 1), -1), weights, strict=True):
            members = [p for p, b in enumerate(blocks) if b == block]
            part = Rows([[row[p] for p in members] for row in self.rows])
            for row in self.rows:
                for p in members:
                    row[p] = None
            for p, gradient in zip(members, part.combine(own) if members else (), strict=True):
                combined[p] = gradient
        return combined


def _index(tasks: Sequence[int], device: torch.device | None) -> Tensor:
    """(k',) on the device, without waiting for it."""
    return torch.tensor(tasks).to(device, non_blocking=True)


def _wide(gradient: Tensor) -> Tensor:
    """Accumulate in float32 at least."""
    gradient = gradient.to_dense() if gradient.is_sparse else gradient
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def fresh(gradients: list[Tensor | None]) -> list[Tensor | None]:
    """Copies that nobody else holds, giving the originals' memory back one by one.

    What autograd returns may be expanded, the same tensor twice, or a tensor that some function has saved.
    """
    for p, gradient in enumerate(gradients):
        gradients[p] = None
        if gradient is not None:
            gradients[p] = gradient.clone()
        del gradient
    return gradients
