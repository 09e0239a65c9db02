"""The verbs of ``accord tpp``: parse, call, print."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from accord.bench import files
from accord.cli.reading import Reading, pairs
from accord.cli.tpp import rows, tables
from accord.cli.tpp.about import words
from accord.cli.tpp.chosen import MODEL, choose, opened
from accord.cli.tpp.drawing import draw
from accord.cli.tpp.fitting import run
from accord.cli.tpp.measuring import measure
from accord.cli.tpp.order import Order
from accord.cli.tpp.source import canonical
from accord.tpp.anomaly import anomalies as anomalous
from accord.tpp.build import HISTORIES, NAMES, build
from accord.tpp.errors import TPPError
from accord.tpp.evaluate import evaluate as evaluated
from accord.tpp.predict import TIMES
from accord.tpp.predict import predict as predicted
from accord.tpp.simulate import simulate as sampled

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Neural marked temporal point processes: when the next event comes, and which.",
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CURVE = 2000  # points of the QQ line
Data = Annotated[str, typer.Argument(help="A problem such as tpp-mooc, an imported set (tpp:NAME), or a file.")]
Model = Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")]
ModelFile = Annotated[Path, typer.Argument(help=f"{MODEL}, or the folder of `accord tpp fit`.")]
Part = Annotated[str | None, typer.Option(help="Part of the data; default: test, or the only one.")]
Format = Annotated[str | None, typer.Option(help="Of a file; default: what it tells.")]
Options = Annotated[list[str] | None, typer.Option("--option", help="Of a file's reader, as key=value; repeatable.")]
History = Annotated[str, typer.Option(help=f"Encoder of the past: {', '.join(HISTORIES)}.")]
Encoding = Annotated[str, typer.Option(help="Of events, such as log_concatenate.")]
Batch = Annotated[int, typer.Option(min=1, help="Sequences per step.")]
Lr = Annotated[float, typer.Option(help="Learning rate of Adam.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the split, the initial parameters and the order of batches.")]
Compat = Annotated[
    bool | None,
    typer.Option("--paper-compat/--no-paper-compat", help="Event 1 unscored, ends of windows left out, as published."),
]


@app.command()
def fit(
    data: Data,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder of this training.")],
    history: History = "gru",
    encoding: Encoding = "temporal_with_labels",
    epochs: Annotated[int, typer.Option(min=1, help="At most so many.")] = 500,
    batch: Batch = 32,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better one after which it stops.")] = 50,
    lr: Lr = 1e-3,
    seed: Seed = 0,
    stopping: Annotated[str | None, typer.Option(help="joint, or tasks: each task by its own.")] = None,
    paper_compat: Annotated[
        bool, typer.Option("--paper-compat", help="Event 1 unscored, summed losses, ends of windows left out.")
    ] = False,
    method: Annotated[str | None, typer.Option(help="A method against conflict, such as 'UPGrad()'.")] = None,
    format: Format = None,
    option: Options = None,
) -> None:
    """Train a model until it gets no better. It stops by the validation part; the same command goes on after a stop."""
    order = Order(
        canonical(data), model, history, encoding, epochs, batch, patience, lr, seed, stopping, paper_compat, method,
        format, pairs(option or []),
    )  # fmt: skip
    fitted, about, net = run(order, out)
    count = sum(p.numel() for p in net.parameters())
    best = fitted.history[fitted.best["joint"] - 1]["validation"]
    print(
        f"{model}: {count:,} parameters, {len(fitted.history)} epochs; best epoch {fitted.best['joint']} with a "
        f"validation NLL of {best['time']:.2f} for the time and {best['mark']:.2f} for the mark, in nats per sequence "
        f"(times in {about.model_unit})."
    )
    print(f"Model: {out / MODEL}. For its figures: accord tpp evaluate {shlex.quote(str(out))} {shlex.quote(data)}")


@app.command()
def evaluate(
    model: ModelFile,
    data: Data,
    part: Part = None,
    json: Annotated[Path | None, typer.Option(help="File for all figures as well.")] = None,
    marginal: Annotated[bool, typer.Option("--marginal", help="Predict marks without the time as well: slow.")] = False,
    crps: Annotated[bool, typer.Option("--crps", help="The CRPS of the time as well: slow.")] = False,
    paper_compat: Compat = None,
    format: Format = None,
    option: Options = None,
) -> None:
    """Likelihoods, calibration and accuracy of a model. All figures as published, and corrected."""
    chosen = choose(model, data, part, Reading(format, pairs(option or [])))
    compat = chosen.about.paper_compat if paper_compat is None else paper_compat
    found = evaluated(
        chosen.model, chosen.events, train=chosen.train, marginal=marginal, crps=crps, paper_compat=compat,
        simulated=chosen.about.simulated,
    )  # fmt: skip
    values = tables.recorded_units(found, chosen.about.factor)
    conventions = tables.conventions(chosen, found, compat)
    tables.evaluation(chosen, found, values, conventions)
    if json is not None:
        files.write_json(
            json,
            {
                "model": chosen.model.settings["name"], "data": data, "part": chosen.part, "paper_compat": compat,
                "figures": values, "baselines": found.baselines, "sequences": found.sequences,
                "dropped": found.dropped, "events": len(found.scores.mark), "unit": chosen.about.unit,
                "unit_of_likelihoods": chosen.about.model_unit, "conventions": conventions,
            },
        )  # fmt: skip


@app.command()
def predict(
    model: ModelFile,
    data: Data,
    out: Annotated[Path, typer.Option(help="The csv to write.")] = Path("predictions.csv"),
    after: Annotated[bool, typer.Option("--after", help="The one event behind the end of each sequence.")] = False,
    time: Annotated[str, typer.Option(help=f"What is predicted: {', '.join(TIMES)}.")] = "median",
    part: Part = None,
    format: Format = None,
    option: Options = None,
) -> None:
    """When the next event comes, and which. For every event from those before it, or behind each sequence's end."""
    chosen = choose(model, data, part, Reading(format, pairs(option or [])))
    found = predicted(chosen.model, chosen.events, time=time, quantiles=QUANTILES, after=after)
    rows.write(out, rows.predictions(found, chosen, QUANTILES, after))
    print(f"{len(found.index):,} predictions of {chosen.part}: {out}")
    if found.unresolved:
        print(f"{found.unresolved:,} of them are infinite: the model says that no event may come.")


@app.command()
def simulate(
    model: ModelFile,
    count: Annotated[int, typer.Option(min=1, help="Sequences.")],
    end: Annotated[float, typer.Option(help="Length of each, in units of the data.")],
    out: Annotated[Path, typer.Option(help="The csv to write.")] = Path("simulated.csv"),
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
) -> None:
    """New sequences from a model. `accord data import` reads the table that is written."""
    process, about = opened(model)
    if not 0 < end < float("inf"):
        raise TPPError(f"--end is {end}; expected a positive number, in {words(about.unit)}.")
    events = sampled(process, count, end * about.factor, seed=seed, marks=about.marks)
    rows.write(out, rows.simulated(events, about))
    empty = int((events.lengths == 0).sum())
    print(f"{count:,} sequences with {events.time.size:,} events: {out}")
    if empty:
        print(f"{empty:,} sequences are empty and have no row there.")
    print(f"Read it again: accord data import {out} --as NAME --start start --end end")


@app.command()
def plot(
    model: ModelFile,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for PNG and PDF.")] = Path("figures"),
    sequence: Annotated[
        str | None, typer.Option(help="The one whose intensities are drawn, by its id or number; default: the first.")
    ] = None,
    part: Part = None,
    format: Format = None,
    option: Options = None,
) -> None:
    """Intensities along one sequence, and calibration. Reliability of marks and of times, and a time-rescaling plot."""
    from accord.report import point_process as charts  # Matplotlib takes its time
    from accord.tpp.intensity import intensity
    from accord.tpp.metrics.calibration import quantiles

    chosen = choose(model, data, part, Reading(format, pairs(option or [])))
    about, events = chosen.about, chosen.events
    curves = intensity(chosen.model, events, chosen.number(sequence))
    curves = dataclasses.replace(
        curves,
        time=about.original(curves.time),
        events=about.original(curves.events),
        marks=curves.marks * about.factor,
    )
    found = evaluated(
        chosen.model, events, predictions=False, paper_compat=about.paper_compat, simulated=about.simulated
    )  # fmt: skip
    draw(
        [
            charts.intensity_chart(curves, about.marks, words(about.unit)),
            charts.mark_reliability_chart(found.mark_reliability),
            charts.time_reliability_chart(found.time_reliability),
            charts.rescaling_chart(quantiles(found.scores.compensator, CURVE)),
        ],
        out,
    )


@app.command()
def anomalies(
    model: ModelFile,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="The csv of all events to write.")] = None,
    part: Part = None,
    format: Format = None,
    option: Options = None,
) -> None:
    """Which events, and which sequences, the model expected least."""
    chosen = choose(model, data, part, Reading(format, pairs(option or [])))
    found = anomalous(chosen.model, chosen.events)
    by_event, by_sequence = rows.unexpected(found, chosen)
    tables.ranking("Least expected events", by_event)
    tables.ranking("Least expected sequences", by_sequence)
    if out is not None:
        rows.write(out, by_event)
        print(f"All {len(found.index):,} events: {out}")


@app.command()
def conflict(
    data: Data,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for figures and numbers.")] = Path("conflict"),
    epochs: Annotated[int, typer.Option(min=1, help="So many.")] = 5,
    every: Annotated[int, typer.Option(min=1, help="Measure at every n-th step.")] = 1,
    history: History = "gru",
    encoding: Encoding = "temporal_with_labels",
    batch: Batch = 32,
    lr: Lr = 1e-3,
    seed: Seed = 0,
    format: Format = None,
    option: Options = None,
) -> None:
    """How often the gradients of time and mark conflict. CG, GMS and TPI, measured in a short training."""
    from accord.report import point_process as charts  # Matplotlib takes its time

    order = Order(
        canonical(data), model, history, encoding, epochs, batch, lr=lr, seed=seed, format=format,
        options=pairs(option or []),
    )  # fmt: skip
    order.check()
    files.make_folder(out)
    measured = None if build(model, 1).disjoint else measure(order, every)
    parts = {} if measured is None else measured.parts
    if measured is None or not parts:
        print(f"{model} has no parameter that both time and mark train: no conflict is possible.")
        return
    tables.conflict(parts)
    window = min(1000, max(1, len(measured.steps) // 10))  # of long trainings, the published one
    gramians = {part: measured.gramians(part)[0] for part in parts}
    numbers = {part: tables.measures(*both) for part, both in parts.items()}
    files.write_json(
        out / "conflict.json",
        {"data": data, "model": model, "steps": len(measured.steps), "every": every, "parts": numbers},
    )
    print(out / "conflict.json")
    draw(
        [
            charts.histogram_chart({part: exact for part, (exact, _) in parts.items()}),
            charts.evolution_chart(gramians, np.array(measured.steps), window, max(1, window // 10)),
        ],
        out,
    )
