"""Calling a method by itself: the one place where its input is checked, cleaned and brought to numpy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord import inner
from accord.errors import AccordError
from accord.linalg.scaling import EPSILON
from accord.methods.method import Aggregation, Array, Context, Elementwise, Method, Weighting
from accord.randomness import generator as on_device
from accord.rows import Rows


def call(
    method: Weighting,
    gramian: Tensor | None,
    losses: Tensor | None,
    gradients: Tensor | None = None,
    cross: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The native weights of a method, on the device and in the dtype of its first input.

    Args:
        method: any weighting.
        gramian: (K, K) or None.
        losses: (K,) or None.
        gradients: (K, ...) or None; then the Gramian is theirs.
        cross: (K, K) or None.
        generator: on the CPU; by default torch's global one.

    Returns:
        (K,) weights, 0 for tasks whose gradient is zero or not finite.

    Raises:
        AccordError: on a missing or wrongly shaped argument.

    Example:
        >>> from accord.methods import Mean
        >>> call(Mean(), None, torch.tensor([3.0, 4.0])).tolist()
        [0.5, 0.5]
    """
    if method.needs_validation:
        raise AccordError(f"{method!r} looks at other parameters than the present ones; use it in a Balancer.")
    if gradients is not None:
        gradients = _gradients(gradients)
        if gramian is not None:
            raise AccordError("gradients and gramian were both given; give one of them.")
        gramian = _seen(gradients, method.needs_gramian).to(gradients.dtype)
    like = _check(method, gramian, losses, gradients, cross, generator)
    total = len(like)
    products = None if gramian is None else _products(gramian) if gradients is None else _numpy(gramian)
    values = None if losses is None else _numpy(losses)
    pairs = None if cross is None else _numpy(cross)
    seen = products
    if pairs is not None:  # a gradient of the second batch may be broken alone
        seen = np.where(np.isfinite(pairs), 1.0 if products is None else products, np.nan)
    active = active_tasks(seen, values)
    weights = np.zeros(total)
    if not len(active):
        method.report("stationary", "no task has a finite, non-zero gradient; the direction is zero")
    else:
        context = Context(
            active,
            total,
            generator or torch.default_generator,
            accuracy(like.dtype, total),
            rows=None if gradients is None else _rows(gradients, active),
            cross=_among(pairs, active),
        )
        own = method.solve(
            _among(products, active) if method.needs_gramian else None, _among(values, active), context
        )  # (k,)
        weights[active] = method.finish(own, context)
    return torch.as_tensor(weights).to(device=like.device, dtype=like.dtype)  # (K,)


def aggregate(
    method: Aggregation, gradients: Tensor, losses: Tensor | None, generator: torch.Generator | None = None
) -> Tensor:
    """The combined gradient of a method that combines whole gradients.

    Args:
        method: any aggregation.
        gradients: (K, ...).
        losses: (K,) or None.
        generator: on the CPU; by default torch's global one.

    Returns:
        (...), in the dtype of the gradients; zero if no task is left.

    Raises:
        AccordError: on a missing or wrongly shaped argument.

    Example:
        >>> from accord.methods import GradDrop
        >>> aggregate(GradDrop(leak=1.0), torch.ones(2, 3), None).tolist()
        [2.0, 2.0, 2.0]
    """
    if method.needs_validation:
        raise AccordError(f"{method!r} looks at other parameters than the present ones; use it in a Balancer.")
    gradients = _gradients(gradients)
    gramian = _seen(gradients, not isinstance(method, Elementwise))
    _check(method, gramian, losses, gradients, None, generator)
    products, values = _numpy(gramian), None if losses is None else _numpy(losses)
    active = active_tasks(products, values)
    if not len(active):
        method.report("stationary", "no task has a finite, non-zero gradient; the direction is zero")
        return torch.zeros_like(gradients[0])
    epsilon = EPSILON if gradients.dtype == torch.float64 else 1.2e-7  # the Gramian itself was not rounded
    context = Context(active, len(gradients), generator or torch.default_generator, epsilon)
    if isinstance(method, Elementwise):  # its rows are stacked already
        present = gradients if len(active) == len(gradients) else gradients[torch.from_numpy(active)]  # (k, ...)
        return method.reduce(present, on_device(gradients.device, context.generator))
    among = _among(products, active)
    assert among is not None
    (combined,) = method.combine(_rows(gradients, active), among, _among(values, active), context)
    assert combined is not None
    return combined.to(gradients.dtype)


def corrected(method: Weighting, gramian: Tensor | Array, generator: torch.Generator | None = None) -> Array:
    """What a method makes of each gradient, as coefficients.

    Args:
        method: a weighting with ``correct``.
        gramian: (..., K, K).
        generator: on the CPU; by default torch's global one.

    Returns:
        (..., K, K) float64; zero for tasks whose gradient is zero or not finite.

    Raises:
        AccordError: on a wrong shape, or for a method that corrects no gradient.

    Example:
        >>> from accord.methods import PCGrad
        >>> corrected(PCGrad(), torch.tensor([[1.0, -0.5], [-0.5, 1.0]])).tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    epsilon = EPSILON
    if isinstance(gramian, Tensor):
        epsilon = accuracy(gramian.dtype, gramian.shape[-1] if gramian.ndim else 1)
        gramian = _numpy(gramian)
    full = np.asarray(gramian, dtype=np.float64)
    if full.ndim < 2 or full.shape[-1] != full.shape[-2]:
        raise AccordError(f"the Gramian has shape {full.shape}, expected (..., K, K).")
    coefficients = np.zeros(full.shape)
    for at in np.ndindex(*full.shape[:-2]):
        products = _products(torch.from_numpy(full[at]))
        active = active_tasks(products)
        if len(active):
            among = products[np.ix_(active, active)]
            context = Context(active, len(products), generator or torch.default_generator, epsilon)
            coefficients[at][np.ix_(active, active)] = method.correct(among, context)
    return coefficients


def active_tasks(gramian: Array | None, losses: Array | None = None) -> NDArray[np.intp]:
    """The tasks with a finite loss and a finite gradient of more than 1e-12 times the largest norm.

    A NaN in one task's gradient spoils a row and a column of the Gramian, so the diagonal decides first; a pair whose
    inner product alone is not finite is no pair of a Gramian, and both leave.

    Args:
        gramian: (K, K) or None, symmetric.
        losses: (K,) or None.

    Returns:
        (k,) int columns.

    Example:
        >>> active_tasks(np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, np.nan], [0.0, np.nan, 0.0]])).tolist()
        [0]
    """
    if gramian is not None and losses is None and np.isfinite(gramian).all():  # the usual case, in fewer calls
        squares = gramian.diagonal()
        if squares.min() > 1e-24 * squares.max():
            return np.arange(len(gramian))
    count = len(gramian) if gramian is not None else 0 if losses is None else len(losses)
    good = np.ones(count, dtype=bool) if losses is None else np.isfinite(losses)
    if gramian is not None:
        squares = gramian.diagonal()
        good &= np.isfinite(squares)
        good &= np.isfinite(gramian[:, good]).all(1)
        good &= squares > 1e-24 * squares.max(where=good, initial=0.0)
    return np.flatnonzero(good)


def accuracy(dtype: torch.dtype, total: int) -> float:
    """How far to trust the entries of a Gramian that somebody else computed.

    Args:
        dtype: of the Gramian.
        total: K.

    Example:
        >>> accuracy(torch.float64, 3), f"{accuracy(torch.float32, 3):.1e}"
        (1e-10, '3.6e-07')
    """
    return EPSILON if dtype == torch.float64 else total * float(torch.finfo(dtype).eps)


def _numpy(tensor: Tensor) -> Array:
    """In float64 on the CPU."""
    return tensor.detach().to(device="cpu", dtype=torch.float64).numpy()


def _products(gramian: Tensor) -> Array:
    """The Gramian, made exactly symmetric; a negative square or two products for one pair is refused."""
    array = _numpy(gramian)  # (K, K)
    squares = array.diagonal()
    if (array == array.T).all() and squares.min() >= 0:  # nothing to mend
        return array.copy()  # the tensor is the caller's
    if (squares < 0).any():
        raise AccordError(f"the Gramian has {squares.min():g} on its diagonal, expected squared norms.")
    finite = np.flatnonzero(np.isfinite(squares))
    inner = array[np.ix_(finite, finite)]
    norms = np.sqrt(squares[finite])
    with np.errstate(invalid="ignore"):  # an infinite product of two finite rows is dropped later, by name
        if (np.abs(inner - inner.T) > 0.1 * norms[:, None] * norms).any():
            raise AccordError("the Gramian is not symmetric; expected the inner products of the task gradients.")
        return (array + array.T) / 2


def _seen(gradients: Tensor, products: bool) -> Tensor:
    """(K, K), their inner products or, if nobody reads these, only the squares, which say whose gradient is broken."""
    return inner.gramian(gradients) if products else inner.squares(gradients).diag()


def _among(array: Array | None, active: NDArray[np.intp]) -> Array | None:
    """What belongs to the active tasks: (k, k) of (K, K), (k,) of (K,)."""
    if array is None or len(active) == len(array):
        return array
    return array[active] if array.ndim == 1 else array[active[:, None], active]


def _rows(gradients: Tensor, active: NDArray[np.intp]) -> Rows:
    """The rows of the active tasks; their only parameter has no name."""
    rows = gradients.unbind()
    return Rows([[rows[i]] for i in active.tolist()], [""])


def _gradients(gradients: Tensor) -> Tensor:
    """Refuse what is no tensor (K, ...); without its graph."""
    tensor = isinstance(gradients, Tensor)
    if not tensor or not gradients.is_floating_point() or gradients.ndim < 2 or not len(gradients):
        found = f"{gradients.dtype} {tuple(gradients.shape)}" if tensor else repr(gradients)
        raise AccordError(f"gradients is {found}, expected a real floating-point tensor (K, P) with K >= 1.")
    return gradients.detach()


def _check(
    method: Method,
    gramian: Tensor | None,
    losses: Tensor | None,
    gradients: Tensor | None,
    cross: Tensor | None,
    generator: torch.Generator | None,
) -> Tensor:
    """Refuse what cannot be the input of this method; the tensor that says how many tasks there are."""
    if gradients is None and method.needs_gradients:
        raise AccordError(f"{method!r} reads the task gradients themselves; give gradients= (K, P).")
    if gramian is None and method.needs_gramian:
        raise AccordError(f"{method!r} reads the Gramian of the task gradients, but none was given.")
    if cross is None and method.needs_second_batch:
        raise AccordError(f"{method!r} reads inner products between the gradients of two batches; give cross= (K, K).")
    for name, tensor, shape, ndim in (
        ("gramian", gramian, "(K, K)", 2),
        ("losses", losses, "(K,)", 1),
        ("cross", cross, "(K, K)", 2),
    ):
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise AccordError(f"{name} is {found}, expected a real floating-point tensor {shape}.")
        if tensor.ndim != ndim or len(set(tensor.shape)) != 1 or not len(tensor):
            raise AccordError(f"{name} has shape {tuple(tensor.shape)}, expected {shape} with K >= 1.")
    if gramian is not None and losses is not None and len(gramian) != len(losses):
        raise AccordError(f"the Gramian has {len(gramian)} tasks, but there are {len(losses)} losses.")
    like = losses if gramian is None else gramian
    if like is None:
        raise AccordError(f"{method!r} was called without Gramian and losses; give one, so that the tasks are known.")
    if cross is not None and len(cross) != len(like):
        raise AccordError(f"cross is of {len(cross)} tasks, but there are {len(like)}.")
    if generator is not None and generator.device.type != "cpu":
        raise AccordError(f"the generator is on {generator.device}, expected a CPU generator.")
    return like
