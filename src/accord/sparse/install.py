"""Putting ``Placed`` into a model, and taking it out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from accord.errors import AccordError, nearest
from accord.sparse.placed import Placed
from accord.sparse.selection import Selection
from accord.sparse.structured import fits, structure

User = tuple[nn.Module, str]


@dataclass(frozen=True)
class Site:
    """A weight of which some scalars are trained.

    Args:
        placed: its parametrisation.
        dense: the weight.
        users: the modules that use it, with its name there.
        order: the names of each user's parameters, as they were.
    """

    placed: Placed
    dense: Tensor
    users: tuple[User, ...]
    order: tuple[tuple[str, ...], ...]


def install(model: nn.Module, selections: Mapping[str, Selection]) -> dict[str, Site]:
    """Parametrise the named weights. A tied one has one set of values, whoever uses it.

    Args:
        model: is changed.
        selections: by parameter name.

    Returns:
        For each name what was put there.

    Raises:
        AccordError: for a name that the model has not.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    users: dict[Tensor, list[User]] = {}  # several for a tied parameter
    for module in model.modules():
        for own, p in module.named_parameters(recurse=False, remove_duplicate=False):
            users.setdefault(p, []).append((module, own))
    orders = {module: tuple(module._parameters) for module in model.modules()}
    done: dict[str, Site] = {}
    for name, selection in selections.items():
        if name not in named:
            hint = nearest(name, named)
            raise AccordError(f"the mask selects in {name!r}, which is no parameter of the model.{hint}")
        dense = named[name].requires_grad_(False)
        placed = Placed(dense, selection.to(dense.device))
        for module, attribute in users[dense]:
            if isinstance(module, nn.RNNBase) and not parametrize.is_parametrized(module):
                module.register_forward_hook(_restore, always_call=True)
            parametrize.register_parametrization(module, attribute, placed, unsafe=True)
            if not fits(module, attribute, placed):
                structure(module)
        used = tuple(users[dense])
        done[name] = Site(placed, dense, used, tuple(orders[module] for module, _ in used))
    return done


def remove(site: Site) -> None:
    """The weight is an ordinary parameter again, the same object as before, with the values in it.

    Args:
        site: what ``install`` gave.
    """
    site.placed.write(site.dense)
    for (module, attribute), order in zip(site.users, site.order, strict=True):
        _unparametrize(module, attribute)
        now = module._parameters
        for name in [*(n for n in order if n in now), *(n for n in list(now) if n not in order)]:
            now[name] = now.pop(name)
        if isinstance(module, nn.RNNBase):
            if not parametrize.is_parametrized(module):
                hooks = module._forward_hooks
                for key in [k for k, hook in hooks.items() if hook is _restore]:
                    del hooks[key]
                    module._forward_hooks_always_called.pop(key, None)
            module._init_flat_weights()


def _unparametrize(module: nn.Module, attribute: str) -> None:
    """As ``remove_parametrizations``, but that of PyTorch changes the class, which copies of the module share."""
    lists, kind = module.parametrizations, type(module)
    assert isinstance(lists, nn.ModuleDict)
    original = lists[attribute].original
    del lists[attribute]
    if len(lists):
        own = {key: value for key, value in vars(kind).items() if key not in (attribute, "__dict__", "__weakref__")}
        module.__class__ = type(kind.__name__, kind.__bases__, own)
    else:
        del module.parametrizations
        module.__class__ = kind.__bases__[0]
    module.register_parameter(attribute, cast(nn.Parameter, original))


def _restore(module: nn.Module, *_: Any) -> None:
    """RNNs keep the weights of the last pass in a list, with their graph; deepcopy would stumble over them."""
    module._flat_weights = [_leaf(module, name) for name in module._flat_weights_names]  # type: ignore[assignment, union-attr]


def _leaf(module: nn.Module, name: str) -> Any:
    if parametrize.is_parametrized(module, name):
        return module.parametrizations[name].original  # type: ignore[index, union-attr]
    return getattr(module, name, None)
