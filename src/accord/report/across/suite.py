"""Several problems together: what every method is worth on each, and their ranking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from accord.bench.ranking import SEEDS, Ranking, rank
from accord.errors import AccordError
from accord.report.merit import Seeds, joint_improvement, worth
from accord.report.palette import Style
from accord.report.study import Study
from accord.report.text import ticks


@dataclass(frozen=True, eq=False)
class Suite:
    """The studies of at least two problems."""

    studies: tuple[Study, ...]

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """A short name of each problem."""
        return tuple(names([study.problem for study in self.studies]))

    @cached_property
    def styles(self) -> dict[str, Style]:
        """The look of each method, the plain sum first."""
        arms = [arm for study in self.studies for arm in study.arms]
        plain = {study.reference.label for study in self.studies if study.reference is not None}
        found = {arm.label: arm.style for arm in arms}
        return {label: found[label] for label in sorted(found, key=lambda label: (label not in plain, label))}

    @cached_property
    def short(self) -> dict[str, str]:
        """The methods' names for sentences: long ones without their arguments, as long as they stay apart."""
        return dict(zip(self.styles, ticks(list(self.styles)), strict=True))

    @cached_property
    def worth(self) -> dict[str, dict[str, Seeds]]:
        """What ranks the methods, by problem, method and seed; see ``merit.worth``."""
        return {
            name: {arm.label: worth(arm, study) for arm in study.arms}
            for name, study in zip(self.problems, self.studies, strict=True)
        }

    @cached_property
    def gain(self) -> dict[str, dict[str, Seeds]]:
        """The improvement over the plain sum, by method and problem; without the plain sum itself."""
        found: dict[str, dict[str, Seeds]] = {}
        for name, study in zip(self.problems, self.studies, strict=True):
            for arm in study.arms:
                if arm is not study.reference and (values := joint_improvement(arm, study)):
                    found.setdefault(arm.label, {})[name] = values
        return found

    @cached_property
    def outsiders(self) -> tuple[str, ...]:
        """Methods without two seeds on at least half of the problems: they would keep most problems from counting."""
        count = {
            label: sum(len(cells.get(label, {})) >= SEEDS for cells in self.worth.values()) for label in self.styles
        }
        found = tuple(label for label, known in count.items() if 2 * known < len(self.studies))
        return found if len(found) < len(count) - 1 else ()  # if hardly anybody is left, the ranking says why

    @cached_property
    def ranking(self) -> Ranking | str:
        """The ranking of all methods but the outsiders, or in words why there is none."""
        cells = {
            problem: {label: by_method.get(label, {}) for label in self.styles if label not in self.outsiders}
            for problem, by_method in self.worth.items()
        }
        try:
            return rank(cells)
        except AccordError as error:
            return str(error)


def names(problems: Sequence[str]) -> list[str]:
    """Names of problems without those settings in which all problems of a name agree.

    Example:
        >>> names(["digits(epochs=4, width=8)", "digits(epochs=4, width=9)", "adult(epochs=2)"])
        ['digits(width=8)', 'digits(width=9)', 'adult']
    """
    parts = [_parts(problem) for problem in problems]
    found = []
    for name, settings in parts:
        same = [other for known, other in parts if known == name]
        kept = [setting for setting in settings if not all(setting in other for other in same)]
        found.append(f"{name}({', '.join(kept)})" if kept else name)
    return found


def _parts(problem: str) -> tuple[str, list[str]]:
    """Name and settings of a spelling, cut at the commas outside of all brackets and quotes."""
    name, _, rest = problem.partition("(")
    depth, settings = 0, [""]
    for piece in re.findall(r"'[^']*'|\"[^\"]*\"|.", rest.removesuffix(")"), re.DOTALL):
        depth += (piece in "([{") - (piece in ")]}")
        if piece == "," and not depth:
            settings.append("")
        else:
            settings[-1] += piece
    return name, [setting.strip() for setting in settings if setting.strip()]
