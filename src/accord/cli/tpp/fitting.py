"""Fit into a folder; what was stopped goes on with the same command."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.optim import Adam

from accord.balancer import Balancer
from accord.bench import checkpoint, files
from accord.cli.tpp.about import About
from accord.cli.tpp.chosen import MODEL
from accord.cli.tpp.order import Order
from accord.cli.tpp.source import Taken, fingerprint, training
from accord.cli.tpp.watch import Watch
from accord.tpp.checkpoint import read, save
from accord.tpp.errors import TPPError
from accord.tpp.fit import STATE, Fitted, fit
from accord.tpp.model import PointProcess

SETTINGS, HISTORY, MEMORY = "settings.json", "history.json", "method.safetensors"
MAY_CHANGE = ("epochs", "patience")  # between two calls for the same folder


def run(order: Order, out: Path) -> tuple[Fitted, About, PointProcess]:
    """Fit, or go on, and write the model and its history.

    Args:
        order: what, and how.
        out: folder of this training alone.

    Raises:
        TPPError: for a mistake in the order, or a folder that holds another training.
        AccordError: for an unknown problem or method, or a folder that cannot be written.
        SystemExit: 130, after Ctrl-C.
    """
    order.check()
    taken = training(order.data, order.reading, order.seed)
    model = order.fresh(taken)
    backward, memory = _method(order, model, out)
    files.make_folder(out)
    _claim(order, out, fingerprint(taken.splits.train))
    with files.lock(out):
        fitted = _train(order, taken, model, out, backward, memory)
    about = _about(order, taken, fitted)
    save(model, out / MODEL, **dataclasses.asdict(about))
    history = {"data": order.data, "model": order.model, "best": fitted.best, "history": fitted.history}
    files.write_json(out / HISTORY, history)
    return fitted, about, model


def _train(
    order: Order,
    taken: Taken,
    model: PointProcess,
    out: Path,
    backward: Callable[..., object] | None,
    memory: Callable[[], None],
) -> Fitted:
    watch = Watch(order.epochs, _finished(out))

    def on_epoch(line: Mapping[str, Any]) -> None:
        memory()
        watch.epoch(line)

    try:
        with watch:
            return fit(
                model, taken.splits, epochs=order.epochs, batch=order.batch, patience=order.patience,
                stopping=order.stopping, optimizer=lambda parameters: Adam(parameters, order.lr), backward=backward,
                seed=order.seed, paper_compat=order.paper_compat, simulated=taken.simulated, path=out,
                on_epoch=on_epoch,
            )  # fmt: skip
    except KeyboardInterrupt:
        where = f"after epoch {watch.done}" if watch.done else "in the first epoch"
        print(f"\nStopped {where}. The same command goes on from the last finished epoch.", file=sys.stderr)
        raise SystemExit(130) from None


def _method(order: Order, model: PointProcess, out: Path) -> tuple[Callable[..., object] | None, Callable[[], None]]:
    """How gradients are combined, and what keeps the method's memory after each epoch."""
    if order.method is None:
        return None, lambda: None
    balancer = Balancer(model, order.method, seed=order.seed)
    for need in ("needs_losses_after", "needs_second_batch", "needs_validation"):
        if getattr(balancer.method, need, False):
            raise TPPError(f"{balancer.method!r} needs more than the losses of a step; use it with `accord run`.")
    done = len(_finished(out))
    known = 0
    if done and (out / MEMORY).exists():
        kept = checkpoint.load(out / MEMORY)
        known = kept["epochs"]
        balancer.load_state_dict(kept["balancer"])
    if known != done:  # killed after the one file was written and before the other
        print(
            f"Note: {balancer.method!r} remembers {known} of {done} epochs: what follows differs a little from an "
            "unbroken training."
        )
    epochs = itertools.count(done + 1)

    def memory() -> None:
        balancer.epoch()
        checkpoint.save(out / MEMORY, {"epochs": next(epochs), "balancer": balancer.state_dict()})

    return balancer.backward, memory


def _claim(order: Order, out: Path, train: str) -> None:
    """Say whose folder it is, or refuse one of another training."""
    ours = {**dataclasses.asdict(order), "train": train}
    begun = (out / STATE).exists() or (out / MODEL).exists()
    if begun and (out / SETTINGS).exists():
        theirs = files.read_json(out / SETTINGS)
        for name, value in ours.items():
            if name not in MAY_CHANGE and theirs.get(name) != value:
                if name == "train":
                    raise TPPError(f"{out} holds a training on other sequences; choose another folder with --out.")
                raise TPPError(
                    f"{out} holds a training with {name}={theirs.get(name)!r}, and this one has {value!r}; choose "
                    "another folder with --out."
                )
    elif begun:
        raise TPPError(f"{out} holds a training of something else; choose another folder with --out.")
    files.write_json(out / SETTINGS, ours)


def _finished(out: Path) -> list[float]:
    """Validation losses of the epochs that a stopped training has behind it."""
    if not (out / STATE).exists():
        return []
    _, about = read(out / STATE)
    return [line["validation"]["joint"] for line in about.get("rest", {}).get("history", ())]


def _about(order: Order, taken: Taken, fitted: Fitted) -> About:
    train = taken.splits.train
    settings = {
        name: value
        for name, value in dataclasses.asdict(order).items()
        if name not in ("data", "seed", "paper_compat", "format", "options")
    }
    return About(
        data=order.data,
        seed=order.seed,
        marks=train.marks,
        unit=taken.unit,
        offset=taken.done.offset,
        factor=taken.done.factor,
        recipe=taken.done.recipe,
        train=fingerprint(train),
        simulated=taken.simulated,
        paper_compat=order.paper_compat,
        format=order.format,
        options=dict(order.options),
        settings={**settings, "tick": train.tick, "best": fitted.best},
    )
