"""Multi-target regression: fourteen small tables of the Mulan collection, one problem each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from accord.architectures import Form, Head, vector
from accord.data import find
from accord.errors import AccordError
from accord.problems import seeds, tabular
from accord.problems.composed import ComposedProblem
from accord.problems.cut import split
from accord.problems.problem import Batch, Data, Examples, Metrics

FOLDER = "mtl/mulan_mtr"
SHARES = (0.6, 0.2)  # train, validation; the rest is for tests
MEASURES = {"rrmse": False, "mae": False}  # whether higher is better
CUTS = 100  # drawn at most until every target varies in the training part


@dataclass(frozen=True)
class Layout:
    """What a table must look like.

    Args:
        targets: by task, the column of its target; all other columns are inputs.
        inputs: how many columns of inputs.
        gaps: how many of them have empty cells.
        nominal: levels of the inputs that are texts.
    """

    targets: Mapping[str, str]
    inputs: int
    gaps: int = 0
    nominal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """D: columns after the texts became one column for each level, and gaps a column of their own."""
        return self.inputs - len(self.nominal) + self.gaps + sum(len(levels) + 1 for levels in self.nominal.values())


@dataclass(frozen=True, repr=False)
class Mulan(ComposedProblem):
    """Predict several numbers from one row of a table.

    No official split exists: each seed cuts the rows 60/20/20, train, validation and test. Inputs are standardised by
    the training part. An empty cell becomes the training mean, and each column that has empty cells anywhere brings a
    second one that says which; texts become one column for each level and one for "unknown". Losses are mean
    squared errors in units of the deviation of the target in the training part.

    The metric is the relative root mean squared error, whose mean over the targets is the field's aRRMSE:

        ``RRMSE = sqrt(sum (y - prediction)^2 / sum (y - mean of y in the training part)^2)``,

    so that 1 is the error of always predicting the training mean. Beside it stands the mean absolute error, in units
    of the target.

    Source: Spyromitros-Xioufis et al. 2016, https://doi.org/10.1007/s10994-016-5546-z, section 5; they report ten-fold
    cross-validation (two or five folds for the larger sets), so figures are near theirs, not equal.

    Args:
        epochs: passes over the training rows; each set has its own default, about where validation errors are least.
        batch: rows per step.
        lr: learning rate.
        architecture: what the tasks share.
        encoder: what they share it of.
    """

    epochs: int = 200
    batch: int = 32
    lr: float = 1e-3

    @classmethod
    def tiny(cls) -> Mulan:
        """Two epochs."""
        return cls(epochs=2, batch=16)

    def data(self, seed: int) -> Data:
        """Another cut for each seed; one in whose training part a target does not vary is drawn again."""
        numbers, others, targets = _table(find(f"{FOLDER}/{self.stem()}.parquet"), self.stem())
        rng = np.random.default_rng(seeds.number(seed, self.name))
        for _ in range(CUTS):
            rows = split(len(targets), SHARES, rng)
            mean, deviation = tabular.moments(targets, rows[0])  # (K,) each
            if deviation.all():
                break
        else:
            constant = self.tasks[int(deviation.argmin())]
            raise AccordError(f"{self.name}: {constant} hardly varies, expected a target with several values.")
        x = np.hstack([tabular.standardised(numbers, rows[0]), others])  # (N, D)
        tensors = {"x": torch.tensor(x, dtype=torch.float32), "y": torch.tensor(targets, dtype=torch.float32)}
        prepare = partial(_with, {"mean": torch.tensor(mean).float(), "deviation": torch.tensor(deviation).float()})
        names, sizes = ("train", "validation", "test"), (self.batch, 4096, 4096)
        parts = {
            name: Examples({key: value[chosen] for key, value in tensors.items()}, size, prepare)
            for name, chosen, size in zip(names, rows, sizes, strict=True)
        }
        return Data(**parts, origin={name: frozenset(part.tolist()) for name, part in zip(names, rows, strict=True)})

    def inputs(self) -> Form:
        """Numbers, gaps and levels, (N, D)."""
        return Form("vector", LAYOUTS[self.stem()].width)

    def heads(self) -> dict[str, Head]:
        """One number for each task."""
        return dict.fromkeys(self.tasks, vector(1))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean squared errors of standardised targets."""
        wanted = (batch["y"] - batch["mean"]) / batch["deviation"]  # (N, K)
        outputs = model(batch["x"])
        return {task: mse_loss(outputs[task][:, 0], wanted[:, k]) for k, task in enumerate(self.tasks)}

    @torch.no_grad()
    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Relative root mean squared error, mean absolute error, and the loss.

        Raises:
            AccordError: if all targets of a task equal their mean in the training part.
        """
        squared = absolute = spread = torch.zeros(len(self.tasks), dtype=torch.float64)  # (K,)
        count, deviation = 0, torch.ones(())
        for batch in batches:
            outputs = model(batch["x"])
            predicted = torch.cat([outputs[task] for task in self.tasks], 1).double()  # (n, K)
            mean, deviation = batch["mean"].double(), batch["deviation"].double()
            error = predicted * deviation + mean - batch["y"]
            squared, absolute = squared + error.square().sum(0), absolute + error.abs().sum(0)
            spread = spread + (batch["y"] - mean).square().sum(0)
            count += len(error)
        if not spread.all():
            raise AccordError(
                f"{self.name}: {self.tasks[int(spread.argmin())]} equals its training mean in all {count} rows, "
                "expected some spread to relate errors to. Use another seed."
            )
        named = {
            "rrmse": (squared / spread).sqrt(),
            "mae": absolute / count,
            "loss": squared / count / deviation.square(),
        }
        return {task: {name: float(values[k]) for name, values in named.items()} for k, task in enumerate(self.tasks)}

    @classmethod
    def stem(cls) -> str:
        """The name of the table."""
        return cls.name.removeprefix("mulan-")


def _with(scale: dict[str, Tensor], batch: Batch) -> Batch:
    return batch | scale


@cache
def _table(path: Path, stem: str) -> tuple[tabular.Floats, tabular.Floats, tabular.Floats]:
    """Numeric inputs with gaps (N, ...), columns of gaps and levels (N, ...), targets (N, K)."""
    layout = LAYOUTS[stem]
    targets = list(layout.targets.values())
    inputs = [name for name in tabular.names(path) if name not in targets]
    if len(inputs) != layout.inputs:
        raise AccordError(
            f"{path} has {len(inputs)} columns beside its {len(targets)} targets ({targets[0]}, ...), "
            f"expected {layout.inputs} inputs. Get it anew."
        )
    numeric = [name for name in inputs if name not in layout.nominal]
    found = tabular.columns(path, [*numeric, *targets], layout.nominal)
    y = np.stack([found[name] for name in targets], 1).astype(np.float64)
    if np.isnan(y).any():
        empty = targets[int(np.isnan(y).any(0).argmax())]
        raise AccordError(f"{path}: the target {empty!r} is empty in some row, expected a number in each. Get it anew.")
    levels = [tabular.one_hot(found[n].astype(np.int64), len(of)) for n, of in layout.nominal.items()]
    numbers = np.stack([found[name] for name in numeric], 1).astype(np.float64) if numeric else np.empty((len(y), 0))
    gaps = np.isnan(numbers)  # (N, numeric)
    gaps = gaps[:, gaps.any(0)]
    if gaps.shape[1] != layout.gaps:
        raise AccordError(f"{path}: {gaps.shape[1]} inputs have empty cells, expected {layout.gaps}. Get it anew.")
    return numbers, np.hstack([gaps.astype(np.float64), *levels]), y


FLARE = {
    "mod_zurich_class": "ABCDEFH", "largest_spot_size": "XRSAHK", "spot_distribution": "XOIC", "activity": "12",
    "evolution": "123", "previous_day_activity": "123", "hist_complex": "12", "become_hist_complex": "12", "area": "12",
    "area_largest": "12",
}  # fmt: skip
FLARE_LEVELS = {name: tuple(levels) for name, levels in FLARE.items()}
FLARES = {"common": "c-class", "moderate": "m-class", "severe": "x-class"}
CARRIERS = {"cheapest": "ALLminpA", "nonstop": "ALLminp0", "delta": "aDLminpA", "continental": "aCOminpA"} | {
    "airtran": "aFLminpA",
    "united": "aUAminpA",
}

TAXA = (25400, 29600, 30400, 33400, 17300, 19400, 34500, 38100, 49700, 50390, 55800, 57500, 59300, 37880)  # no names


def _fares(horizon: str) -> dict[str, str]:
    return {task: f"LBL+{column}+{horizon}" for task, column in CARRIERS.items()}


LAYOUTS = {
    "atp1d": Layout(_fares("fut_001"), 411),
    "atp7d": Layout(_fares("bt7d_000"), 411),
    "oes97": Layout(
        {
            "shipping_clerks": "58028_Shipping__Receiving__and_Traffic_Clerks",
            "production_managers": "15014_Industrial_Production_Managers",
            "physician_assistants": "32511_Physician_Assistants",
            "construction_managers": "15017_Construction_Managers",
            "machine_feeders": "98502_Machine_Feeders_and_Offbearers",
            "crushing_operators": "92965_Crushing__Grinding__Mixing__and_Blending_Machine_Operators_and_Tenders",
            "speech_pathologists": "32314_Speech-Language_Pathologists_and_Audiologists",
            "purchasing_managers": "13008_Purchasing_Managers",
            "accountants": "21114_Accountants_and_Auditors",
            "machinery_mechanics": "85110_Machinery_Maintenance_Mechanics",
            "recreation_workers": "27311_Recreation_Workers",
            "hand_packers": "98902_Hand_Packers_and_Packagers",
            "fast_food_cooks": "65032_Cooks__Fast_Food",
            "machine_operators": "92998_All_Other_Machine_Operators_and_Tenders",
            "psychologists": "27108_Psychologists",
            "teacher_aides": "53905_Teacher_Aides_and_Educational_Assistants__Clerical",
        },
        263,
    ),
    "oes10": Layout(
        {
            "butchers": "513021_Butchers_and_Meat_Cutters",
            "medical_records": "292071_Medical_Records_and_Health_Information_Technicians",
            "animal_caretakers": "392021_Nonfarm_Animal_Caretakers",
            "programmers": "151131_Computer_Programmers",
            "database_administrators": "151141_Database_Administrators",
            "other_physicians": "291069_Physicians_and_Surgeons__All_Other",
            "school_administrators": "119032_Education_Administrators__Elementary_and_Secondary_School",
            "switchboard_operators": "432011_Switchboard_Operators__Including_Answering_Service",
            "estate_agents": "419022_Real_Estate_Sales_Agents",
            "radiologic_technicians": "292037_Radiologic_Technologists_and_Technicians*",
            "inspectors": "519061_Inspectors__Testers__Sorters__Samplers__and_Weighers",
            "pharmacists": "291051_Pharmacists",
            "mechanical_engineers": "172141_Mechanical_Engineers",
            "office_supervisors": "431011_First-Line_Supervisors_of_Office_and_Administrative_Support_Workers",
            "speech_pathologists": "291127_Speech-Language_Pathologists",
            "rental_clerks": "412021_Counter_and_Rental_Clerks",
        },
        298,
    ),
    "edm": Layout({"flow": "DFlow", "gap": "DGap"}, 16),
    "sf1": Layout(FLARES, 10, nominal=FLARE_LEVELS),
    "sf2": Layout(FLARES, 10, nominal=FLARE_LEVELS),
    "jura": Layout({"cadmium": "Cd", "cobalt": "Co", "copper": "Cu"}, 15),
    "wq": Layout(
        {f"taxon_{code}": str(code) for code in TAXA},
        16,
    ),
    "enb": Layout({"heating": "Y1", "cooling": "Y2"}, 8),
    "slump": Layout({"slump": "SLUMP_cm", "flow": "FLOW_cm", "strength": "Compressive_Strength_Mpa"}, 7),
    # the columns are not named; quantities, units and correlations leave no doubt
    "andro": Layout(
        {
            "temperature": "Target",
            "ph": "Target_2",
            "conductivity": "Target_3",
            "salinity": "Target_4",
            "oxygen_saturation": "Target_5",
            "oxygen": "Target_6",
        },
        30,
    ),
    "osales": Layout({f"month_{number}": f"Outcome_M{number}" for number in range(1, 13)}, 401, gaps=25),
    "scpf": Layout({"views": "num_views", "votes": "num_votes", "comments": "num_comments"}, 23, gaps=15),
}


def _named(stem: str, text: str, epochs: int) -> type[Mulan]:
    tasks = tuple(LAYOUTS[stem].targets)
    namespace = {
        "name": f"mulan-{stem}",
        "tasks": tasks,
        "metric": dict.fromkeys(tasks, ("rrmse", False)),
        "measures": dict.fromkeys(tasks, MEASURES),
        "dataset": "mulan_mtr",
        "__doc__": text,
        "__module__": __name__,
    }
    fields = [("epochs", int, epochs)]
    return make_dataclass(f"Mulan{stem.upper()}", fields, bases=(Mulan,), namespace=namespace, frozen=True, repr=False)


ATP1D = _named("atp1d", "The lowest price of a flight on the next day, for six kinds of tickets.", 75)
ATP7D = _named("atp7d", "The lowest price of a flight within the next seven days, for six kinds of tickets.", 40)
OES97 = _named("oes97", "How many people have each of sixteen occupations in a city, 1997.", 30)
OES10 = _named("oes10", "How many people have each of sixteen occupations in a city, 2010.", 40)
EDM = _named("edm", "What an operator does to the flow and the gap of an electrical discharge machine.", 20)
SF1 = _named("sf1", "How many flares of three strengths an active region of the sun will show in a day, 1969.", 10)
SF2 = _named("sf2", "How many flares of three strengths an active region of the sun will show in a day, 1978.", 10)
JURA = _named("jura", "Heavy metals in the soil of the Swiss Jura.", 20)
WQ = _named("wq", "How common each of fourteen taxa is in a river, from the chemistry of its water.", 10)
ENB = _named("enb", "Heating and cooling load of a building.", 300)
SLUMP = _named("slump", "Slump, flow and strength of concrete.", 200)
ANDRO = _named("andro", "Six qualities of sea water, five days ahead.", 75)
OSALES = _named("osales", "Sales of a product online in each of its first twelve months.", 10)
SCPF = _named("scpf", "Views, votes and comments that an issue of a city gets on a platform.", 10)

MULAN = (ATP1D, ATP7D, OES97, OES10, EDM, SF1, SF2, JURA, WQ, ENB, SLUMP, ANDRO, OSALES, SCPF)
