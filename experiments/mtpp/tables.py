"""From the stored results to the page: tables in Markdown and pictures.

    python experiments/mtpp/tables.py > experiments/mtpp/tables.md

Means over splits; differences are paired by split, with Student's 95 % intervals, each by itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from accord.bench.stats import Interval, interval

HERE = Path(__file__).parent
FAMILIES = ("thp", "sahp", "sthp", "fnn", "lnm", "rmtpp")
VARIANTS = ("", "+", "++", "-d", "-dd")
FIGURES = {
    "nll_time": ("NLL_T", 2), "nll_mark": ("NLL_M", 2), "accuracy": ("accuracy", 3), "mrr": ("MRR", 3),
    "pce": ("PCE", 3), "ece": ("ECE", 3), "ece_published": ("ECE publ.", 3),
}  # fmt: skip
# Bosser & Ben Taieb, earlier notebooks: NLL_T, NLL_M of base, +, ++ (specification of this project, section 17 A)
PUBLISHED = {
    "tpp-mooc": {
        "thp": (-120.3, -145.2, -138.5, 96.6, 75.8, 71.0), "sahp": (-264.7, -285.1, -293.4, 165.0, 74.1, 70.8),
        "lnm": (-309.2, -309.2, -308.1, 88.1, 77.3, 74.3), "rmtpp": (-157.2, -158.0, -158.3, 89.9, 83.4, 76.9),
    },
    "tpp-reddit": {
        "thp": (-69.3, -85.7, -87.8, 43.4, 43.9, 40.2), "sahp": (-73.4, -94.9, -88.4, 72.4, 43.1, 41.1),
        "lnm": (-96.9, -96.7, -96.3, 43.4, 42.9, 40.7), "rmtpp": (-76.6, -76.4, -77.2, 40.4, 42.8, 40.0),
    },
    "tpp-stackoverflow": {
        "thp": (-83.6, -85.0, -83.9, 105.9, 102.9, 103.0), "sahp": (-87.1, -90.2, -80.0, 111.0, 103.2, 103.2),
        "lnm": (-91.0, -91.1, -90.4, 106.4, 103.1, 103.0), "rmtpp": (-83.3, -83.3, -83.0, 106.4, 103.1, 103.1),
    },
}  # fmt: skip


def load() -> dict[str, dict[str, dict[int, dict]]]:
    """Set -> kind -> split -> result."""
    found: dict[str, dict[str, dict[int, dict]]] = {}
    for path in sorted((HERE / "results").rglob("split-*.json")):
        run = json.loads(path.read_text())
        label = run["kind"] if run["method"] == "Sum()" else f"{run['kind']} {run['method'].split('(')[0]}"
        found.setdefault(run["set"], {}).setdefault(label, {})[run["split"]] = run
    return found


def value(run: dict, figure: str, stop: str = "joint") -> float:
    """A figure of the jointly best epoch, or of the best epoch of the figure's own task."""
    if stop == "own":
        stop = "time" if figure in ("nll_time", "pce", "ks", "mae") else "mark"
    return run["test"][stop].get(figure, float("nan"))


def difference(one: dict[int, dict], other: dict[int, dict], figure: str, stops: tuple[str, str]) -> Interval:
    """One minus the other, paired by split."""
    both = sorted(one.keys() & other.keys())
    return interval(value(one[s], figure, stops[0]) - value(other[s], figure, stops[1]) for s in both)


def shown(found: Interval, digits: int) -> str:
    """Mean and interval; bold where the interval is on one side of 0."""
    text = f"{found.mean:+.{digits}f} ± {found.half:.{digits}f}"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print everything."""
    for name, kinds in load().items():
        runs = [run for found in kinds.values() for run in found.values()]
        sizes = runs[0]["sizes"]
        print(f"\n## {name}\n")
        print(
            f"{runs[0]['epochs']} epochs, batch {runs[0]['batch']}, Adam at {runs[0]['lr']}; sequences and events of "
            f"split 0: {', '.join(f'{part} {n} / {e}' for part, (n, e) in sizes.items())}. "
            f"{sum(len(found) for found in kinds.values())} runs.\n"
        )
        order = [f + v for f in FAMILIES for v in VARIANTS if f + v in kinds] + sorted(k for k in kinds if " " in k)
        print("### Figures, best epoch by the sum of both losses\n")
        rows = []
        for kind in order:
            cells = []
            for figure, (_, digits) in FIGURES.items():
                numbers = [value(run, figure) for run in kinds[kind].values()]
                cells.append(f"{np.mean(numbers):.{digits}f}")
            parameters = next(iter(kinds[kind].values()))["parameters"]
            rows.append([kind, str(len(kinds[kind])), str(parameters), *cells])
        print(table(["model", "splits", "parameters", *(label for label, _ in FIGURES.values())], rows))
        differences(kinds, order)
        causes(kinds)
        conflicts(kinds, order)
        against_published(name, kinds)


def differences(kinds: dict[str, dict[int, dict]], order: list[str]) -> None:
    """Variants against the base of their family, methods against the plain sum."""
    print("### Difference from the base model, paired by split (bold: interval on one side of 0)\n")
    rows = []
    for kind in order:
        base = kind.split(" ")[0] if " " in kind else next((f for f in FAMILIES if kind.startswith(f)), "")
        base = "sthp+" if base == "sthp" else base
        if kind == base or base not in kinds:
            continue
        cells = [shown(difference(kinds[kind], kinds[base], f, ("joint", "joint")), d) for f, (_, d) in FIGURES.items()]
        rows.append([f"{kind} − {base}", *cells])
    print(table(["", *(label for label, _ in FIGURES.values())], rows))


def causes(kinds: dict[str, dict[int, dict]]) -> None:
    """The three causes that the study mixes, one contrast each."""
    contrasts = {
        "no shared decoder, same form: −D − base": ("-d", "", "joint", "joint"),
        "no shared encoder either: −DD − (−D)": ("-dd", "-d", "joint", "joint"),
        "mark head that sees the time: + − (−D)": ("+", "-d", "joint", "joint"),
        "no shared encoder: ++ − +": ("++", "+", "joint", "joint"),
        "separate stopping of ++: own − joint": ("++", "++", "own", "joint"),
        "separate stopping of the base: own − joint": ("", "", "own", "joint"),
    }
    print("### The causes apart: differences paired by split, averaged over families\n")
    rows = []
    for text, (one, other, *stops) in contrasts.items():
        cells = []
        families = [f for f in FAMILIES if f + one in kinds and f + other in kinds]
        for figure, (_, digits) in FIGURES.items():
            splits = sorted(set.intersection(*(kinds[f + one].keys() & kinds[f + other].keys() for f in families)))
            means = [
                np.mean([value(kinds[f + one][s], figure, stops[0]) - value(kinds[f + other][s], figure, stops[1])
                         for f in families])
                for s in splits
            ]  # fmt: skip
            cells.append(shown(interval(means), digits))
        rows.append([text, ", ".join(families), *cells])
    print(table(["contrast", "families", *(label for label, _ in FIGURES.values())], rows))


def conflicts(kinds: dict[str, dict[int, dict]], order: list[str]) -> None:
    """CG, GMS, TPI of the shared parameters."""
    print("### Conflict in shared parameters (per cent; mean over splits)\n")
    rows = []
    for kind in order:
        for part in ("encoder", "decoder"):
            found = [run["conflict"][part] for run in kinds[kind].values() if part in run["conflict"]]
            if not found:
                continue
            mean = {key: np.mean([entry[key] for entry in found]) for key in found[0]}
            rows.append([
                kind, part, *(f"{100 * mean[key]:.0f}" for key in ("cg_published", "cg_tensor", "cg_whole")),
                f"{mean['cosine_tensor']:+.2f}", f"{mean['cosine_whole']:+.2f}",
                *(f"{mean[key]:.2f}" for key in ("gms_tensor", "tpi_tensor", "gms_whole", "tpi_whole")),
            ])  # fmt: skip
    head = ["model", "part", "CG published", "CG by tensor", "CG whole", "cos by tensor", "cos whole"]
    print(table([*head, "GMS by tensor", "TPI by tensor", "GMS whole", "TPI whole"], rows))


def against_published(name: str, kinds: dict[str, dict[int, dict]]) -> None:
    """Our differences to the base beside the published ones."""
    if name not in PUBLISHED:
        return
    print("### Beside the published tables: difference to the base, nats per sequence\n")
    rows = []
    for family, numbers in PUBLISHED[name].items():
        for i, variant in enumerate(("+", "++"), 1):
            if family + variant in kinds and family in kinds:
                pair = (kinds[family + variant], kinds[family])
                rows.append([
                    family + variant,
                    f"{numbers[i] - numbers[0]:+.1f}", shown(difference(*pair, "nll_time", ("joint", "joint")), 1),
                    f"{numbers[3 + i] - numbers[3]:+.1f}", shown(difference(*pair, "nll_mark", ("joint", "joint")), 1),
                ])  # fmt: skip
    print(table(["model", "NLL_T published", "NLL_T here", "NLL_M published", "NLL_M here"], rows))


if __name__ == "__main__":
    main()
