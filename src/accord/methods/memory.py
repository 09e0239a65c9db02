"""Memory: gradients that a method keeps from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord.errors import AccordError
from accord.rows import Rows


class Memory:
    """Rows of tensors by slot and parameter name, at least float32; what a step does not reach stays as it is.

    Example:
        >>> like = Rows([[torch.ones(2)], [torch.ones(2)]], ["w"])
        >>> memory = Memory()
        >>> _ = memory.rows([0, 1], like).rows[1][0].add_(3.0)
        >>> copy = Memory()
        >>> copy.load_state_dict(memory.state_dict())
        >>> copy.rows([1], like.pick([1])).rows[0][0].tolist()
        [3.0, 3.0]
    """

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Tensor]] = {}

    def __contains__(self, slot: object) -> bool:
        return str(slot) in self._kept

    def rows(self, slots: Sequence[int | str], like: Rows) -> Rows:
        """The kept tensors themselves, to be changed in place; those that are met for the first time are zero.

        Args:
            slots: one per row, such as the tasks' columns.
            like: rows of the same shapes; where one is None, so is the result.

        Raises:
            AccordError: if a parameter has changed its shape since.
        """
        found: list[list[Tensor | None]] = []
        for slot, row in zip(slots, like.rows, strict=True):
            kept = self._kept.setdefault(str(slot), {})
            found.append(
                [None if g is None else self._tensor(kept, name, g) for name, g in zip(like.names, row, strict=True)]
            )
        return Rows(found, like.names)

    def over(self, slots: Sequence[int | str], rows: Rows) -> Rows:
        """The kept tensors, as by ``rows``, in every parameter that one of the given rows reaches.

        Args:
            slots: one per row of the result.
            rows: one row at least.

        Example:
            >>> some = Rows([[torch.ones(2), None, None], [None, torch.ones(3), None]], ["a", "b", "c"])
            >>> [None if t is None else len(t) for t in Memory().over(["mean"], some).rows[0]]
            [2, 3, None]
        """
        reached = [next((g for g in column if g is not None), None) for column in zip(*rows.rows, strict=True)]
        return self.rows(slots, Rows([reached] * len(slots), rows.names))

    def blend(self, slots: Sequence[int | str], rows: Rows, keep: Sequence[float], add: Sequence[float]) -> Rows:
        """``m_i ← a_i m_i + b_i g_i``: the kept rows move towards the given ones.

        Args:
            slots: one per row.
            rows: g.
            keep: a, one number per row.
            add: b, one number per row.

        Returns:
            The kept tensors themselves, where g reaches.

        Example:
            >>> Memory().blend([0], Rows([[torch.tensor([4.0])]], ["w"]), [0.9], [0.1]).rows[0][0].item()
            0.4000000059604645
        """
        kept = self.rows(slots, rows)
        for own, row, a, b in zip(kept.rows, rows.rows, keep, add, strict=True):
            for tensor, gradient in zip(own, row, strict=True):
                if tensor is not None and gradient is not None:
                    tensor.mul_(a).add_(gradient, alpha=b)
        return kept

    def _tensor(self, kept: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
        tensor = kept.get(name)
        if tensor is None:
            tensor = torch.zeros(like.shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
        elif tensor.shape != like.shape:
            raise AccordError(
                f"parameter {name!r} has shape {tuple(like.shape)}, but gradients of shape {tuple(tensor.shape)} are "
                "kept for it; was the state saved with another model?"
            )
        if tensor.device != like.device:  # a loaded state waits on the CPU
            tensor = tensor.to(like.device)
        kept[name] = tensor
        return tensor

    def state_dict(self) -> dict[str, Any]:
        """Copies of the tensors, by slot and name."""
        return {slot: {name: t.clone() for name, t in kept.items()} for slot, kept in self._kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Args:
            state: tensors by slot and name.

        Raises:
            AccordError: if it is something else.
        """
        if not all(
            isinstance(kept, dict) and all(isinstance(t, Tensor) for t in kept.values()) for kept in state.values()
        ):
            raise AccordError("the state to load holds no kept gradients; was it saved by another method?")
        self._kept = {slot: {name: t.clone() for name, t in kept.items()} for slot, kept in state.items()}
