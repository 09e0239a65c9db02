"""Choose: which modules the names of layers mean, and which of them cannot be had."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import nn
from torch.nn.utils import parametrize

from accord.errors import AccordError, nearest
from accord.sharing import inside


def find(model: nn.Module, layers: str | Iterable[str], tasks: Sequence[str] = ()) -> tuple[str, ...]:
    """The modules that are meant, in the order of the model.

    Args:
        model: the model.
        layers: names of modules, or patterns in which ``*`` stands for one part of a name: ``encoder.*.norm1``. A
            pattern passes over modules without parameters.
        tasks: K names; where modules of all these names stand side by side, they are heads.

    Raises:
        AccordError: for a name or pattern that means nothing, modules without parameters, one inside another, a head,
            one that shares parameters with the rest of the model, a parametrised one, and one within a compiled one.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> find(model, "*")
        ('0', '2')
    """
    named = dict(model.named_modules(remove_duplicate=False))
    chosen: set[str] = set()
    for item in [layers] if isinstance(layers, str) else layers:
        chosen.update(_meant(item, named))
    if not chosen:
        raise AccordError("layers= names no layer; name at least one that is to become task-specific.")
    found = tuple(name for name in named if name in chosen)
    for name in found:
        _check(name, named, found, tasks)
    _refuse_tied(model, found)
    return found


def head_of(name: str, named: Mapping[str, nn.Module], tasks: Sequence[str]) -> str | None:
    """The task that a module serves by its name: where one for each task stand side by side, as in a ``ModuleDict``.

    Example:
        >>> net = nn.ModuleDict({"body": nn.Linear(2, 2), "heads": nn.ModuleDict({t: nn.Linear(2, 1) for t in "ab"})})
        >>> head_of("heads.a", dict(net.named_modules()), ["a", "b"])
        'a'
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part in tasks and set(tasks) <= named[".".join(parts[:i])]._modules.keys():
            return part
    return None


def _meant(item: str, named: dict[str, nn.Module]) -> list[str]:
    item = item.rstrip(".")
    if "*" in item:
        pattern = re.compile(re.escape(item).replace(r"\*", r"[^.]*"))
        found = [name for name in named if name and pattern.fullmatch(name) and _sized(named[name])]
    else:
        found = [item] if item and item in named else []
    if found:
        return found
    if not item:
        raise AccordError("the whole model is no layer of itself: name its parts, or train a model for each task.")
    hint = nearest(item, [name for name in named if name])
    if not hint.startswith(" Did"):  # a large model has too many names to list
        hint = f" Its parts: {', '.join(dict.fromkeys(name.split('.')[0] for name in named if name)) or 'none'}."
    raise AccordError(f"layers={item!r} means no module of the model{' with parameters' * ('*' in item)}.{hint}")


def _sized(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _check(name: str, named: dict[str, nn.Module], found: Sequence[str], tasks: Sequence[str]) -> None:
    layer = named[name]
    if not _sized(layer):
        raise AccordError(f"layer {name!r} has no parameters, so there is nothing to copy. Leave it out.")
    outer = [other for other in found if other != name and inside(name, [other])]
    if outer:
        raise AccordError(f"layer {name!r} is part of {outer[0]!r}, which is chosen too. Keep one of them.")
    task = head_of(name, named, tasks)
    if task is not None:
        raise AccordError(f"layer {name!r} belongs to the task {task!r} already: it is a head. Leave it out.")
    if all(head_of(f"{name}.{inner}", named, tasks) for inner, _ in layer.named_parameters()):
        raise AccordError(f"layer {name!r} holds nothing but heads, which belong to one task each. Leave it out.")
    if any(parametrize.is_parametrized(part) for part in layer.modules()):
        raise AccordError(
            f"layer {name!r} is parametrised (a sparse layer, weight norm): merge that first, then make the layer "
            "task-specific, and parametrise its copies."
        )
    parts = name.split(".")
    above = [named[".".join(parts[:i])] for i in range(len(parts))]
    if any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in above):
        raise AccordError(f"layer {name!r} lies within a compiled module: make it task-specific first, then compile.")


def _refuse_tied(model: nn.Module, found: Sequence[str]) -> None:
    """Refuse chosen layers whose parameters have names elsewhere too."""
    where: dict[int, str] = {}
    names = [(name, p) for name, p in model.named_parameters(remove_duplicate=False)]
    owner = {name: next((layer for layer in found if inside(name, [layer])), "") for name, _ in names}
    for name, p in names:
        other = where.setdefault(id(p), name)
        if owner[name] != owner[other]:
            raise AccordError(
                f"{name!r} and {other!r} are the same tensor: a copy of one for each task would untie them. Untie them "
                "first, or choose a layer that holds both."
            )
