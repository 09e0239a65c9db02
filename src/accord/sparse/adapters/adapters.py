"""Adapters: LoRA and IA3 through the package ``peft``, the baselines of sparse training at equal trained scalars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from accord.errors import AccordError, nearest
from accord.sparse import patterns
from accord.sparse.adapters.attention import adapters_are_seen, put_back
from accord.sparse.adapters.kinds import ADAPTERS, Adapter, LoRA, peft_package
from accord.sparse.adapters.layers import chosen, refuse_prepared, weights
from accord.sparse.owners import owners
from accord.spelling import parse_among

Wanted = Iterable[str | Tensor]


class Matched(Protocol):
    """What ``Adapters.match`` reads of a ``Mask``."""

    @property
    def trainable(self) -> int:
        """How many scalars are trained, heads and whole tensors included."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Parameters of the tasks' own."""

    @property
    def whole(self) -> tuple[str, ...]:
        """Shared parameters that are trained whole."""


class Adapters:
    """Freezes a model and trains adapters in its layers, its heads, and its biases.

    The layers are replaced in place: ``X.weight`` becomes ``X.base_layer.weight``. Every engine and method of a
    Balancer works as before, on the trained scalars alone.

    Args:
        model: the model.
        adapter: ``LoRA(rank=8)``, ``LoRA(budget=25_000)``, ``IA3()``, or their spelling.
        heads: names or prefixes of the tasks' own parameters, as for ``SparseTraining``, or these themselves; trained
            whole, never adapted.
        targets: patterns (``qkv``, ``blocks.*.fc1``) of the layers to adapt; default all that can be.
        biases: ``whole``: biases are trained as with a mask (those of norm layers are not); or ``frozen``.
        whole: patterns of further parameters that are trained whole, or these themselves.
        seed: of the adapters' initial values; the global generator is left alone.

    Attributes:
        trainable: how many scalars are trained, heads included; ``total``: how many the model had.
        difference: ``trainable - budget``, 0 without a budget.
        left_out: layers with a weight that this kind of adapter cannot serve; they stay frozen.

    Raises:
        AccordError: without ``peft``, for patterns that match nothing, for layers that cannot be adapted.

    Example:
        >>> model = nn.ModuleDict({"trunk": nn.Linear(6, 4), "head": nn.Linear(4, 1)})
        >>> Adapters(model, "LoRA(rank=2)", heads=["head"])
        Adapters(LoRA(rank=2), trainable=29, total=33)
    """

    def __init__(
        self,
        model: nn.Module,
        adapter: Adapter | str = "LoRA(rank=8)",
        *,
        heads: Wanted = (),
        targets: Sequence[str] | None = None,
        biases: str = "whole",
        whole: Wanted = (),
        seed: int = 0,
    ) -> None:
        self.model = model
        self.adapter = parse_among(ADAPTERS, adapter, "adapter", "argument") if isinstance(adapter, str) else adapter
        if biases not in ("whole", "frozen"):
            raise AccordError(f"biases={biases!r}, expected 'whole' or 'frozen'.{nearest(biases, ('whole', 'frozen'))}")
        peft_package()
        refuse_prepared(model)
        self.total = sum(p.numel() for p in model.parameters())
        own = _among(model, heads, "heads=", patterns.is_head)
        trained = own + _among(model, whole, "whole=") + (_biases(model) if biases == "whole" else [])
        trained = list({id(p): p for p in trained}.values())
        layers, self.left_out = chosen(model, self.adapter, {id(p) for p in own}, targets)
        for name, layer in layers.items():
            if {id(p) for p in weights(layer)} & {id(p) for p in trained}:
                raise AccordError(f"{name} would be trained whole and adapted; take it out of whole= or targets=.")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._tuner = self.adapter.inject(model, layers, sum(p.numel() for p in trained))
        put_back(model)
        self._undo = adapters_are_seen(model)
        for parameter in trained:
            parameter.requires_grad_(True)
        self.trainable = sum(p.numel() for p in self.parameters())
        budget = getattr(self.adapter, "budget", None)
        self.difference = 0 if budget is None else self.trainable - budget

    @classmethod
    def match(
        cls, model: nn.Module, mask: Matched, *, scale: float = 1.0, targets: Sequence[str] | None = None, seed: int = 0
    ) -> Self:
        """LoRA with as many trained scalars as a mask, up to half a rank of one layer.

        Heads, and what else the mask trains whole, are trained whole here too; adapters take the place of rows.

        Args:
            model: a model as the mask was made for, not yet prepared for any training.
            mask: gives the budget.
            scale: see ``LoRA``.
            targets: see ``Adapters``.
            seed: see ``Adapters``.

        Raises:
            AccordError: as ``Adapters``; and for a mask of another model.
        """
        parameters = dict(model.named_parameters())
        missing = [name for name in (*mask.heads, *mask.whole) if name not in parameters]
        if missing:
            raise AccordError(f"the mask has {missing[0]}, the model has not.{nearest(missing[0], parameters)}")
        adapter = LoRA(budget=mask.trainable, scale=scale)
        heads = [parameters[name] for name in mask.heads]
        layers, _ = chosen(model, adapter, {id(p) for p in heads}, targets)
        adapted = {id(p) for layer in layers.values() for p in weights(layer)}
        whole = [parameters[name] for name in mask.whole if id(parameters[name]) not in adapted]
        return cls(model, adapter, heads=heads, targets=targets, biases="frozen", whole=whole, seed=seed)

    def __repr__(self) -> str:
        return f"Adapters({self.adapter!r}, trainable={self.trainable:,}, total={self.total:,}{self._missed()})"

    def _missed(self) -> str:
        return f", {abs(self.difference):,} {'over' if self.difference > 0 else 'under'} budget" * bool(self.difference)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, with its names in the model."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, for the optimiser."""
        return [p for _, p in self.named_parameters()]

    def state_dict(self) -> dict[str, Any]:
        """The trained values by name, and the adapters' spelling."""
        return {"adapter": repr(self.adapter), "values": {n: p.detach().clone() for n, p in self.named_parameters()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put trained values back.

        Raises:
            AccordError: if they belong to other adapters or another model.
        """
        values: Mapping[str, Tensor] = state["values"]
        mine = dict(self.named_parameters())
        shapes = {n: tuple(p.shape) for n, p in mine.items()}, {n: tuple(v.shape) for n, v in values.items()}
        if state["adapter"] != repr(self.adapter) or shapes[0] != shapes[1]:
            odd = sorted(n for n in {*mine, *values} if shapes[0].get(n) != shapes[1].get(n))
            where = f", which differs in {odd[0]}" if odd else ""
            raise AccordError(f"the state is of {state['adapter']}{where}; expected that of {self.adapter!r}.")
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(values[name])

    def merge(self) -> nn.Module:
        """Work the adapters into the weights; the model has its plain layers again."""
        merged: nn.Module = self._tuner.merge_and_unload()  # type: ignore[operator]
        for undo in self._undo:
            undo()
        self._undo = []
        return merged


def _among(
    model: nn.Module, wanted: Wanted, argument: str, means: Callable[[str, str], bool] = patterns.matches
) -> list[nn.Parameter]:
    """The parameters themselves, and those that patterns name."""
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    texts = [one for one in wanted if isinstance(one, str)]
    named = dict(model.named_parameters())
    patterns.check(texts, named, argument, means)
    ids = {id(one) for one in wanted}
    return [p for name, p in named.items() if id(p) in ids or any(means(text, name) for text in texts)]


def _biases(model: nn.Module) -> list[nn.Parameter]:
    """Those that a mask trains whole."""
    return [o.parameter for o in owners(model) if o.role == "bias" and isinstance(o.parameter, nn.Parameter)]
