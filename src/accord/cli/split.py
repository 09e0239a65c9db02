"""``accord split``: which layers conflict in a run, and a run in which every task has its own copy of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from accord import problems
from accord.bench import files, store
from accord.bench.config import RunConfig, vary
from accord.bench.run import run
from accord.errors import AccordError
from accord.restructure import Scores, cost, score, task_specific

Call = tuple[tuple[Any, ...], dict[str, Any]]


def split(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run, finished or stopped, or its checkpoint.")
    ],
    layers: Annotated[
        list[str] | None, typer.Option(help="A layer that every task gets a copy of; as many as wanted.")
    ] = None,
    top: Annotated[int | None, typer.Option(help="Take the first n layers of the table instead.")] = None,
    tau: Annotated[float, typer.Option(help="A cosine below it is a severe conflict; -1 < tau <= 0.")] = 0.0,
    share: Annotated[float, typer.Option(help="Look at this part of the recorded steps, from the first on.")] = 0.25,
    after: Annotated[
        int | None, typer.Option(help="Epochs with shared layers before; default: those of the checkpoint, else none.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of all runs; default: that of the run.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Train the new run at once.")] = False,
) -> None:
    """Say which layers conflict most in a run, or give them to the tasks: a new run, from the start or going on."""
    if layers and top is not None:
        raise AccordError("--layers and --top are both given; name the layers, or say how many.")
    folder = run_folder.parent if run_folder.name == store.CHECKPOINT else run_folder
    if not (folder / store.CONFIG).exists():
        raise AccordError(f"{folder} holds no run; name the folder of one seed, which has a {store.CONFIG}.")
    source = store.load(folder)
    _splittable(source)
    if not layers:
        table = scores(source, tau, share)
        print(table)
        if top is None:
            return
        layers = table.top(top)
        if not layers:
            raise AccordError(f"no layer of {folder} has a cosine below {tau}; nothing to split.")
        print(f"\nChosen: {', '.join(layers)}\n")
    print(price(source.config, layers))
    made, place = _prepare(source, tuple(layers), after, _root(source) if out is None else out)
    print(f"\nWritten: {place}")
    print(_fate(source, made))
    if train:
        finished = run(made, place.parents[2])
        values = ", ".join(f"{task} {entry['value']:.3f}" for task, entry in (finished.result or {})["test"].items())
        print(f"Trained: {values}")


def scores(source: store.Run, tau: float, share: float) -> Scores:
    """The layers of a run, those that conflict most first.

    Raises:
        AccordError: without a record of several tasks' Gramians by module.
    """
    record = source.record()
    if record is None:
        raise AccordError(f"{source.path} has no record, so no layer has a score; train with a monitor.")
    model = problems.parse(source.config.problem).model(source.config.seed)
    return score(record, model, tau=tau, share=share)


def price(config: RunConfig, layers: list[str]) -> str:
    """What the copies of these layers add, in parameters and in operations of a forward pass on one batch.

    Raises:
        AccordError: for layers that cannot be had.
    """
    problem = problems.parse(config.problem)
    model = task_specific(problem.model(config.seed), layers, problem.tasks)
    calls: list[Call] = []
    batch = next(iter(problem.data(config.seed).train))
    hook = model.base.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    try:
        model.by_task(lambda: problem.losses(model.base, batch))
    finally:
        hook.remove()
    if not calls:  # the problem does not call its model as a whole
        return str(cost(model))
    args, kwargs = calls[-1]
    return str(cost(model, *args, **kwargs))


def _splittable(source: store.Run) -> None:
    config = source.config
    if config.split is not None:
        raise AccordError(
            f"the layers {', '.join(config.split)} of {source.path} were split before; take the run before that."
        )
    if len(config.tasks or problems.parse(config.problem).tasks) < 2:
        raise AccordError(f"{source.path} trains one task alone; there is nobody to split layers between.")


def _root(source: store.Run) -> Path:
    """The folder of all runs that the run lies in, as ``RunConfig.place`` has it."""
    return source.path.resolve().parents[len(source.config.place.parts) - 1]


def _prepare(source: store.Run, layers: tuple[str, ...], after: int | None, root: Path) -> tuple[RunConfig, Path]:
    """Write the new run: its configuration, and if it goes on with the stopped run, checkpoint and record of that."""
    saved = source.path / store.CHECKPOINT
    done = len(source.history) if saved.exists() else 0
    later = done if after is None else after
    made = vary(source.config, split=layers, split_after=later or None)
    place = root / made.place
    if (place / store.CONFIG).exists():
        raise AccordError(f"{place} exists already; run it, remove it, or choose another folder with --out.")
    goes_on = 0 < done == later
    files.make_folder(place)
    with files.lock(place):
        if goes_on:
            shutil.copyfile(source.path / store.HISTORY, place / store.HISTORY)
            if (source.path / store.STEPS).is_dir():
                shutil.copytree(source.path / store.STEPS, place / store.STEPS)
            shutil.copyfile(saved, place / store.CHECKPOINT)
        files.write_json(place / store.CONFIG, made.model_dump(mode="json"))
    return made, place


def _fate(source: store.Run, made: RunConfig) -> str:
    """How the new run will begin."""
    if made.split_after is None:
        why = "the run keeps no checkpoint, so it" if source.finished else "it"
        return f"As in Recon, {why} is trained from the beginning with the layers split."
    if (source.path / store.CHECKPOINT).exists() and made.split_after == len(source.history):
        return (
            f"It goes on after {made.split_after} of {made.epochs} epochs, with the weights and the state of the "
            "optimiser; each copy gets those of its layer."
        )
    return f"Its layers are shared for {made.split_after} of {made.epochs} epochs, then split."
