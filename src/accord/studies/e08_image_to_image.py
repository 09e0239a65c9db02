"""E08: faithful or realistic? Reconstruction against an adversarial loss, with a projection that ranks them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

import accord
from accord import noise, pareto
from accord.report.chart import Axis, Bars, Curves, Points, View
from accord.report.palette import Style, method_style, reference_style, single_style
from accord.report.table import Column, Table
from accord.studies.drawing import bar, line, point, text
from accord.studies.judging import Claim, above, all_of, below
from accord.studies.photo_gan import Batch, Critic, Generator, Opponent, Photos, coarse, draws, photos, quality
from accord.studies.rescaled import Rescaled
from accord.studies.study import Array, Control, Results, Study, Work

RECONSTRUCTION, ADVERSARIAL = "L1", "adversarial"
SUM, FIRST, SURGERY = "Sum()", "Lexicographic()", "PCGrad()"
MATCHED = "Sum(), shortened"
# Five of each: below 0.2 a sum does what L1 does alone; sums turn noisy from 0.5 to 1, priorities from 1 to 2.
RATIOS = {SUM: (0.2, 0.5, 0.65, 0.8, 1.0), FIRST: (0.2, 0.5, 1.0, 1.4, 2.0), MATCHED: (0.5, 1.0), SURGERY: (0.5,)}
CELLS = {"alone": (), "sum": (SUM,), "priority": (FIRST,), "controls": (MATCHED, SURGERY)}
STEPS, BATCH, CHECK, LOOK = 500, 16, 50, 20
NO_PROJECTION, NO_OPPONENT = "no projection", "no opponent"
# Thresholds, from "Falsified if" (an interval that includes 0 decides nothing) and from the pilot (cosine -0.54).
NO_DIFFERENCE = 0.0
CONFLICT = 0.5  # more often than not
WORTH = 0.1  # a hypervolume must be larger by a tenth: less is not worth a second gradient
MORE = 0.05  # a twentieth of the texture of real patches: less cannot be seen
WORST = 1.25  # the reference point: a quarter worse than to do nothing is not faithful, whatever its texture


def losses(generator: Generator, critic: Critic | None, batch: Batch, tasks: tuple[str, ...]) -> dict[str, Tensor]:
    """What the generator is to make small; without a critic the squared error stands in its place."""
    out = generator(batch.given, batch.first)
    every = {
        RECONSTRUCTION: lambda: (out - batch.truth).abs().mean(),
        ADVERSARIAL: lambda: (
            (out - batch.truth).square().mean() if critic is None else -critic(out, batch.given).mean()
        ),
    }
    return {name: every[name]() for name in tasks}


def train(work: Work, data: Photos, label: str, ratio: float, tasks: tuple[str, ...]) -> dict[str, Any]:
    """One arm: the row of a method and a ratio."""
    steps = 4 if work.smoke else STEPS
    generator, opponent = Generator(work.seed), Opponent(work.seed)
    critic = None if work.broken == NO_OPPONENT else opponent.net
    method = SUM if label == MATCHED or (label == FIRST and work.broken == NO_PROJECTION) else label
    rule = Rescaled(method, ratio, shortened=label == MATCHED) if len(tasks) > 1 else SUM
    balancer = accord.Balancer(generator, rule, generator=torch.Generator().manual_seed(work.seed))
    optimizer = torch.optim.Adam(generator.parameters(), lr=3e-3, betas=(0.5, 0.99))
    monitor = accord.Monitor(generator, every=LOOK, blocks="total", optimizer=optimizer)
    if len(tasks) > 1:
        monitor.attach(balancer)
    apart, own = 2 if work.smoke else 2 * LOOK, accord.Monitor(generator, every=1, blocks="total")
    others = draws(data.train, 2 * BATCH, steps, work.seed + 1)  # drawn only as far as they are looked at
    row: dict[str, Any] = {"method": label, "ratio": ratio, "step": [], "L1 curve": [], "texture curve": []}
    spent, counted = 0.0, 0
    for number, batch in enumerate(draws(data.train, BATCH, steps, work.seed)):
        began = time.process_time()
        if ADVERSARIAL in tasks:
            opponent.step(generator, batch)
        if len(tasks) > 1 and number % apart == 0:
            own.observe(twice(generator, critic, next(others)))
        balancer.backward(losses(generator, critic, batch, tasks))
        optimizer.step()
        optimizer.zero_grad()
        if number % LOOK:
            spent, counted = spent + time.process_time() - began, counted + 1
        if (number + 1) % CHECK == 0 or number + 1 == steps:
            for name, value in zip(("L1 curve", "texture curve"), quality(generator, data.validation), strict=True):
                row[name].append(value)
            row["step"].append(float(number + 1))
    row["L1"], row["texture"] = row["L1 curve"][-1], row["texture curve"][-1]
    row["L1 elsewhere"], row["texture elsewhere"] = quality(generator, data.elsewhere)
    row["ms/step"] = 1000 * spent / counted
    if len(tasks) > 1:
        row |= conflict(monitor) | without_noise(own.record().gramian)
    return row


def conflict(monitor: accord.Monitor) -> dict[str, float]:
    """Conflict, survival and harm over the training; harm is that of the reconstruction.

    Of the aggregate: the direction that is given to Adam, after projection where there is one. Of the step: Adam's.
    """
    record = monitor.record()
    gramian, descent, change = record.gramian, record.descent.sum(1), record.change.sum(1)  # (T, 2, 2), (T, 2), (T, 2)
    angle = accord.conflict.cosine(gramian)[:, 0, 1]  # (T,)
    return {
        "cosine": float(np.nanmean(angle)),
        "conflict": float(np.nanmean(accord.conflict.incidence(gramian))),
        "norm ratio": float(np.nanmedian(accord.conflict.norm_ratio(gramian))),
        "survival": float(np.nanmean(np.sqrt(1 - np.minimum(angle, 0.0) ** 2))),
        "harm aggregate": float((descent[:, 0] < -1e-6 * np.abs(gramian[:, 0, 0])).mean()),
        "harm step": float((change[:, 0] > 0).mean()),
    }


def twice(generator: Generator, critic: Critic | None, batch: Batch) -> dict[str, Tensor]:
    """Both losses on each half of a batch that no step sees."""
    parts = [Batch(*(getattr(batch, name)[half] for name in ("truth", "given", "first", "second")))
             for half in (slice(BATCH), slice(BATCH, None))]  # fmt: skip
    return noise.halves(*(losses(generator, critic, part, (RECONSTRUCTION, ADVERSARIAL)) for part in parts))


def without_noise(gramians: Array) -> dict[str, float]:
    """Over the training: the cosine without the noise of the draw, and conflict beyond that of a loss with itself.

    Both compare different draws: a loss with itself on another draw, and with the other loss on another draw.

    Args:
        gramians: (T, 4, 4), as ``twice`` gives them.
    """
    beyond = noise.excess_incidence(gramians)  # (2, 2) each
    cosines = accord.conflict.cosine(gramians)  # (T, 4, 4), so that each look counts alike, however long its gradients
    return {
        "corrected cosine": float(noise.corrected_cosine(cosines).value[0, 1]),
        "null conflict": float(beyond.null[0, 1]),
        "excess": float(beyond.value[0, 1]),
    }


def measure(work: Work) -> list[dict[str, Any]]:
    """The arms of a cell."""
    data, both = photos(work.seed), (RECONSTRUCTION, ADVERSARIAL)
    if work.cell != "alone":
        return [train(work, data, label, ratio, both) for label in CELLS[work.cell] for ratio in RATIOS[label]]
    rows = [train(work, data, f"{task} alone", 0.0, (task,)) for task in both]
    given = coarse(data.validation)
    rows.append({"method": "input", "L1": float((given - data.validation).abs().mean())})
    return rows


def missing(texture: Array) -> Array:
    """How far the texture is from that of real patches, too little or too much."""
    return np.abs(1 - texture)


def volumes(results: Results, method: str, ratios: tuple[float, ...]) -> Array:
    """(S,) hypervolumes of a method: error, up to ``WORST`` times that of doing nothing, and missing texture."""
    nothing = results.values("L1", method="input")  # (S,)
    points = []
    for r in ratios:
        error, share = (results.values(name, method=method, ratio=r) for name in ("L1", "texture"))
        points.append((error, missing(share)))
    both = np.array(points)  # (n, 2, S)
    return np.array([pareto.hypervolume(both[:, :, s], (WORST * error, 1.0)) for s, error in enumerate(nothing)])


def above_the_chord(results: Results) -> Array:
    """(S,) texture of the priorities beyond that of plain sums of equal error; NaN where no sum has such an error."""
    sums = [("L1 alone", 0.0), *((SUM, r) for r in RATIOS[SUM])]
    x, y = (np.array([results.values(n, method=m, ratio=r) for m, r in sums]) for n in ("L1", "texture"))  # (n, S)
    out = []
    for s in range(len(results.seeds)):
        order, found = np.argsort(x[:, s]), []
        for r in RATIOS[FIRST]:
            at, have = (results.values(n, method=FIRST, ratio=r)[s] for n in ("L1", "texture"))
            if x[:, s].min() <= at <= x[:, s].max():
                found.append(have - np.interp(at, x[order, s], y[order, s]))
        out.append(float(np.mean(found)) if found else np.nan)
    return np.array(out)


def judge(results: Results) -> tuple[Claim, ...]:
    """Four claims; the first is the survey's observation, the second its promise, the others say what it comes from."""
    conflicts, excess, cosine = (results.values(n, method=SUM, ratio=0.5) for n in ("conflict", "excess", "cosine"))
    first, plain = (volumes(results, m, RATIOS[m]) for m in (FIRST, SUM))
    same, short = (volumes(results, m, RATIOS[MATCHED]) for m in (FIRST, MATCHED))
    return (
        Claim(
            "conflict", "Reconstruction and the adversarial loss are in conflict.",
            f"with the sum at ratio 0.5: on more than {CONFLICT:.0%} of steps, more often than a loss is at odds with "
            "itself (both on different draws, over the whole training), and with a negative mean cosine",
            all_of(above("conflict", conflicts, CONFLICT), above("beyond the same-task null", excess, NO_DIFFERENCE),
                   below("cosine", cosine, NO_DIFFERENCE)),
        ),
        Claim(
            "both", "Reconstruction first, by projection, gives both fidelity and texture: more than weights can.",
            f"hypervolume of five priorities more than {WORTH:.0%} above that of five plain sums; not supported if its "
            "interval ends below that: a gain that is not worth having, or a loss",
            above(f"priority minus {1 + WORTH:g} of the sum", first - (1 + WORTH) * plain, NO_DIFFERENCE),
        ),
        Claim(
            "chord", "At equal error the priority has more texture than a plain sum.",
            f"texture minus that of the sums, interpolated at the same error, above {MORE:.0%} of the real one; not "
            "supported if its interval ends below that",
            above("texture beyond the sums", above_the_chord(results), MORE),
        ),
        Claim(
            "direction", "It is the direction of the projected gradient that helps, and not that it is shorter.",
            f"hypervolume of the priorities at ratios 0.5 and 1 more than {WORTH:.0%} above that of sums shortened as "
            "much; not supported if its interval ends below that",
            above(f"priority minus {1 + WORTH:g} of the shortened sum", same - (1 + WORTH) * short, NO_DIFFERENCE),
        ),
    )  # fmt: skip


STYLES: dict[str, Style] = {
    SUM: reference_style(), FIRST: method_style(0), MATCHED: method_style(1), SURGERY: method_style(2),
    "L1 alone": single_style(), "adversarial alone": method_style(3),
}  # fmt: skip


def arms(results: Results) -> list[tuple[str, float]]:
    """Methods with their ratios, as they were measured."""
    return [(method, r) for method in STYLES for r in results.levels("ratio", method=method)]


def charts(results: Results) -> tuple[View, ...]:
    """The plane of error and texture, here and elsewhere, the hypervolumes, and the way there."""
    views = []
    for label, behind in (("china.jpg, other tiles", ""), ("flower.jpg, another picture", " elsewhere")):
        marks = []
        for method, r in arms(results):
            x, y = (results.values(name + behind, method=method, ratio=r) for name in ("L1", "texture"))
            marks.append(point(method, x, y, STYLES[method], f"ratio {r:g}" if r else ""))
        axes = Axis("mean absolute error"), Axis("texture, share of the real one", log=True)
        views.append(View(label, (Points("Fidelity and texture", *axes, tuple(marks), (None, 1.0, "real")),)))
    gain = [bar(m, [volumes(results, m, RATIOS[m])], STYLES[m]) for m in (SUM, FIRST)]
    time = [
        line(f"{m} {r:g}".removesuffix(" 0"), results.curve("step", method=m, ratio=r)[0],
              results.curve("texture curve", method=m, ratio=r), STYLES[m])
        for m, r in (("L1 alone", 0.0), (SUM, 0.5), (FIRST, 0.5))
    ]  # fmt: skip
    bars = Bars("Hypervolume", ("beyond the reference point",), tuple(gain), Axis("hypervolume"))
    return (
        *views,
        View("Hypervolume and training", (bars, Curves("Texture", Axis("step"), Axis("texture"), tuple(time)))),
    )


def at_equal_time(results: Results, measure: str, method: str, ratio: float) -> Array:
    """(S,) a curve's value where an arm has used as much time as reconstruction alone in its whole training."""
    budget = results.values("ms/step", method="L1 alone", ratio=0.0)
    mine, steps = (
        results.values("ms/step", method=method, ratio=ratio),
        results.curve("step", method=method, ratio=ratio),
    )
    curves = results.curve(measure, method=method, ratio=ratio)  # (S, T)
    return np.array([
        np.interp(steps[s, -1] * min(1.0, budget[s] / mine[s]), steps[s], curves[s]) for s in range(len(mine))
    ])  # fmt: skip


def tables(results: Results) -> tuple[Table, ...]:
    """Every arm: quality here and elsewhere, conflict, cost."""
    names = ("L1", "texture", "L1 elsewhere", "texture elsewhere", "cosine", "corrected cosine", "conflict",
             "null conflict", "excess", "survival", "harm aggregate", "harm step", "norm ratio", "ms/step")  # fmt: skip
    alone = results.values("L1", method="L1 alone"), missing(results.values("texture", method="adversarial alone"))
    body = []
    for method, r in arms(results):
        rows = results.where(method=method, ratio=r)
        cells = [text(results.values(n, method=method, ratio=r)) if n in rows[0] else "" for n in names]
        now = results.values("L1", method=method, ratio=r), missing(results.values("texture", method=method, ratio=r))
        delta = np.mean([1 - n / a for n, a in zip(now, alone, strict=True)], 0)  # (S,), both are better when small
        equal = [text(at_equal_time(results, n, method, r)) for n in ("L1 curve", "texture curve")]
        body.append((method, f"{r:g}" if r else "", *cells, text(delta), *equal))
    heads = (*names, "Δm", "L1 at equal time", "texture at equal time")
    return (
        Table("Arms", (Column("Method", words=True), Column("Ratio"), *map(Column, heads)), tuple(body),
              "Means over seeds with 95 % intervals, after equal steps; equal time: that of L1 alone. Excess: conflict "
              "of the two losses beyond that of each with itself, the null, all on different draws. Harm is that of "
              "the reconstruction: in the aggregate, which is given to Adam, and in Adam's step. Δm: mean relative "
              "gain over each loss alone, in error and in missing texture. UPGrad is PCGrad here."),
    )  # fmt: skip


STUDY = Study(
    name="E08",
    title="Image to image: faithful or realistic",
    question="Does putting reconstruction first, by projecting the adversarial gradient, give more fidelity and "
    "texture than any weight of a plain sum?",
    survey="The survey says that reconstruction and the adversarial loss conflict, and that a principled priority "
    "gives images that are both faithful and realistic. It trades one for the other; whether better than a smaller "
    "weight does is the question.",
    controls=(
        Control("tuned weights", "that a smaller weight does the same: five ratios of a plain sum, and none"),
        Control("each alone", "that a loss is in the way of nothing: reconstruction alone, adversarial alone"),
        Control("shortened", "that the projection only weakens: the sum, its adversarial part shortened as much"),
        Control("PCGrad", "that any surgery does: both gradients projected; with two tasks UPGrad is the same"),
        Control("equal time", "that a dearer step is the reason; sums need both gradients as well, to set the ratio"),
        Control("doing nothing", "that the networks are of no use: the coarse patch itself is the reference point"),
        Control("another picture", "that it holds for one photograph: all arms are also measured on flower.jpg"),
    ),
    cells=tuple(CELLS),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        NO_OPPONENT: "The adversarial loss is replaced by the squared error: `conflict` is then not supported.",
        NO_PROJECTION: "Priority is replaced by the plain sum: `chord` can then not be supported.",
    },
    seconds=180.0,
)
