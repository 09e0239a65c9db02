"""Which layers of a model carry adapters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from accord.errors import AccordError
from accord.sparse import patterns
from accord.sparse.adapters.kinds import Adapter
from accord.sparse.adapters.ranks import CONVOLUTIONS

TURNED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.MultiheadAttention, *CONVOLUTIONS, *TURNED)


def weights(layer: nn.Module) -> list[nn.Parameter]:
    """What an adapter works on."""
    inside = dict(layer.named_parameters())
    found = (inside.get(name) for name in ("weight", "in_proj_weight", "out_proj.weight"))
    return [part for part in found if part is not None]


def refuse_prepared(model: nn.Module) -> None:
    """A model is prepared for one kind of training only.

    Raises:
        AccordError: if it holds parametrised weights or adapters.
    """
    for name, module in model.named_modules():
        if nn.utils.parametrize.is_parametrized(module) or type(module).__module__.startswith("peft."):
            raise AccordError(f"{name or 'the model'} is a {type(module).__name__} already; expected a plain model.")


def chosen(
    model: nn.Module, adapter: Adapter, heads: set[int], targets: Sequence[str] | None
) -> tuple[dict[str, nn.Module], tuple[str, ...]]:
    """The layers to adapt, and the names of those that this kind cannot serve.

    Args:
        model: a plain model.
        adapter: the kind.
        heads: ``id`` of the parameters of heads; their layers are never adapted.
        targets: patterns; None for all.

    Raises:
        AccordError: for targets that do not exist or cannot be served, shared modules, and where nothing is left.
    """
    # The layers inside of attention are not called: attention reads their weights.
    inside = {id(part) for m in model.modules() if isinstance(m, nn.MultiheadAttention) for part in m.children()}
    known: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, LAYERS) and id(module) not in inside
        if not any(id(parameter) in heads for parameter in module.parameters())
    }
    patterns.check(targets or (), known, "targets=")
    wanted = [n for n in known if targets is None or any(patterns.matches(one, n) for one in targets)]
    left_out = tuple(name for name in wanted if not adapter.adapts(known[name]))
    if targets is not None and left_out:
        layer, kind = known[left_out[0]], type(adapter).__name__
        raise AccordError(f"targets= takes in {left_out[0]}, but peft has no {kind} for {layer!r}; leave it out.")
    layers = {name: known[name] for name in wanted if name not in left_out}
    if not layers or "" in layers:
        raise AccordError("no layer inside the model can be adapted; expected linear layers or convolutions in it.")
    seen: dict[int, str] = {}
    for name, layer in layers.items():
        first = seen.setdefault(id(layer), name)
        if first != name:
            raise AccordError(f"{first} and {name} are one module; peft would adapt one name only. See targets=.")
    return layers, left_out
