"""The Balancer's settings: which combinations can be, decided once at construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor

from accord import scale as scaling
from accord.blocks import Granularity
from accord.engines import ENGINES
from accord.errors import AccordError, nearest
from accord.methods import Aggregation, Method, Weighting

Heads = Literal["plain", "weighted"]
EngineName = Literal["auto", "stacked", "segmented", "features"]


def check(method: Method, scale: str, heads: str | None, engine: str) -> Heads:
    """Refuse what cannot be.

    Args:
        method: a method.
        scale: see ``scale.py``.
        heads: ``plain``, ``weighted``, or None for the method's own default.
        engine: ``auto`` or the name of an engine.

    Returns:
        How heads are treated.

    Raises:
        AccordError: for an unknown word, or words that exclude each other.
    """
    if not isinstance(method, Method):
        raise AccordError(f"method is {method!r}; expected a method such as accord.UPGrad(), or its spelling.")
    scaling.check(scale)
    if not method.needs_gramian and not method.plain:
        scaling.factor(scale, method.native_scale, 1)  # type: ignore[arg-type]  # refuses what would need the Gramian
    if heads is not None and heads not in get_args(Heads):
        raise AccordError(f"heads={heads!r} is not known.{nearest(str(heads), get_args(Heads))}")
    if engine != "auto" and engine not in ENGINES:
        raise AccordError(f"engine={engine!r} is not known.{nearest(str(engine), ['auto', *ENGINES])}")
    if (method.needs_gradients or method.needs_second_batch) and engine not in ("auto", "stacked"):
        raise AccordError(f"{method!r} reads whole gradients, which only engine='stacked' holds.")
    if isinstance(method, Aggregation):
        if heads == "weighted":
            raise AccordError(f"{method!r} has no weights, so heads='weighted' is not possible.")
        return "plain"
    if from_losses(method):
        if heads == "plain":
            raise AccordError(f"{method!r} weights whole losses, heads included; heads='plain' is not possible.")
        return "weighted"
    return heads or method.default_heads  # type: ignore[return-value]


def effective(method: Method, scale: scaling.Choice) -> scaling.Choice:
    """The scale that is computed: the plain sum is as long as itself, so it needs no Gramian to match that length.

    Args:
        method: a method.
        scale: what was asked for.
    """
    return "sum" if method.plain and scale == "match-norm" else scale


def from_losses(method: Method) -> bool:
    """Whether the weights come from the losses alone, so that one backward pass of the weighted losses is the step.

    Args:
        method: a method.
    """
    return not (method.needs_gramian or method.needs_gradients or method.needs_second_batch)


def check_blocks(
    method: Method,
    group: Granularity | Mapping[Tensor, str] | None,
    blocks: Granularity | Mapping[Tensor, str],
    engine: str,
    refresh: int,
    heads: Heads,
) -> None:
    """Refuse groups and intervals that cannot be.

    Args:
        method: a method.
        group: of the problems to solve.
        blocks: to measure.
        engine: ``auto`` or the name of an engine.
        refresh: how long weights are kept.
        heads: ``plain`` or ``weighted``.

    Raises:
        AccordError: for an unknown word, or words that exclude each other.
    """
    for name, value in (("group", group), ("blocks", blocks)):
        if not isinstance(value, Mapping) and value not in get_args(Granularity):
            raise AccordError(f"{name}={value!r} is not known.{nearest(str(value), get_args(Granularity))}")
    if not isinstance(refresh, int) or isinstance(refresh, bool) or refresh < 1:
        raise AccordError(f"refresh={refresh!r}, expected a whole number of steps, at least 1.")
    on_gramian = isinstance(method, Weighting) and method.needs_gramian
    beside = method.needs_gradients or method.needs_second_batch or method.needs_losses_after
    if refresh > 1 and (not on_gramian or beside):
        raise AccordError(
            f"refresh={refresh} keeps the weights of methods that read the Gramian alone; not {method!r}."
        )
    if group != "total":
        if blocks != "total":
            raise AccordError("group= decides in which blocks to measure; leave blocks= out, or set group='total'.")
        if not on_gramian or beside:
            raise AccordError(f"group={group!r} splits methods that read the Gramian alone; not {method!r}.")
        if engine not in ("auto", "stacked"):
            raise AccordError(f"group={group!r} needs all gradients at once, which only engine='stacked' holds.")
        if refresh > 1:
            raise AccordError("refresh= and group= exclude each other: weights by block need all gradients anyway.")
        if heads == "weighted":
            raise AccordError("group= gives a weight per block, so heads='weighted' is not possible.")


def check_batches(
    method: Method,
    losses: object,
    features: object,
    second: object,
    validation: object,
    accumulated: bool,
    engine: str = "auto",
    blockwise: bool = False,
) -> None:
    """Refuse arguments of ``backward`` that the method does not use, and miss those that it needs.

    Args:
        method: a method.
        losses: as given: a mapping or a function.
        features: as given, or None.
        second: as given, or None.
        validation: as given, or None.
        accumulated: this call is one of several micro-batches.
        engine: ``auto`` or the name of an engine.
        blockwise: the problem is solved block by block.

    Raises:
        AccordError: in either case.
    """
    if features is not None and not method.needs_gramian:
        raise AccordError(f"features= was given, but {method!r} reads no Gramian that could be taken there.")
    if second is not None and not method.needs_second_batch:
        raise AccordError(f"second= was given, but {method!r} uses one batch; leave it out.")
    if second is None and method.needs_second_batch:
        raise AccordError(
            f"{method!r} needs the losses of an independent batch: backward(losses, second=others), for example those "
            "of the two halves of each batch."
        )
    if (validation is not None) != method.needs_validation:
        need = "needs validation=, a function that computes the losses of a validation batch"
        raise AccordError(f"{method!r} {need if method.needs_validation else 'does not look at validation='}.")
    if validation is not None and not (callable(validation) and callable(losses)):
        raise AccordError(
            f"{method!r} computes losses several times: backward(compute, validation=validate) takes two functions."
        )
    if features is not None and blockwise:
        raise AccordError("group= needs all gradients at once, which features= avoids; leave one of them out.")
    if accumulated and engine == "features":
        raise AccordError(
            "accumulate=True holds gradients of the parameters, which engine='features' does not measure."
        )
    if accumulated and (features is not None or second is not None or validation is not None):
        raise AccordError("accumulate=True does not go together with features=, second= or validation=.")


def check_attached(losses: Mapping[str, Tensor]) -> None:
    """Refuse losses that would be weighted and then teach nothing.

    Args:
        losses: by task.

    Raises:
        AccordError: for one without a graph.
    """
    for name, loss in losses.items():
        if not loss.requires_grad:
            raise AccordError(
                f"loss {name!r} reaches no parameter: it does not require a gradient. Leave it out or mend it."
            )


def check_second(losses: Mapping[str, Tensor], others: Sequence[Mapping[str, Tensor]]) -> None:
    """Refuse other batches that are not of the same tasks.

    Args:
        losses: of the step.
        others: of independent batches.

    Raises:
        AccordError: for another number of batches, or other tasks.
    """
    if len(others) > 2:
        raise AccordError(f"second= has {len(others)} batches; give one, or a pair.")
    for other in others:
        if list(other) != list(losses):
            raise AccordError(f"second= has the tasks {list(other)}, expected {list(losses)} in this order.")
        if any(other[name] is losses[name] for name in losses):
            raise AccordError("second= holds the very losses of the step; it must be an independent batch.")


def check_closure(method: Method, heads: Heads, blockwise: bool, scaler: object) -> None:
    """Refuse a closure that would not return the function whose gradient it fills in.

    Args:
        method: a method.
        heads: ``plain`` or ``weighted``.
        blockwise: the problem is solved block by block.
        scaler: a GradScaler or None.

    Raises:
        AccordError: in that case.
    """
    whole = method.needs_gradients or method.needs_second_batch or method.needs_validation or method.needs_losses_after
    if not isinstance(method, Weighting) or whole or blockwise:
        raise AccordError(f"{method!r} is not the gradient of a weighted loss, so it cannot serve a line search.")
    if heads == "plain" and not method.plain:
        raise AccordError(
            "a line search needs the gradient of one function, Σ w_i L_i: make the Balancer with heads='weighted'."
        )
    if scaler is not None:
        raise AccordError("a GradScaler cannot step an optimiser with a closure; leave scaler= out.")


def check_state(state: Mapping[str, Any], own: Mapping[str, Any], equal: Sequence[str]) -> None:
    """Refuse a state that belongs to something else.

    Args:
        state: to be loaded.
        own: the present state, which has the same keys.
        equal: the keys that must agree.

    Raises:
        AccordError: for missing keys or other settings.
    """
    missing = sorted(set(own) - set(state))
    if missing:
        raise AccordError(f"this is no state of a Balancer: it lacks {', '.join(missing)}.")
    for name in equal:
        if state[name] != own[name]:
            raise AccordError(f"the state is of {name} {state[name]}, but this Balancer has {own[name]}.")
