"""Fitness: what cannot be selected from is refused, with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from accord.errors import AccordError

WIDE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_model(model: nn.Module) -> None:
    """No module whose weights are no parameters, or have no shape yet.

    Raises:
        AccordError: for what is no module, or naming the first quantised module, or lazy parameter.
    """
    if not isinstance(model, nn.Module):
        raise AccordError(f"model is of type {type(model).__name__}; expected a torch.nn.Module.")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise AccordError(f"{name} has no shape yet; run one batch through the model, then select.")
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            raise AccordError(f"{name or 'the model'} is quantised ({type(module).__name__}) and cannot be trained; "
                              "select before quantisation.")  # fmt: skip


def check_values(name: str, parameter: Tensor, rows: bool) -> None:
    """A parameter that is to be trained has values that can change.

    Args:
        name: of the parameter.
        parameter: the parameter.
        rows: whether single scalars of it are to be trained.

    Raises:
        AccordError: for one that is quantised, complex, sparse, or spread over processes.
    """
    if parameter.is_complex():
        if rows:
            raise AccordError(f"{name} is complex; say overrides={{{name!r}: 'whole'}} (or 'frozen').")
        return
    check_type(name, parameter)
    if rows and parameter.layout != torch.strided:
        raise AccordError(f"{name} is stored as {parameter.layout}; make it dense, or say overrides={{{name!r}: "
                          "'whole'}.")  # fmt: skip
    if rows and hasattr(parameter, "device_mesh"):
        raise AccordError(f"{name} is spread over processes (DTensor); select before the model is sharded.")


def check_type(name: str, parameter: Tensor) -> None:
    """A type of number that an optimiser can change.

    Raises:
        AccordError: for quantised parameters.
    """
    if parameter.is_quantized or parameter.dtype not in (*WIDE, torch.complex64, torch.complex128):
        raise AccordError(f"{name} is quantised ({parameter.dtype}) and cannot be trained; select before quantisation, "
                          f"or say overrides={{{name!r}: 'frozen'}}.")  # fmt: skip


def check_apart(rows: Sequence[tuple[str, Tensor]], all_parts: Sequence[tuple[str, Tensor]]) -> None:
    """No two parameters in the same memory: then each would have its own selection of one weight.

    Args:
        rows: names and parameters that are selected from.
        all_parts: all of them.

    Raises:
        AccordError: naming the first two.
    """
    at: dict[int, str] = {}
    selected = {name for name, _ in rows}
    for name, parameter in all_parts:
        if parameter.is_meta or parameter.layout != torch.strided:
            continue
        if not parameter.numel() or hasattr(parameter, "device_mesh"):
            continue
        other = at.setdefault(parameter.data_ptr(), name)
        if other != name and selected & {name, other}:
            raise AccordError(f"{other} and {name} are two parameters in the same memory; tie them by one parameter, "
                              f"or say overrides={{{other!r}: 'frozen', {name!r}: 'frozen'}}.")  # fmt: skip


def check_there(name: str, parameter: Tensor) -> None:
    """Values at all.

    Raises:
        AccordError: on the device meta.
    """
    if parameter.is_meta:
        raise AccordError(f"{name} has no values (device meta); load the model first. Counts need none: count(...).")


def check_finite(name: str, parameter: Tensor) -> None:
    """Values that can be compared.

    Raises:
        AccordError: without values (device meta), or with NaN or infinity among them.
    """
    check_there(name, parameter)
    if not torch.isfinite(parameter.detach()).all():
        raise AccordError(f"{name} holds NaN or infinity; a selection by magnitude would mean nothing.")
