"""What a run is called among others: its method, and those settings without which two arms would have one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accord.bench.additions import NONE
from accord.bench.plan import alone
from accord.bench.store import Run

REFERENCE = "Sum()"  # what every method is compared with: plain PyTorch
ADDITIONS = frozenset(NONE)  # settings of what is done to the model; a label says them where they are given
GIVEN = frozenset({"problem", "method", "arm", "seed"})  # what a label or its place on the page says already


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run: ``arm`` where set, else the method's spelling, ``single-<task>`` for one task alone.

    What is done to the model beside, such as a rule of sparse training, follows after a plus sign.

    Runs of one problem that would have the same label although their settings differ are told apart by those settings.
    The learning rate is named only if nothing else tells them apart: in a tuned suite every method has its own, which
    belongs in a column.

    Args:
        runs: of any problems; labels are unique within one.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, run in enumerate(runs):
        groups.setdefault((run.config.problem, base(run)), []).append(place)
    found = [""] * len(runs)
    for (_, name), places in groups.items():
        settings = [settings_of(runs[place]) for place in places]
        keys = sorted(key for key in settings[0] if len({str(one.get(key)) for one in settings}) > 1)
        without = [key for key in keys if key != "lr"]
        if _distinct(settings, without) == _distinct(settings, keys):
            keys = without
        for place, one in zip(places, settings, strict=True):
            found[place] = " · ".join([name, *(f"{key}={_plain(one.get(key))}" for key in keys)])
    return found


def base(run: Run) -> str:
    """The label of a run that has no other arm of its method beside it."""
    tasks = run.config.tasks
    if tasks is not None and len(tasks) == 1:
        name = f"single-{tasks[0]}"
    else:
        name = getattr(run.config, "arm", None) or run.config.method
    return " + ".join([name, *getattr(run.config, "additions", ())])


def baselines(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[Run]]:
    """Tasks that were trained alone, given to every architecture that they are the baselines of.

    They are trained once, with one encoder and one head, and stored under that spelling of the problem.

    Args:
        runs: by the problem's spelling.

    Returns:
        The same, with those tasks alone beside the methods of each architecture that has none of its own; a spelling
        with nothing but such tasks is left out then.
    """
    single = {problem: [run for run in group if run.config.baseline] for problem, group in runs.items()}
    found, lent = {}, set()
    for problem, group in runs.items():
        home = problem if single[problem] or not any(single.values()) else alone(problem)
        borrowed = single.get(home, []) if home != problem else []
        lent |= {home} if borrowed else set()
        found[problem] = [*group, *borrowed]
    return {problem: group for problem, group in found.items() if problem not in lent or group != single[problem]}


def reference(arms: Mapping[str, Run]) -> str | None:
    """The label of the plain sum among some arms: by its label first, else by the method behind the label.

    Args:
        arms: any one run of each arm, by label.
    """
    by_label = [label for label in arms if label.split(" · ")[0] == REFERENCE]
    by_method = [
        label
        for label, run in arms.items()
        if run.config.method == REFERENCE and run.config.tasks is None and not getattr(run.config, "additions", ())
    ]
    return next(iter(by_label or by_method), None)


def settings_of(run: Run) -> dict[str, object]:
    """The settings that a label may have to name."""
    return {key: value for key, value in run.config.settings().items() if key not in GIVEN}


def _distinct(settings: Sequence[dict[str, object]], keys: Sequence[str]) -> int:
    return len({tuple(str(one.get(key)) for key in keys) for one in settings})


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
