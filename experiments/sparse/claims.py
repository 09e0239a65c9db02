"""The comparisons behind each claim, from the stored runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from plan import ANCHORS, COMPARED, DENSITIES, LORA, METHODS, RATES, RULES, STUDIES, SWEEP, psn
from reading import Book, Facts, Key, Looks, matched
from verdicts import PERCENT, POINT, Comparison

from accord import problems

Value = Callable[[Facts], float]
MAIN = psn(DENSITIES[0])  # density of the paper for networks that are trained from scratch
RIVALS = ("RandomNeuron", "RandomBlock", "GlobalMagnitude", "Smallest")
BESIDE = {"BitFit": "BitFit()", LORA: LORA}  # without a density
SLOWER, SHARE = 5.0, 1.0  # per cent of a step's and of the training's time that count as nothing


class Claims:
    """All comparisons.

    Args:
        book: of finished runs.
    """

    def __init__(self, book: Book) -> None:
        self.book = book
        self.homes: dict[str, str] = {}  # problem -> encoder
        self.sizes: dict[str, list[str]] = {}
        self.smaller: dict[str, list[str]] = {}
        for study in STUDIES:
            name = problems.parse(study.problem()).name
            self.homes[name] = _encoder(study.problem())
            self.sizes[name] = [_encoder(study.problem(encoder)) for encoder in study.sizes]
            self.smaller[name] = [_encoder(study.problem(encoder)) for encoder in study.smaller]

    def key(self, problem: str, **changes: object) -> Key:
        """The dense run with the plain sum at the first rate, but for these changes."""
        return Key(problem, self.homes[problem], lr=RATES[0])._replace(**changes)  # type: ignore[arg-type]

    def dm(self, facts: Facts) -> float:
        """Improvement over tasks alone, per cent, by the metric of each task."""
        return self.book.delta_m(facts, self.homes[facts.key.problem])

    def dm_all(self, facts: Facts) -> float:
        """The same by all measures."""
        return self.book.delta_m(facts, self.homes[facts.key.problem], everything=True)

    def chosen(self, problem: str, keys: list[Key]) -> Key:
        """The one that is best on validation data; improvements are over the dense sum."""
        reference = self.key(problem)
        return max(keys, key=lambda key: _or_least(self.book.merit(key, reference)))

    def difference(
        self, value: Value, left: Mapping[str, Key], right: Mapping[str, Key]
    ) -> dict[str, dict[int, float]]:
        """``value(left) - value(right)`` by problem and seed."""
        found: dict[str, dict[int, float]] = {}
        for problem in left:
            one, other = self.book.get(left[problem]), self.book.get(right[problem])
            found[problem] = {seed: value(one[seed]) - value(other[seed]) for seed in sorted(one.keys() & other.keys())}
        return found

    def each(self, value: Value, left: dict[str, object], right: dict[str, object]) -> dict[str, dict[int, float]]:
        """The same for every problem, with changes to the dense sum."""
        return self.difference(
            value,
            {problem: self.key(problem, **left) for problem in self.homes},
            {problem: self.key(problem, **right) for problem in self.homes},
        )

    def all(self) -> Iterator[Comparison]:
        """Every comparison, claim by claim."""
        for part in (
            self.incidence,
            self.late,
            self.gain,
            self.methods,
            self.rules,
            self.density,
            self.size,
            self.cost,
        ):
            yield from part()
        for part in (self.coordinates, self.rates, self.stage, self.regularisation, self.orders):
            yield from part()

    def incidence(self) -> Iterator[Comparison]:
        """C1."""
        for number, (density, lr) in enumerate((d, lr) for d in DENSITIES for lr in RATES):
            arms: tuple[dict[str, object], dict[str, object]] = ({"sparse": psn(density), "lr": lr}, {"lr": lr})
            for what, value in (("all shared gradients", full), ("trained gradients", masked)):
                yield Comparison(
                    "C1", f"{what}, density {density:g}, rate {lr:g}", "points", -1, POINT, self.each(value, *arms),
                    primary=number == 0 and value is full,
                )  # fmt: skip

    def late(self) -> Iterator[Comparison]:
        """C2: the difference of differences."""
        for density in DENSITIES:
            groups = self.each(lambda facts: full(facts, late=True) - full(facts), {"sparse": psn(density)}, {})
            words = f"drop in the last half minus drop overall, density {density:g}"
            yield Comparison("C2", words, "points", -1, POINT, groups, primary=density == DENSITIES[0])

    def gain(self) -> Iterator[Comparison]:
        """C3."""
        for density in DENSITIES:
            sparse = self._best(psn(density), "Sum()")
            dense = self._best("", "Sum()")
            main = density == DENSITIES[0]
            words = f"density {density:g}, each at its rate chosen on validation data"
            yield Comparison("C3", words, "%", 1, PERCENT, self.difference(self.dm, sparse, dense), primary=main)
            words += ", all measures"
            yield Comparison("C3", words, "%", 1, PERCENT, self.difference(self.dm_all, sparse, dense), primary=False)
            for lr in RATES:
                groups = self.each(self.dm, {"sparse": psn(density), "lr": lr}, {"lr": lr})
                yield Comparison("C3", f"density {density:g}, rate {lr:g}", "%", 1, PERCENT, groups, primary=False)

    def methods(self) -> Iterator[Comparison]:
        """C4."""
        for method in METHODS:
            groups = self.each(full, {"sparse": MAIN, "method": method}, {"method": method})
            yield Comparison("C4", f"incidence under {method}, rate {RATES[0]:g}", "points", -1, POINT, groups)
        for method in METHODS:
            groups = self.difference(self.dm, self._best(MAIN, method), self._best("", method))
            yield Comparison("C4", f"Delta-m under {method}, rates chosen", "%", 1, PERCENT, groups)

    def rules(self) -> Iterator[Comparison]:
        """C5, and all other rules."""
        paper: dict[str, object] = {"sparse": psn(COMPARED)}
        for rule in (*RIVALS, *(rule for rule in RULES if rule not in RIVALS), *BESIDE):
            spelled = BESIDE.get(rule, f"{rule}(density={COMPARED:g})")
            rival: dict[str, object] = {"sparse": spelled}
            groups = self.each(self.dm, paper, rival)
            yield Comparison("C5", f"Delta-m, PSN minus {rule}", "%", 1, PERCENT, groups, primary=rule in RIVALS)
            groups = self.each(full, paper, rival)
            yield Comparison("C5", f"incidence, PSN minus {rule}", "points", -1, POINT, groups, primary=False)

    def density(self) -> Iterator[Comparison]:
        """C6: 60 % beats dense training and what is much sparser."""
        main: dict[str, object] = {"sparse": MAIN}
        others = {f"density {d:g}": psn(d) for d in SWEEP if d != DENSITIES[0]} | {"dense": ""}
        for name, sparse in others.items():
            groups = self.each(self.dm, main, {"sparse": sparse})
            primary = name in ("density 0.1", "density 0.3", "dense")
            yield Comparison("C6", f"Delta-m, density 0.6 minus {name}", "%", 1, PERCENT, groups, primary=primary)

    def size(self) -> Iterator[Comparison]:
        """C7."""
        for sparse, words in (("", "dense"), (MAIN, MAIN)):
            for late in (False, True):
                largest = {p: self.key(p, encoder=sizes[-1], sparse=sparse) for p, sizes in self.sizes.items()}
                smallest = {p: self.key(p, encoder=sizes[0], sparse=sparse) for p, sizes in self.sizes.items()}
                groups = self.difference(lambda facts, late=late: full(facts, late=late), largest, smallest)  # type: ignore[misc]
                part = "last half" if late else "all epochs"
                words_ = f"largest minus smallest, {words}, {part}"
                yield Comparison("C7", words_, "points", 1, POINT, groups, primary=not sparse and not late)

    def cost(self) -> Iterator[Comparison]:
        """C8: what is above the allowance."""
        for density in DENSITIES:
            groups = {
                problem: {
                    seed: 100 * (facts.run.milliseconds / dense[seed].run.milliseconds - 1) - SLOWER
                    for seed, facts in self.book.get(self.key(problem, sparse=psn(density))).items()
                    if seed in dense
                }
                for problem in self.homes
                for dense in [self.book.get(self.key(problem))]
            }
            words = f"time of a step at density {density:g} over dense, above {SLOWER:g} %"
            yield Comparison("C8", words, "%", -1, 0.0, groups, primary=density == DENSITIES[0])
        shares = {
            problem: {
                seed: 100 * facts.result["sparse"]["seconds"] / facts.result["seconds"] - SHARE
                for seed, facts in self.book.get(self.key(problem, sparse=MAIN)).items()
            }
            for problem in self.homes
        }
        yield Comparison("C8", f"selection, share of training time above {SHARE:g} %", "%", -1, 0.0, shares)

    def coordinates(self) -> Iterator[Comparison]:
        """Question 1."""
        for density in DENSITIES:
            for rule in ("PSN", "RandomNeuron"):
                arm: dict[str, object] = {"sparse": f"{rule}(density={density:g})", "trains": "all"}
                words = f"dense training seen through {rule}, density {density:g}"
                yield Comparison("Q1", words, "points", 0, POINT, self._own(arm))
            words = f"sparse training, density {density:g}"
            yield Comparison("Q1", words, "points", 0, POINT, self._own({"sparse": psn(density)}))

    def _own(self, arm: dict[str, object]) -> dict[str, dict[int, float]]:
        """Masked minus full within the same looks of each run."""
        return {
            problem: {seed: watched(facts) for seed, facts in self.book.get(self.key(problem, **arm)).items()}
            for problem in self.homes
        }

    def rates(self) -> Iterator[Comparison]:
        """Question 2."""
        low: dict[str, object] = {"lr": RATES[1]}
        yield Comparison(
            "Q2", "incidence, dense, low rate minus high rate", "points", 0, POINT, self.each(full, low, {})
        )
        crossed = self.each(full, {"sparse": MAIN}, low)
        yield Comparison(
            "Q2", "incidence, sparse at the high rate minus dense at the low one", "points", 0, POINT, crossed
        )
        yield Comparison("Q2", "Delta-m, dense, low rate minus high rate", "%", 0, PERCENT, self.each(self.dm, low, {}))

    def stage(self) -> Iterator[Comparison]:
        """Question 3."""
        for density in DENSITIES:
            for lr in RATES:
                groups: dict[str, dict[int, float]] = {}
                for problem in self.homes:
                    dense = self.book.get(self.key(problem, lr=lr))
                    sparse = self.book.get(self.key(problem, lr=lr, sparse=psn(density)))
                    groups[problem] = {
                        seed: matched(sparse[seed], dense[seed], dense[seed].first_losses())
                        for seed in sorted(sparse.keys() & dense.keys())
                    }
                words = f"incidence at matched training loss, density {density:g}, rate {lr:g}"
                yield Comparison("Q3", words, "points", 0, POINT, groups)

    def regularisation(self) -> Iterator[Comparison]:
        """Question 4."""
        pulled = {p: self.chosen(p, [self.key(p, anchor=strength) for strength in ANCHORS]) for p in self.homes}
        sparse = {p: self.key(p, sparse=MAIN) for p in self.homes}
        dense = {p: self.key(p) for p in self.homes}
        pairs = {"sparse minus anchored (strength chosen)": (sparse, pulled), "anchored minus dense": (pulled, dense)}
        for number, density in enumerate(DENSITIES):
            small = {p: self.key(p, encoder=encoders[number]) for p, encoders in self.smaller.items()}
            same = {p: self.key(p, sparse=psn(density)) for p in self.homes}
            pairs[f"density {density:g} minus a dense model with as many weights"] = (same, small)
        for words, (left, right) in pairs.items():
            groups = self.difference(full, left, right)
            yield Comparison("Q4", f"incidence, {words}", "points", 0, POINT, groups)
            yield Comparison("Q4", f"Delta-m, {words}", "%", 0, PERCENT, self.difference(self.dm, left, right))
        yield Comparison("Q4", "tasks alone, sparse minus dense, per cent", "%", 0, PERCENT, self._alone())

    def _alone(self) -> dict[str, dict[int, float]]:
        """Mean over tasks of the gain of sparse training of one task, at the same rate."""
        found: dict[str, dict[int, float]] = {}
        for problem in self.homes:
            by_seed: dict[int, list[float]] = {}
            for task in _tasks(problem):
                dense = self.book.get(self.key(problem, task=task))
                for seed, facts in self.book.get(self.key(problem, task=task, sparse=MAIN)).items():
                    if seed in dense:
                        one, other = facts.headline[task], dense[seed].headline[task]
                        sign = 1 if facts.problem.metric[task][1] else -1
                        by_seed.setdefault(seed, []).append(
                            100 * sign * (one - other) / abs(other) if other else math.nan
                        )
            found[problem] = {seed: sum(values) / len(values) for seed, values in by_seed.items()}
        return found

    def orders(self) -> Iterator[Comparison]:
        """Question 12."""
        for method in METHODS[1:]:
            arm: dict[str, object] = {"method": method, "sparse": psn(COMPARED)}
            other = {**arm, "order": "combine-then-mask"}
            words = f"{method}, mask first minus combine first"
            yield Comparison("Q12", f"Delta-m, {words}", "%", 0, PERCENT, self.each(self.dm, arm, other))
            yield Comparison("Q12", f"incidence, {words}", "points", 0, POINT, self.each(full, arm, other))

    def _best(self, sparse: str, method: str) -> dict[str, Key]:
        """By problem: the better of both rates on validation data."""
        return {
            p: self.chosen(p, [self.key(p, sparse=sparse, method=method, lr=lr) for lr in RATES]) for p in self.homes
        }


def full(facts: Facts, late: bool = False) -> float:
    """Incidence in all shared parameters."""
    return _mean(facts.full, late)


def masked(facts: Facts, late: bool = False) -> float:
    """Incidence in what is trained."""
    return _mean(facts.masked, late)


def watched(facts: Facts) -> float:
    """Incidence seen through the mask minus in all shared parameters, at the same steps."""
    both = facts.both
    return math.nan if both is None else both[0].mean() - both[1].mean()


def _mean(looks: Looks | None, late: bool) -> float:
    return math.nan if looks is None else looks.mean(late)


def _encoder(problem: str) -> str:
    return str(getattr(problems.parse(problem), "encoder", ""))


def _tasks(problem: str) -> tuple[str, ...]:
    return next(parsed.tasks for study in STUDIES if (parsed := problems.parse(study.problem())).name == problem)


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value
