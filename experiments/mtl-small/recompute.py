"""The comparison with the plain sum, computed again from results.jsonl with nothing but Python's own library.

For every problem and method: the mean over tasks and their measures of the relative improvement over `Sum()` with the
same seed, then mean and standard deviation over seeds, and the same against each task trained alone (Delta-m).
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

found = defaultdict(dict)  # (problem, label) -> seed -> task -> {measure: (value, higher is better)}
rates = {}
for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    run = json.loads(line)
    config = run["config"]
    if run["trial"]:
        continue
    label = config.get("arm") or (config["method"] if not config["tasks"] else "single")
    scores = found[config["problem"], label].setdefault(config["seed"], {})
    for task, score in run["result"]["test"].items():
        measures = score["measures"] or {score["metric"]: score}
        scores[task] = {name: (m["value"], m["higher_is_better"]) for name, m in measures.items()}
    rates[config["problem"], label] = config["lr"]


def gain(own, other):
    """Mean over tasks of the mean over measures of the relative improvement."""
    tasks = []
    for task, measures in own.items():
        changes = []
        for name, (value, higher) in measures.items():
            reference = other[task][name][0]
            changes.append((value - reference) / abs(reference) * (1 if higher else -1))
        tasks.append(statistics.mean(changes))
    return statistics.mean(tasks)


def spread(values):
    """Mean and standard deviation, in per cent."""
    return f"{100 * statistics.mean(values):+7.2f} ± {100 * statistics.stdev(values):5.2f}"


print(f"{'problem':60} {'method':40} {'rate':>7}  against Sum(), %   Delta-m, %  (mean ± standard deviation)")
for problem, label in found:
    if label != "single":
        own, plain, alone = found[problem, label], found[problem, "Sum()"], found[problem, "single"]
        seeds = sorted(own)
        versus = spread([gain(own[seed], plain[seed]) for seed in seeds])
        merit = spread([gain(own[seed], alone[seed]) for seed in seeds])
        print(f"{problem:60} {label:40} {rates[problem, label]:7.2g}  {versus}   {merit}")
