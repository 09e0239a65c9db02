"""Mask: what is trained, what is not, and the proof that it is the same mask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from accord.errors import AccordError
from accord.sparse.selection import Columns, Flat, Rows, Selection, narrow

FORMS: dict[str, type[Selection]] = {"Rows": Rows, "Flat": Flat, "Columns": Columns}
LISTS = ("whole", "frozen", "heads")


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """The trained scalars of a model, made by ``select``.

    Args:
        rule: spelling of the rule that chose.
        selections: by parameter, the trained places of those of which some scalars are trained.
        whole: shared parameters that are trained whole.
        frozen: shared parameters that are not trained.
        heads: parameters of single tasks, trained whole.
        shapes: of all parameters.
        origin: SHA-256 of the shared parameters when the mask was made: names, shapes and values.

    Example:
        >>> from accord.sparse import PSN, select
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> select(net, PSN(k=1), heads="1")
        Mask(PSN(k=1): 14 of 23 trained, 6 of 15 shared)
    """

    rule: str
    selections: Mapping[str, Selection] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    shapes: Mapping[str, torch.Size] = field(default_factory=dict)
    origin: str = ""

    @property
    def total(self) -> int:
        """Scalars of the model."""
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def shared(self) -> int:
        """Scalars outside the heads, P."""
        return self.total - self._numel(self.heads)

    @cached_property
    def selected(self) -> int:
        """Trained scalars outside the heads, S."""
        return sum(count(s, self.shapes[name]) for name, s in self.selections.items()) + self._numel(self.whole)

    @property
    def trainable(self) -> int:
        """Trained scalars, heads included."""
        return self.selected + self._numel(self.heads)

    @property
    def density(self) -> float:
        """Trained share of what is shared, S / P; 0 where nothing is shared."""
        return self.selected / self.shared if self.shared else 0.0

    def _numel(self, names: tuple[str, ...]) -> int:
        return sum(self.shapes[name].numel() for name in names)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what is trained: shapes, treatments and places. Neither device, nor index type, nor rule enter."""
        found = hashlib.sha256()
        treatments = {name: treatment for treatment in LISTS for name in getattr(self, treatment)}
        for name, shape in sorted(self.shapes.items()):
            selection = self.selections.get(name)
            how = treatments.get(name, "") if selection is None else _form(selection)
            found.update(json.dumps([name, list(shape), how]).encode())
            if selection is not None:
                index = narrow(selection.index.detach().cpu(), _bound(selection, shape))
                found.update(index.contiguous().numpy().astype(f"<i{index.element_size()}", copy=False).tobytes())
        return found.hexdigest()

    def to(self, device: torch.device | str) -> Self:
        """The same mask with its places on another device."""
        return replace(self, selections={name: s.to(device) for name, s in self.selections.items()})

    def describe(self) -> str:
        """A table with a line per parameter: treatment, rows, inputs per row, trained per row, trained, share."""
        lines = [("parameter", "treatment", "rows", "fan_in", "k", "trained", "share")]
        treatments = {name: treatment for treatment in LISTS for name in getattr(self, treatment)}
        treatments |= dict.fromkeys(self.selections, "selected")
        for name, shape in self.shapes.items():
            treatment, size = treatments[name].removesuffix("s"), shape.numel()
            trained = {"frozen": 0, "selected": 0}.get(treatment, size)
            if treatment == "selected":
                trained = count(self.selections[name], shape)
            rows = shape[0] if shape else 1
            fan_in, k = (size // rows, trained / rows) if rows else (0, 0.0)
            numbers = (f"{rows}", f"{fan_in}", f"{k:g}" if k == int(k) else f"{k:.1f}", f"{trained}")
            lines.append((name, treatment, *numbers, f"{trained / size:.3f}" if size else "-"))
        share = self.trainable / self.total if self.total else 0.0
        lines.append(("(all)", "", "", "", "", f"{self.trainable}", f"{share:.3f}"))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = [
            "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        return "\n".join(line.rstrip() for line in text)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, texts and lists that make the mask again; see ``from_state``."""
        return {
            "rule": self.rule,
            "origin": self.origin,
            "hash": self.hash,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "forms": {name: _form(s) for name, s in self.selections.items()},
            "indices": {name: s.index for name, s in self.selections.items()},
            **{treatment: list(getattr(self, treatment)) for treatment in LISTS},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Mask:
        """The mask of a ``state_dict``.

        Raises:
            AccordError: if parts are missing, places are outside their parameter, or the hash says otherwise.
        """
        missing = {"rule", "origin", "hash", "shapes", "forms", "indices", *LISTS} - set(state)
        if missing:
            raise AccordError(f"the state of the mask lacks {', '.join(sorted(missing))}; take one from state_dict().")
        if set(state["forms"]) != set(state["indices"]):
            raise AccordError(
                "the state of the mask is damaged: its places and their forms do not have the same names."
            )
        mask = cls(
            rule=state["rule"],
            selections={name: _selection(form, state["indices"][name]) for name, form in state["forms"].items()},
            whole=tuple(state["whole"]),
            frozen=tuple(state["frozen"]),
            heads=tuple(state["heads"]),
            shapes={name: torch.Size(shape) for name, shape in state["shapes"].items()},
            origin=state["origin"],
        )
        for name, selection in mask.selections.items():
            _check(name, selection, mask.shapes.get(name))
        if mask.hash != state["hash"]:
            raise AccordError("the mask is not the one that was saved: its hash differs. The file or state is damaged.")
        return mask

    def __repr__(self) -> str:
        trained = f"{self.trainable:,} of {self.total:,} trained, {self.selected:,} of {self.shared:,} shared"
        return f"Mask({self.rule}: {trained})"


def count(selection: Selection, shape: torch.Size) -> int:
    """How many scalars of a parameter are selected.

    Example:
        >>> count(Columns(torch.tensor([[0, 2], [1, 2]]), group=2), torch.Size([3, 4]))
        6
    """
    return shape[0] * selection.index.shape[1] if isinstance(selection, Columns) else selection.index.numel()


def _form(selection: Selection) -> list[Any]:
    """The kind of a selection, and the rows of a group."""
    return [type(selection).__name__, getattr(selection, "group", 1)]


def _selection(form: list[Any], index: Tensor) -> Selection:
    name, group = form
    if name not in FORMS:
        raise AccordError(f"the state of the mask holds a selection {name!r}; this version knows {', '.join(FORMS)}.")
    return Columns(index, group) if name == "Columns" else FORMS[name](index)


def _bound(selection: Selection, shape: torch.Size) -> int:
    """Places below which an index stays."""
    return shape.numel() if isinstance(selection, Flat) else shape.numel() // max(1, shape[0])


def _check(name: str, selection: Selection, shape: torch.Size | None) -> None:
    """Places inside the parameter, ascending, and as many rows as it has."""
    index = selection.index.long()
    wrong = shape is None or not shape
    if not wrong and shape is not None:
        flat = isinstance(selection, Flat)
        rows = -(-shape[0] // selection.group) if isinstance(selection, Columns) else shape[0]
        wrong = index.ndim != (1 if flat else 2) or (not flat and len(index) != rows)
        wrong = wrong or bool(((index < 0) | (index >= _bound(selection, shape))).any())
        wrong = wrong or bool((index.diff(dim=-1) <= 0).any())
    if wrong:
        raise AccordError(f"the places of {name} in the mask do not fit a parameter of shape "
                          f"{None if shape is None else tuple(shape)}; the file or state is damaged.")  # fmt: skip
