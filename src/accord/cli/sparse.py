"""``accord sparse``: what a rule would train of a problem's model, before anything is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from accord.bench import store
from accord.bench.config import configure
from accord.bench.run import environment
from accord.bench.training import Training
from accord.cli import show
from accord.sparse import store as masks


def sparse(
    problem: Annotated[str, typer.Argument(help="A problem, such as digits or 'digits(width=64)'.")],
    rule: Annotated[list[str], typer.Option(help="A rule, such as 'PSN(k=300)'; give as many as wanted.")],
    seed: Annotated[int, typer.Option(help="Of the model, and of rules that draw.")] = 0,
    threads: Annotated[int, typer.Option(help="PyTorch's threads.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for the masks; default: they are not kept.")] = None,
) -> None:
    """Say what a rule trains of a problem's model: all parameters, the counts, and how long choosing took."""
    configs = [configure(problem=problem, sparse=text, seed=seed, threads=threads, monitor_every=0) for text in rule]
    rows = show.grid("rule", "trained", "of", "shared: trained", "of", "density", "seconds")
    for number, config in enumerate(configs):
        with environment(config), tempfile.TemporaryDirectory() as unused:
            prepared = Training(config, Path(unused) / store.STEPS).prepared
        assert prepared.sparse is not None
        mask = prepared.sparse.mask
        print(f"{mask.rule} on {config.problem}\n{mask.describe()}\n")
        counts = (f"{n:,}" for n in (mask.trainable, mask.total, mask.selected, mask.shared))
        rows.add_row(mask.rule, *counts, f"{mask.density:.3f}", f"{prepared.seconds:.3f}")
        if out is not None:
            path = out / f"mask-{number}.safetensors"
            masks.save(mask, path)
            print(f"Written: {path}\n")
    show.console().print(rows)
