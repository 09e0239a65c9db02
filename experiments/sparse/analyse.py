"""From the stored runs to the page: verdicts, tables, figures and one CSV of everything. A pure function of the runs.

python experiments/sparse/analyse.py runs/sparse --to experiments/sparse
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import figures
import numpy as np
from claims import BESIDE, Claims, full, masked
from plan import ANCHORS, COMPARED, DENSITIES, LORA, METHODS, RATES, RULES, SWEEP, psn
from reading import Book, Facts, Key
from verdicts import CLAIMS, Comparison, verdict

from accord import conflict
from accord.bench import files, store
from accord.bench.stats import Interval, interval

COLUMNS = (
    "problem", "encoder", "task", "method", "lr", "sparse", "trains", "order", "anchor", "seed", "shared", "trained",
    "incidence_full", "incidence_full_late", "incidence_masked", "incidence_masked_late", "mean_cosine",
    "mean_cosine_in_conflict", "below_0.1", "below_0.3", "magnitude_similarity", "delta_m", "delta_m_all",
    "train_loss_last", "milliseconds", "seconds", "selection_seconds",
)  # fmt: skip


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description="Tables and figures of the study of sparse training.")
    parser.add_argument("runs", help="folder of the runs")
    parser.add_argument("--to", default="experiments/sparse", help="folder of the page")
    given = parser.parse_args()
    claims = Claims(Book(store.load_runs(given.runs)))
    to = Path(given.to)
    (to / "tables").mkdir(parents=True, exist_ok=True)
    (to / "figures").mkdir(exist_ok=True)
    comparisons = list(claims.all())
    _write(to / "tables" / "verdicts.md", verdicts(comparisons, list(claims.homes)))
    _write(to / "tables" / "comparisons.md", details(comparisons, list(claims.homes)))
    for name, table in TABLES.items():
        _write(to / "tables" / f"{name}.md", table(claims))
    _write(to / "runs.csv", _csv(claims))
    _write(to / "epochs.csv", _epochs(claims))
    _write(to / "tables" / "environment.md", _environment(claims))
    figures.write(claims, to / "figures")
    print(verdicts(comparisons, list(claims.homes)))


def verdicts(comparisons: Sequence[Comparison], problems: Sequence[str]) -> str:
    """One row per claim of the paper with its primary comparisons."""
    lines = _head("claim", "primary comparison", *problems, "all three", "verdict")
    for claim, text in CLAIMS.items():
        parts = [part for part in comparisons if part.claim == claim and part.primary]
        word = verdict(parts)
        if not word:
            continue
        for number, part in enumerate(parts):
            first = (f"**{claim}** {text}", f"**{word}**") if number == 0 else ("", "")
            lines.append(_row(first[0], _words(part), *_cells(part, problems), first[1]))
    return "\n".join(lines) + "\n"


def details(comparisons: Sequence[Comparison], problems: Sequence[str]) -> str:
    """Every comparison, primary ones in bold."""
    found = []
    for claim, text in CLAIMS.items():
        found += [f"### {claim}: {text}", "", *_head("", *problems, "all three", "alone")]
        for part in comparisons:
            if part.claim == claim:
                words = f"**{_words(part)}**" if part.primary and part.side else _words(part)
                found.append(_row(words, *_cells(part, problems), part.word()))
        found.append("")
    return "\n".join(found)


def _words(part: Comparison) -> str:
    return f"{part.what} ({part.unit})"


def _cells(part: Comparison, problems: Sequence[str]) -> list[str]:
    return [*(_text(part.problem(name)) for name in problems), _text(part.pooled())]


def arms(claims: Claims, rows: Mapping[str, Mapping[str, Key]]) -> str:
    """A row per arm and problem: weights, conflict, gain, loss.

    Args:
        claims: with the runs.
        rows: name of the arm -> problem -> key.
    """
    lines = _head(
        "problem", "arm", "trained", "conflict, all: full", "masked", "last half: full", "masked", "mean cosine",
        "< -0.1", "< -0.3", "Δm %", "Δm % all measures", "last training loss",
    )  # fmt: skip
    for problem in claims.homes:
        for name, keys in rows.items():
            runs = list(claims.book.get(keys[problem]).values()) if problem in keys else []
            if runs:
                lines.append(
                    _row(problem, name, f"{trained(runs[0]):,}", *(_over(runs, value) for value in _values(claims)))
                )
    return "\n".join(lines) + "\n"


def _values(claims: Claims) -> list[Callable[[Facts], float]]:
    return [
        full, masked, lambda f: full(f, late=True), lambda f: masked(f, late=True), cosine,
        lambda f: below(f, -0.1), lambda f: below(f, -0.3), claims.dm, claims.dm_all, last_loss,
    ]  # fmt: skip


def trained(facts: Facts) -> int:
    """Shared scalars that are trained."""
    sparse = facts.result["sparse"]
    if sparse is None or facts.key.trains == "all":
        return int(facts.result["shared_parameters"])
    return int(sparse["selected"])


def cosine(facts: Facts, negative: bool = False) -> float:
    """Mean cosine over looks and pairs, of all or of those in conflict; over all shared parameters."""
    if facts.full is None:
        return math.nan
    values = facts.full.cosines[np.isfinite(facts.full.cosines)]
    values = values[values < 0] if negative else values
    return float(values.mean()) if values.size else math.nan


def below(facts: Facts, threshold: float) -> float:
    """Share of pairs below a cosine, per cent."""
    return math.nan if facts.full is None else facts.full.below(threshold)


def similarity(facts: Facts) -> float:
    """Mean of ``2 n_i n_j / (n_i² + n_j²)`` over looks and pairs, of what is trained."""
    if facts.record is None:
        return math.nan
    return float(np.nanmean(conflict.upper(conflict.magnitude_similarity(facts.record.gramian))))


def last_loss(facts: Facts) -> float:
    """Mean over tasks of the training loss of the last epoch."""
    losses = list(facts.run.history[-1]["train_loss"].values())
    return sum(losses) / len(losses)


def _same(claims: Claims, **changes: object) -> dict[str, Key]:
    return {problem: claims.key(problem, **changes) for problem in claims.homes}


def _core(claims: Claims) -> str:
    sparse = ("", *map(psn, DENSITIES))
    return arms(
        claims,
        {
            f"{method}, {rule or 'dense'}, rate {lr:g}": _same(claims, method=method, sparse=rule, lr=lr)
            for lr in RATES
            for method in METHODS
            for rule in sparse
        },
    )


def _sweep(claims: Claims) -> str:
    return arms(claims, {**{f"{d:g}": _same(claims, sparse=psn(d)) for d in SWEEP}, "1 (dense)": _same(claims)})


def _rules(claims: Claims) -> str:
    spelled = [psn(COMPARED), *(f"{rule}(density={COMPARED:g})" for rule in RULES), *BESIDE.values()]
    return arms(claims, {**{rule: _same(claims, sparse=rule) for rule in spelled}, "dense": _same(claims)})


def _sizes(claims: Claims) -> str:
    rows: dict[str, dict[str, Key]] = {}
    for problem, sizes in claims.sizes.items():
        for encoder in sizes:
            for sparse in ("", psn(DENSITIES[0])):
                rows.setdefault(f"{encoder}, {sparse or 'dense'}", {})[problem] = claims.key(
                    problem, encoder=encoder, sparse=sparse
                )
    return arms(claims, rows)


def _controls(claims: Claims) -> str:
    rows: dict[str, dict[str, Key]] = {"dense": _same(claims)}
    rows |= {psn(density): _same(claims, sparse=psn(density)) for density in DENSITIES}
    rows |= {f"anchor {strength:g}": _same(claims, anchor=strength) for strength in ANCHORS}
    for problem, encoders in claims.smaller.items():
        for encoder in encoders:
            rows.setdefault(f"smaller, {encoder}", {})[problem] = claims.key(problem, encoder=encoder)
    for density in DENSITIES:
        for rule in ("PSN", "RandomNeuron"):
            spelled = f"{rule}(density={density:g})"
            rows[f"dense, seen through {spelled}"] = _same(claims, sparse=spelled, trains="all")
    for method in METHODS[1:]:
        for order in ("mask-then-combine", "combine-then-mask"):
            rows[f"{method}, {psn(COMPARED)}, {order}"] = _same(
                claims, method=method, sparse=psn(COMPARED), order=order
            )
    return arms(claims, rows)


def _cost(claims: Claims) -> str:
    lines = _head("problem", "rule", "ms per step, over dense", "selection, ms", "of training time")
    spelled = [*map(psn, DENSITIES), *(f"{rule}(density={COMPARED:g})" for rule in RULES), *BESIDE.values()]
    for problem in claims.homes:
        dense = claims.book.get(claims.key(problem))
        for rule in spelled:
            runs = claims.book.get(claims.key(problem, sparse=rule))
            ratio = interval(
                runs[seed].run.milliseconds / dense[seed].run.milliseconds for seed in runs if seed in dense
            )
            chosen = interval(1000 * facts.result["sparse"]["seconds"] for facts in runs.values())
            share = interval(100 * f.result["sparse"]["seconds"] / f.result["seconds"] for f in runs.values())
            lines.append(_row(problem, rule, _text(ratio), _text(chosen), f"{_text(share)} %"))
    return "\n".join(lines) + "\n"


def _chosen(claims: Claims) -> str:
    """Which rates, strengths and densities validation data prefer, and by how much."""
    lines = _head("problem", "choice", "merit on validation data, % over the dense sum", "chosen")
    for problem in claims.homes:
        choices: dict[str, dict[str, Key]] = {
            f"rate of {method}, {rule or 'dense'}": {
                f"{lr:g}": claims.key(problem, method=method, sparse=rule, lr=lr) for lr in RATES
            }
            for method in METHODS
            for rule in ("", *map(psn, DENSITIES))
        }
        choices["anchor"] = {f"{strength:g}": claims.key(problem, anchor=strength) for strength in ANCHORS}
        choices["density"] = {f"{d:g}": claims.key(problem, sparse=psn(d)) for d in SWEEP} | {"1": claims.key(problem)}
        for name, keys in choices.items():
            merits = {value: claims.book.merit(key, claims.key(problem)) for value, key in keys.items()}
            best = claims.chosen(problem, list(keys.values()))
            word = next(value for value, key in keys.items() if key == best)
            lines.append(_row(problem, name, ", ".join(f"{value}: {m:+.2f}" for value, m in merits.items()), word))
    return "\n".join(lines) + "\n"


def _tasks(claims: Claims) -> str:
    """The metric of each task under the plain sum, at the first rate, and alone at its own."""
    lines = _head("problem", "task", "metric", "dense", *map(psn, DENSITIES), "alone", "alone, sparse")
    for problem, home in claims.homes.items():
        rows = [claims.book.get(claims.key(problem, sparse=sparse)) for sparse in ("", *map(psn, DENSITIES))]
        for task in next((list(f.headline) for f in rows[0].values()), []):
            single = claims.book.single(problem, home, task)
            alone = claims.book.get(single) if single is not None else {}
            sparse = claims.book.get(claims.key(problem, task=task, sparse=psn(DENSITIES[0])))
            metric, higher = next(iter(rows[0].values())).problem.metric[task]
            cells = [_over(runs.values(), lambda f, task=task: f.headline[task]) for runs in (*rows, alone, sparse)]  # type: ignore[misc]
            lines.append(_row(problem, task, f"{metric} {'↑' if higher else '↓'}", *cells))
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[Claims], str]] = {
    "core": _core, "sweep": _sweep, "rules": _rules, "sizes": _sizes, "controls": _controls, "cost": _cost,
    "chosen": _chosen, "tasks": _tasks,
}  # fmt: skip


def _csv(claims: Claims) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for key in sorted(claims.book.rows):
        for seed, f in sorted(claims.book.get(key).items()):
            several = not key.task
            numbers = [
                full(f), full(f, late=True), masked(f), masked(f, late=True), cosine(f), cosine(f, negative=True),
                below(f, -0.1), below(f, -0.3), similarity(f), claims.dm(f) if several else math.nan,
                claims.dm_all(f) if several else math.nan, last_loss(f), f.run.milliseconds, f.result["seconds"],
                (f.result["sparse"] or {}).get("seconds", math.nan),
            ]  # fmt: skip
            shared = f.result["shared_parameters"]
            writer.writerow([*key, seed, shared, trained(f), *("" if math.isnan(n) else f"{n:.6g}" for n in numbers)])
    return out.getvalue()


def _epochs(claims: Claims) -> str:
    """Incidence and training loss epoch by epoch, of the plain sum on the trunks of the study."""
    lines = [",".join((*Key._fields, "seed", "epoch", "incidence_full", "incidence_masked", "train_loss"))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    kept = {"", LORA, *map(psn, DENSITIES)}
    for key in sorted(claims.book.rows):
        if key.encoder != claims.homes[key.problem] or key.method != "Sum()" or key.task or key.sparse not in kept:
            continue
        for seed, f in sorted(claims.book.get(key).items()):
            losses = [sum(line["train_loss"].values()) / len(line["train_loss"]) for line in f.run.history]
            blank = [math.nan] * len(losses)
            rates = [list(looks.by_epoch()) if looks is not None else blank for looks in (f.full, f.masked)]
            for epoch, numbers in enumerate(zip(*rates, losses, strict=False), 1):
                writer.writerow([*key, seed, epoch, *("" if math.isnan(n) else f"{n:.5g}" for n in numbers)])
    return lines[0] + "\n" + out.getvalue()


def _environment(claims: Claims) -> str:
    """Machines, versions and threads, with how many runs had them."""
    found = Counter(
        (config.machine, ", ".join(f"{name} {v}" for name, v in sorted(config.versions.items())), config.threads)
        for runs in claims.book.rows.values()
        for config in (facts.run.config for facts in runs.values())
    )
    lines = _head("machine", "versions", "threads per run", "runs", "seeds")
    seeds = sorted({seed for runs in claims.book.rows.values() for seed in runs})
    lines += [
        _row(machine, versions, str(n), str(count), str(seeds)) for (machine, versions, n), count in found.items()
    ]
    return "\n".join(lines) + "\n"


def _over(runs: Iterable[Facts], value: Callable[[Facts], float]) -> str:
    return _text(interval(value(facts) for facts in runs))


def _text(found: Interval) -> str:
    """Mean and interval with as many digits as the interval deserves."""
    if math.isnan(found.mean):
        return "–"
    if math.isnan(found.low):
        return f"{found.mean:.3g}"
    digits = 0 if found.half >= 10 else 1 if found.half >= 0.3 else 2 if found.half >= 0.03 else 3
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _head(*names: str) -> list[str]:
    return [_row(*names), _row(*["---"] * len(names))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _write(path: Path, text: str) -> None:
    files.write(path, text.encode())


if __name__ == "__main__":
    main()
