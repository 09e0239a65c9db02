"""Problems on tables: features by hand, parts apart, losses and metrics against slow oracles, wrong files."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from accord.data import VARIABLE
from accord.errors import AccordError
from accord.problems import adult, mulan, school, tabular, tox21
from accord.problems.adult import Adult
from accord.problems.mulan import MULAN, Mulan
from accord.problems.school import School
from accord.problems.tox21 import Tox21
from accord.sharing import discover

BESIDE = Path(__file__).parents[3] / "shared" / "data"  # where a checkout beside shared data has them


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def real(monkeypatch):
    if VARIABLE not in os.environ and BESIDE.is_dir():
        monkeypatch.setenv(VARIABLE, str(BESIDE))

    def data(problem):
        try:
            return problem.data(0)
        except AccordError as error:
            pytest.skip(str(error))

    return data


def stored(path: Path, table: pl.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(path)
    return path


def refused(problem, *parts: str) -> None:
    with pytest.raises(AccordError) as error:
        problem.data(0)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def census(count: int = 400, **changes) -> pl.DataFrame:
    """Invented people, in the layout of the file."""
    rng = np.random.default_rng(0)
    table = {name: rng.integers(1, 90, count) for name in (*adult.NUMERIC, "hours_per_week", "fnlwgt")}
    levels = adult.NOMINAL | {"marital_status": adult.MARITAL, "income": ("<=50K", ">50K")}
    table |= {name: rng.choice(of, count).tolist() for name, of in levels.items()}
    table["workclass"] = [None if number % 10 == 0 else level for number, level in enumerate(table["workclass"])]
    table |= {
        "relationship": ["Wife"] * count,
        "split": ["test" if number % 3 == 0 else "train" for number in range(count)],
    }
    return pl.DataFrame(table | changes)


def table_of(stem: str, count: int = 60, **changes) -> pl.DataFrame:
    """Invented rows, in the layout of a Mulan set."""
    rng = np.random.default_rng(0)
    layout = mulan.LAYOUTS[stem]
    columns = {name: rng.choice(levels, count).tolist() for name, levels in layout.nominal.items()}
    for number in range(layout.inputs - len(layout.nominal)):
        values = rng.normal(3, 2, count).tolist()
        columns[f"input_{number}"] = [None, *values[1:]] if number < layout.gaps else values
    columns |= {name: rng.normal(5, 2, count) for name in layout.targets.values()}
    return pl.DataFrame(columns | changes)


def pupils(**changes) -> dict[str, np.ndarray]:
    """Invented pupils, 22 to 40 at each school, in the layout of the file."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(school.SCHOOLS), rng.integers(22, 41, school.SCHOOLS)).astype(np.int16)
    x = rng.integers(0, 2, (len(task), school.COLUMNS)).astype(np.uint8)
    x[:, school.PERCENTAGES] = rng.integers(3, 91, (len(task), 2))
    x[:, -1] = 1
    return {"X": x, "y": rng.integers(1, 71, len(task)).astype(np.uint8), "task": task} | changes


def store_pupils(place: Path, **changes) -> Path:
    path = place / school.FILE
    path.parent.mkdir(parents=True)
    np.savez(path, **{name: array for name, array in pupils(**changes).items() if array is not None})
    return path


def assays(count: int = 300) -> pl.DataFrame:
    """Invented molecules, every third one twice, in the layout of the file."""
    rng = np.random.default_rng(0)
    smiles = [
        "".join(rng.choice(list("CNOc1(=)F"), 6)) + "Cl" * (number % 3) + f"[{number}H]" for number in range(count)
    ]
    smiles += smiles[::3]
    labels = rng.integers(-1, 2, (len(smiles), 12)).astype(float)
    columns = {name: [None if x < 0 else int(x) for x in labels[:, k]] for k, name in enumerate(tox21.ASSAYS)}
    return pl.DataFrame(columns | {"mol_id": [f"M{number}" for number in range(len(smiles))], "smiles": smiles})


def store_assays(place: Path, table: pl.DataFrame) -> Path:
    path = place / tox21.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(table.write_csv().encode()))
    return path


def whole(part):
    """A part as one batch."""
    return (lambda batch: part.prepare(batch) if part.prepare else batch)(dict(part.tensors))


class TestTables:
    def test_statistics_are_those_of_the_training_rows(self):
        rng = np.random.default_rng(0)
        values, train = rng.normal(3, 2, (20, 3)), np.arange(12)
        values[5, 0] = values[15, 1] = np.nan
        found = tabular.standardised(values, train)
        for column in range(3):
            known = values[train, column][~np.isnan(values[train, column])]
            expected = (values[:, column] - known.mean()) / known.std()
            np.testing.assert_allclose(found[:, column], np.where(np.isnan(expected), 0, expected))

    def test_columns_that_do_not_vary_or_are_empty_say_nothing(self):
        values = np.column_stack([np.full(6, 0.1), np.full(6, np.nan), np.arange(6.0)])
        values[4:, 0], values[5, 1] = 1e9, 7
        assert (tabular.standardised(values, np.arange(4))[:, :2] == 0).all()

    def test_three_times_a_tenth_does_not_vary(self):
        assert (tabular.standardised(np.full((7, 1), 0.1), np.arange(7)) == 0).all()

    @pytest.mark.parametrize(
        ("labels", "empty"), [([[1, -1], [0, -1]], [False, True]), ([[1, 0], [-1, 1]], [False, False])]
    )
    def test_a_loss_is_the_mean_over_labelled_examples(self, labels, empty):
        model = Tox21.tiny().model(0)
        batch = {"x": torch.rand(2, 64), "y": torch.tensor(labels, dtype=torch.int8)}
        losses = tabular.binary_losses(model, batch, tox21.ASSAYS[:2])
        for k, (task, loss) in enumerate(losses.items()):
            known = batch["y"][:, k] >= 0
            head = [*model.heads[task].parameters(), *model.encoder.parameters()]
            found = torch.autograd.grad(loss, head, retain_graph=True)
            if empty[k]:
                assert loss == 0
                assert not any(gradient.any() for gradient in found)
                continue
            logit = model(batch["x"][known])[task][:, 0]
            expected = binary_cross_entropy_with_logits(logit, batch["y"][known, k].float())
            torch.testing.assert_close(loss, expected)
            for one, other in zip(found, torch.autograd.grad(expected, head), strict=True):
                torch.testing.assert_close(one, other)

    def test_a_part_with_one_class_names_the_task(self):
        batch = {"x": torch.rand(3, 64), "y": torch.ones(3, 12, dtype=torch.int8)}
        with pytest.raises(AccordError, match="NR-AR: 3 positive and 0 negative"):
            tabular.binary_metrics(Tox21.tiny().model(0), [batch], tox21.ASSAYS)


class TestAdult:
    problem = Adult.tiny()

    def test_features_and_labels_by_hand(self, place):
        stored(place / adult.FILE, census())
        data, table = Adult().data(0), census()
        rows = np.array(sorted(data.origin["train"]))
        age = table["age"].to_numpy().astype(float)
        part = whole(data.train)
        order = torch.argsort(part["x"][:, 0], stable=True)  # rows of a part are in the order of the cut
        expected = np.sort((age[rows] - age[rows].mean()) / age[rows].std())
        np.testing.assert_allclose(part["x"][order, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
        test, rows = whole(data.test), np.flatnonzero(table["split"] == "test")
        np.testing.assert_allclose(
            test["x"][:, 0].numpy(), (age[rows] - age[sorted(data.origin["train"])].mean())
            / age[sorted(data.origin["train"])].std(), rtol=1e-5, atol=1e-6,
        )  # fmt: skip
        for number, row in enumerate(rows.tolist()):
            expected = []
            for name, levels in adult.NOMINAL.items():
                expected += [float(table[name][row] == level) for level in levels] + [float(table[name][row] is None)]
            assert test["x"][number, len(adult.NUMERIC) :].tolist() == expected
            person = table.row(row, named=True)
            assert test["y"][number].tolist() == [
                int(person["income"] == ">50K"),
                int(person["marital_status"] == "Never-married"),
                int(person["hours_per_week"] > 40),
            ]

    @pytest.mark.parametrize("column", ["marital_status", "relationship", "hours_per_week", "fnlwgt", "income"])
    def test_what_gives_a_target_away_is_no_input(self, tmp_path, monkeypatch, column):
        parts = []
        for name, table in (("one", census()), ("other", census().with_columns(pl.col(column).reverse()))):
            (tmp_path / name).mkdir()
            monkeypatch.setenv(VARIABLE, str(tmp_path / name))
            stored(tmp_path / name / adult.FILE, table)
            parts.append(whole(Adult().data(0).train))
        assert torch.equal(parts[0]["x"], parts[1]["x"])

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_other_parts_do_not_change_the_training_part(self, tmp_path, monkeypatch, part):
        found = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            monkeypatch.setenv(VARIABLE, str(tmp_path / name))
            table = census()
            if found:
                changed = pl.Series([row in found[0].origin[part] for row in range(len(table))])
                table = table.with_columns(
                    pl.when(changed).then(pl.col(column) * 1000 + 7).otherwise(pl.col(column))
                    for column in adult.NUMERIC
                )
            stored(tmp_path / name / adult.FILE, table)
            found.append(Adult().data(0))
        one, other = found
        assert torch.equal(one.train.tensors["x"], other.train.tensors["x"])
        assert not torch.equal(getattr(one, part).tensors["x"], getattr(other, part).tensors["x"])

    def test_the_official_test_part_stays(self, place):
        stored(place / adult.FILE, census())
        official = set(np.flatnonzero(census()["split"] == "test").tolist())
        for seed in range(3):
            origin = Adult().data(seed).origin
            assert origin["test"] == official
            assert len(origin["validation"]) == round(0.1 * (400 - len(official)))

    def test_metrics_equal_those_of_scikit_learn(self, place):
        stored(place / adult.FILE, census())
        data, model = Adult().data(0), Adult().model(0)
        found, batch = Adult().metrics(model, data.test), whole(data.test)
        for k, task in enumerate(Adult.tasks):
            score = model(batch["x"])[task][:, 0].detach()
            assert found[task]["roc_auc"] == pytest.approx(roc_auc_score(batch["y"][:, k], score), rel=1e-9)
            expected = binary_cross_entropy_with_logits(score, batch["y"][:, k].float())
            assert found[task]["loss"] == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize(
        ("changes", "parts"),
        [
            (lambda t: t.drop("age"), ["lacks the column 'age'", "it has"]),
            (lambda t: t.with_columns(pl.lit("x").alias("age")), ["'age' holds String, expected numbers"]),
            (lambda t: t.with_columns(pl.lit(1).alias("sex")), ["'sex' holds Int32, expected texts"]),
            (lambda t: t.with_columns(pl.lit(None, pl.Int32).alias("age")), ["age is empty in some row"]),
            (lambda t: t.with_columns(pl.lit(float("inf")).alias("age")), ["'age' holds an infinite number"]),
            (lambda t: t.with_columns(pl.lit("Martian").alias("race")), ["race is 'Martian'", "one of White"]),
            (
                lambda t: t.with_columns(
                    pl.when(pl.col("split") == "test")
                    .then(pl.lit("Mars"))
                    .otherwise("native_country")
                    .alias("native_country")
                ),
                ["native_country is 'Mars'", "one of United-States", "and 33 more"],
            ),
            (lambda t: t.with_columns(pl.lit("50K").alias("income")), ["income is '50K'", "<=50K, >50K"]),
            (lambda t: t.with_columns(pl.lit(None, pl.String).alias("income")), ["income is empty in some row"]),
            (lambda t: t.with_columns(pl.lit("train").alias("split")), ["all 400 rows have one split"]),
        ],
    )
    def test_wrong_files(self, place, changes, parts):
        stored(place / adult.FILE, changes(census()))
        refused(self.problem, *parts)

    def test_damaged_files(self, place):
        refused(self.problem, f"{adult.FILE} is not in")
        path = stored(place / adult.FILE, census())
        path.write_bytes(path.read_bytes()[:500])
        refused(self.problem, "cannot be read", "Get it anew")

    def test_the_real_file(self, real):
        data = real(Adult())
        assert [len(data.origin[name]) for name in ("train", "validation", "test")] == [29305, 3256, 16281]
        labels = whole(data.test)["y"].sum(0)
        assert labels[0] == 3846
        levels = torch.cat([whole(getattr(data, name))["x"][:, 4:] for name in ("train", "validation", "test")])
        assert (levels.sum(1) == len(adult.NOMINAL)).all()
        ends = np.cumsum([len(levels) + 1 for levels in adult.NOMINAL.values()]) - 1
        unknown = dict(zip(adult.NOMINAL, levels.sum(0)[ends].int().tolist(), strict=True))
        assert (unknown["workclass"], unknown["occupation"]) == (2799, 2809)
        assert unknown["native_country"] == 857


class TestMulan:
    def test_inputs_gaps_and_levels_by_hand(self, place):
        for stem, kind in (("scpf", mulan.SCPF), ("sf1", mulan.SF1)):
            table, layout = table_of(stem), mulan.LAYOUTS[stem]
            stored(place / mulan.FOLDER / f"{stem}.parquet", table)
            data = kind().data(0)
            train = sorted(data.origin["train"])
            rows = [row for name in ("train", "validation", "test") for row in sorted(data.origin[name])]
            expected = []
            for row in rows:
                numbers, gaps, levels = [], [], []
                for column in table.columns:
                    if column in layout.targets.values():
                        continue
                    if column in layout.nominal:
                        levels += [float(table[column][row] == level) for level in layout.nominal[column]] + [0.0]
                        continue
                    known = np.array([table[column][r] for r in train if table[column][r] is not None])
                    value = table[column][row]
                    numbers.append(0.0 if value is None else (value - known.mean()) / known.std())
                    if table[column].null_count():
                        gaps.append(float(value is None))
                expected.append(numbers + gaps + levels)
            parts = [whole(getattr(data, name)) for name in ("train", "validation", "test")]
            found = torch.cat([part["x"] for part in parts]).numpy()
            targets = torch.cat([part["y"] for part in parts]).numpy()
            key = table[next(iter(layout.targets.values()))].to_numpy()[rows]
            expected = np.array(expected)[np.argsort(key)]
            np.testing.assert_allclose(found[np.argsort(targets[:, 0])], expected, rtol=1e-5, atol=1e-5)
            assert found.shape[1] == layout.width == kind().inputs().width

    def test_other_rows_do_not_change_the_training_part(self, tmp_path, monkeypatch):
        found = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            monkeypatch.setenv(VARIABLE, str(tmp_path / name))
            table = table_of("enb")
            if found:
                changed = pl.Series([row not in found[0].origin["train"] for row in range(len(table))])
                table = table.with_columns(
                    pl.when(changed).then(pl.col(c) * 9 + 1).otherwise(pl.col(c)) for c in table.columns
                )
            stored(tmp_path / name / mulan.FOLDER / "enb.parquet", table)
            found.append(mulan.ENB().data(0))
        one, other = (whole(data.train) for data in found)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert not torch.equal(whole(found[0].test)["x"], whole(found[1].test)["x"])

    def test_losses_and_metrics(self, place):
        stored(place / mulan.FOLDER / "enb.parquet", table_of("enb"))
        problem, table = mulan.ENB(), table_of("enb")
        data, model = problem.data(0), problem.model(0)
        batch, train = whole(data.test), sorted(data.origin["train"])
        losses, found = problem.losses(model, batch), problem.metrics(model, data.test)
        losses = {task: float(loss.detach()) for task, loss in losses.items()}
        for k, (task, column) in enumerate(mulan.LAYOUTS["enb"].targets.items()):
            fitted = table[column].to_numpy()[train]
            predicted = model(batch["x"])[task][:, 0].detach().numpy() * fitted.std() + fitted.mean()
            error = predicted - batch["y"][:, k].numpy()
            spread = batch["y"][:, k].numpy() - fitted.mean()
            assert found[task]["rrmse"] == pytest.approx(np.sqrt((error**2).sum() / (spread**2).sum()), rel=1e-5)
            assert found[task]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
            assert found[task]["loss"] == pytest.approx(losses[task], rel=1e-5)
            assert losses[task] == pytest.approx((error**2).mean() / fitted.var(), rel=1e-4)

    def test_the_training_mean_has_an_rrmse_of_1(self, place):
        stored(place / mulan.FOLDER / "enb.parquet", table_of("enb"))
        problem = mulan.ENB()
        model = problem.model(0)
        for parameter in model.heads.parameters():
            torch.nn.init.zeros_(parameter)
        for task in problem.metrics(model, problem.data(0).test).values():
            assert task["rrmse"] == pytest.approx(1, rel=1e-6)

    def test_a_rare_target_varies_in_the_training_part_of_every_seed(self, place):
        rare = [1.0] + [0.0] * 59
        stored(place / mulan.FOLDER / "sf2.parquet", table_of("sf2", **{"x-class": rare}))
        assert all(0 in mulan.SF2().data(seed).origin["train"] for seed in range(20))

    def test_a_part_without_spread(self):
        problem = mulan.ENB()
        batch = {"x": torch.zeros(2, 8), "y": torch.ones(2, 2), "mean": torch.ones(2), "deviation": torch.ones(2)}
        with pytest.raises(AccordError, match="heating equals its training mean in all 2 rows"):
            problem.metrics(problem.model(0), [batch])

    @pytest.mark.parametrize(
        ("changes", "parts"),
        [
            (lambda t: t.drop("Y2"), ["lacks the column 'Y2'"]),
            (lambda t: t.rename({"Y2": "Y3"}), ["has 9 columns beside its 2 targets (Y1, ...)", "expected 8 inputs"]),
            (lambda t: t.drop("input_3"), ["has 7 columns beside its 2 targets", "expected 8 inputs"]),
            (lambda t: t.with_columns(pl.lit("x").alias("input_3")), ["'input_3' holds String, expected numbers"]),
            (lambda t: t.with_columns(pl.lit(None, pl.Float64).alias("Y1")), ["the target 'Y1' is empty in some row"]),
            (lambda t: t.with_columns(pl.lit(float("nan")).alias("Y2")), ["the target 'Y2' is empty in some row"]),
            (lambda t: t.with_columns(pl.lit(float("inf")).alias("Y1")), ["'Y1' holds an infinite number"]),
            (lambda t: t.with_columns(pl.lit(5.0).alias("Y2")), ["cooling hardly varies"]),
            (
                lambda t: t.with_columns(pl.lit(float("nan")).alias("input_0")),
                ["1 inputs have empty cells, expected 0"],
            ),
        ],
    )
    def test_wrong_files(self, place, changes, parts):
        stored(place / mulan.FOLDER / "enb.parquet", changes(table_of("enb")))
        refused(mulan.ENB(), *parts)

    def test_a_level_nobody_knows(self, place):
        stored(place / mulan.FOLDER / "sf1.parquet", table_of("sf1").with_columns(pl.lit("9").alias("area")))
        refused(mulan.SF1(), "area is '9' in some row, expected one of 1, 2")

    def test_damaged_files(self, place):
        path = place / mulan.FOLDER / "enb.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"not a table")
        refused(mulan.ENB(), "cannot be read", "expected a Parquet file")

    @pytest.mark.parametrize(
        ("stem", "rows", "inputs", "targets"),
        [
            ("atp1d", 337, 411, 6), ("atp7d", 296, 411, 6), ("oes97", 334, 263, 16), ("oes10", 403, 298, 16),
            ("edm", 154, 16, 2), ("sf1", 323, 10, 3), ("sf2", 1066, 10, 3), ("jura", 359, 15, 3), ("wq", 1060, 16, 14),
            ("enb", 768, 8, 2), ("slump", 103, 7, 3), ("andro", 49, 30, 6), ("osales", 639, 401, 12),
            ("scpf", 1137, 23, 3),
        ],
    )  # fmt: skip
    def test_the_real_files(self, real, stem, rows, inputs, targets):
        problem = next(kind for kind in MULAN if kind.stem() == stem)()
        data = real(problem)
        assert sum(map(len, data.origin.values())) == rows
        assert mulan.LAYOUTS[stem].inputs == inputs
        assert len(problem.tasks) == len(set(problem.tasks)) == targets
        assert all(re.fullmatch(r"[a-z]\w*", task) for task in problem.tasks)

    def test_every_set_has_a_class(self):
        assert {kind.stem() for kind in MULAN} == set(mulan.LAYOUTS)
        assert all(issubclass(kind, Mulan) and kind.__doc__ for kind in MULAN)


class TestSchool:
    def test_every_batch_has_a_share_of_every_school_and_every_row_comes_once(self, place):
        store_pupils(place)
        train = School(batch=400).data(0).train
        size = train.tensors["school"].bincount()
        for batches in (list(train), list(train.shuffled(torch.Generator().manual_seed(0)))):
            assert len(batches) == len(train) == round(train.count / 400)
            shares = torch.stack([batch["school"].bincount(minlength=school.SCHOOLS) for batch in batches])  # (S, K)
            assert shares.min() >= 1
            assert (shares >= size // len(train)).all()
            assert (shares <= -(-size // len(train))).all()
            assert torch.equal(shares.sum(0), size)
            totals = shares.sum(1)
            assert totals.max() < 1.2 * totals.min()
            found = torch.cat([torch.cat([b["x"], b["y"][:, None], b["school"][:, None].float()], 1) for b in batches])
            rows = torch.cat(
                [train.tensors["x"], train.tensors["y"][:, None], train.tensors["school"][:, None].float()], 1
            )
            assert Counter(map(tuple, found.tolist())) == Counter(map(tuple, rows.tolist()))

    def test_pupils_of_a_school_meet_others_in_every_epoch(self, place):
        store_pupils(place)
        train = School(batch=1000).data(0).train
        first, second = (next(train.shuffled(torch.Generator().manual_seed(seed)))["y"].tolist() for seed in (0, 1))
        assert first != second

    def test_parts_are_cut_within_each_school(self, place):
        store_pupils(place)
        data = School().data(0)
        size = torch.from_numpy(np.bincount(pupils()["task"]))
        shares = {name: getattr(data, name).tensors["school"].bincount() for name in ("train", "validation", "test")}
        assert torch.equal(sum(shares.values()), size)
        assert (shares["train"] == (0.6 * size).round()).all()
        assert (shares["test"] - 0.2 * size).abs().max() <= 1

    def test_percentages_alone_are_standardised_by_the_training_part(self, place):
        store_pupils(place)
        data = School().data(0)
        x = pupils()["X"].astype(float)
        rows = sorted(data.origin["train"])
        x[:, school.PERCENTAGES] -= x[rows][:, school.PERCENTAGES].mean(0)
        x[:, school.PERCENTAGES] /= x[rows][:, school.PERCENTAGES].std(0)
        for name in ("train", "validation", "test"):
            expected = x[sorted(data.origin[name]), :-1]
            np.testing.assert_allclose(getattr(data, name).tensors["x"].numpy(), expected, rtol=1e-5, atol=1e-6)

    def test_losses_are_those_of_a_loop_over_schools(self, place):
        store_pupils(place)
        problem = School.tiny()
        data, model = problem.data(0), problem.model(0)
        batch = next(data.train.shuffled(torch.Generator().manual_seed(0)))
        mixed = torch.randperm(len(batch["y"]), generator=torch.Generator().manual_seed(0))
        batch |= {name: batch[name][mixed] for name in ("x", "y", "school")}
        marks = data.train.tensors["y"]
        for number, (task, loss) in enumerate(problem.losses(model, batch).items()):
            own = batch["school"] == number
            wanted = (batch["y"][own] - marks.mean()) / marks.std(correction=0)
            torch.testing.assert_close(
                loss, mse_loss(model.heads[task](model.encoder(batch["x"][own]))[:, 0], wanted), rtol=1e-4, atol=1e-5
            )

    def test_each_head_belongs_to_its_school_alone(self, place):
        store_pupils(place)
        problem = School.tiny()
        model = problem.model(0)
        sharing = discover(model, problem.losses(model, next(iter(problem.data(0).train))))
        assert [len(head) for head in sharing.heads] == [2] * school.SCHOOLS
        assert sharing.size == sum(p.numel() for p in model.encoder.parameters())

    def test_a_school_without_pupils_has_the_loss_0_and_no_metrics(self, place):
        store_pupils(place)
        problem = School.tiny()
        model, batch = problem.model(0), whole(problem.data(0).train)
        batch |= {name: batch[name][batch["school"] != 7] for name in ("x", "y", "school")}
        losses = problem.losses(model, batch)
        assert losses["school_008"] == 0
        assert not any(
            g.any() for g in torch.autograd.grad(losses["school_008"], list(model.heads["school_008"].parameters()))
        )
        with pytest.raises(AccordError, match="no row of school_008"):
            problem.metrics(model, [batch])

    def test_metrics_are_those_of_a_loop_and_explain_as_the_literature_does(self, place):
        store_pupils(place)
        problem = School.tiny()
        data, model = problem.data(0), problem.model(0)
        found, batch = problem.metrics(model, data.test), whole(data.test)
        marks = data.train.tensors["y"]
        predicted = torch.zeros(len(batch["y"]))
        for number, task in enumerate(problem.tasks):
            own = batch["school"] == number
            standard = model.heads[task](model.encoder(batch["x"][own]))[:, 0].detach()
            predicted[own] = standard * marks.std(correction=0) + marks.mean()
            expected = (predicted[own] - batch["y"][own]).square().mean()
            assert found[task]["rmse"] == pytest.approx(float(expected.sqrt()), rel=1e-4)
            assert found[task]["loss"] == pytest.approx(float(expected / marks.var(correction=0)), rel=1e-4)
        weight = batch["school"].bincount() / len(batch["school"])
        explained = sum(w * found[task]["explained"] for w, task in zip(weight.tolist(), problem.tasks, strict=True))
        assert explained == pytest.approx(r2_score(batch["y"], predicted), abs=1e-4)

    def test_more_steps_than_pupils(self, place):
        store_pupils(place)
        with pytest.raises(AccordError, match="batch=64 makes .* the smallest school has 13 training rows") as error:
            School(batch=64).data(0)
        suggested = int(str(error.value).split("expected batch=")[1].split()[0])
        assert School(batch=suggested).data(0)

    @pytest.mark.parametrize(
        ("changes", "parts"),
        [
            ({"y": None}, ["cannot be read", "expected the arrays X, y, task"]),
            ({"X": pupils()["X"][:, :-1]}, [f"(N, {school.COLUMNS})"]),
            ({"y": pupils()["y"][:-1]}, ["have the shapes"]),
            ({"X": pupils()["X"] * np.nan}, ["of the types float64, uint8, int16, expected whole numbers"]),
            ({"y": pupils()["y"] * 0}, ["a mark in y lies outside 1 to 70"]),
            ({"y": pupils()["y"] + np.uint8(70)}, ["a mark in y lies outside 1 to 70"]),
            ({"task": pupils()["task"] + np.int16(1)}, ["task reaches from 1 to 139, expected 0 to 138"]),
            ({"task": np.maximum(pupils()["task"], 1)}, ["school 0 has 0 rows, expected at least 10"]),
            ({"X": pupils()["X"][:0], "y": pupils()["y"][:0], "task": pupils()["task"][:0]}, ["a mark in y"]),
        ],
        ids=str,
    )
    def test_wrong_files(self, place, changes, parts):
        store_pupils(place, **changes)
        refused(School.tiny(), *parts)

    def test_damaged_files(self, place):
        path = store_pupils(place)
        path.write_bytes(path.read_bytes()[:500])
        refused(School.tiny(), "cannot be read")

    def test_the_real_file(self, real):
        data = real(School())
        parts = [getattr(data, name).tensors for name in ("train", "validation", "test")]
        size = sum(part["school"].bincount() for part in parts)
        assert (int(size.sum()), int(size.min()), int(size.max()), len(size)) == (15362, 22, 251, 139)
        assert set(torch.cat([part["x"] for part in parts])[:, [0, 1, 2, *range(5, 27)]].unique().tolist()) == {
            0.0,
            1.0,
        }


class TestTox21:
    def test_hashed_counts_equal_those_of_a_loop(self):
        texts = ["CC(=O)Oc1ccccc1C(=O)O", "[Na+].[Cl-]", "C", "BrC%12Cl", "O=C"]

        def bucket(tokens: list[str], buckets: int) -> int:
            value = 0
            for token in tokens:
                value = (value * 0x9E3779B97F4A7C15 + zlib.crc32(token.encode()) + 1) % 2**64
            return ((value ^ value >> 29) * 0xBF58476D1CE4E5B9 % 2**64 >> 32) % buckets

        expected = np.zeros((len(texts), 50), int)
        for row, text in enumerate(texts):
            tokens = re.findall(r"\[[^\]]*\]|Br|Cl|%\d\d|.", text)
            for length in range(1, 5):
                for start in range(len(tokens) - length + 1):
                    expected[row, bucket(tokens[start : start + length], 50)] += 1
        np.testing.assert_array_equal(tox21.hashed(texts, 50), expected)

    def test_hashes_stay_what_they_are(self):
        assert (
            tox21.hashed(["CCO", "[nH]"], 8).tolist()
            == tox21.hashed(["CCO"], 8).tolist() + tox21.hashed(["[nH]"], 8).tolist()
        )
        assert zlib.crc32(tox21.hashed(["CC(=O)Oc1ccccc1C(=O)O"], 1024).tobytes()) == 3467864188

    def test_many_equal_tokens_stop_at_255(self):
        assert tox21.hashed(["C" * 400], 16).max() == 255

    def test_copies_never_lie_in_two_parts(self, place):
        table = assays()
        store_assays(place, table)
        for seed in range(3):
            data = Tox21(buckets=64).data(seed)
            counts = [{tuple(row) for row in getattr(data, name).tensors["x"].tolist()} for name in ("train", "test")]
            assert not counts[0] & counts[1]
            assert sum(map(len, data.origin.values())) == 300
            assert sum(getattr(data, name).count for name in ("train", "validation", "test")) == 400

    def test_labels_and_inputs_of_a_batch(self, place):
        store_assays(place, assays())
        batch = next(iter(Tox21(buckets=64).data(0).train))
        assert batch["y"].dtype == torch.int8
        assert set(batch["y"].unique().tolist()) == {-1, 0, 1}
        counts = next(iter(Tox21(buckets=64).data(0).train.tensors["x"].split(64)))
        torch.testing.assert_close(batch["x"], (1 + counts.float()).log())

    def test_metrics_leave_out_what_has_no_label(self, place):
        store_assays(place, assays())
        problem = Tox21(buckets=64)
        data, model = problem.data(0), problem.model(0)
        found, batch = problem.metrics(model, data.train), whole(data.train)
        for k, task in enumerate(problem.tasks):
            known = batch["y"][:, k] >= 0
            score = model(batch["x"])[task][known, 0].detach()
            assert found[task]["roc_auc"] == pytest.approx(roc_auc_score(batch["y"][known, k], score), rel=1e-9)

    @pytest.mark.parametrize(
        ("changes", "parts"),
        [
            (lambda t: t.drop("SR-p53"), ["lacks the column 'SR-p53'"]),
            (lambda t: t.drop("smiles"), ["lacks the column 'smiles'"]),
            (lambda t: t.with_columns(pl.lit(2).alias("NR-AR")), ["a label is 2, expected 0, 1 or nothing"]),
            (lambda t: t.with_columns(pl.lit(0.5).alias("NR-AR")), ["a label is 0.5"]),
            (lambda t: t.with_columns(pl.lit("NaN").alias("NR-AR")), ["a label is nan"]),
            (lambda t: t.with_columns(pl.lit("toxic").alias("NR-AR")), ["cannot be read", "a label 0, 1 or nothing"]),
            (lambda t: t.with_columns(pl.lit(None, pl.String).alias("smiles")), ["a row has no SMILES"]),
            (lambda t: t.with_columns(pl.lit("C\nC").alias("smiles")), ["a row has no SMILES, or one with blanks"]),
            (lambda t: t.head(0), ["a row has no SMILES"]),
            (lambda t: t.with_columns(pl.lit(0).alias("SR-HSE")), ["lacks active or inactive molecules for SR-HSE"]),
        ],
    )
    def test_wrong_files(self, place, changes, parts):
        store_assays(place, changes(assays()))
        refused(Tox21(buckets=64), *parts)

    def test_damaged_files(self, place):
        path = store_assays(place, assays())
        whole_file = path.read_bytes()
        for broken in (whole_file[: len(whole_file) // 2], b"", b"\x1f\x8b" + b"\0" * 50):
            path.write_bytes(broken)
            tox21._assays.cache_clear()
            refused(Tox21(buckets=64), "cannot be read")

    def test_the_real_file(self, real):
        data = real(Tox21())
        labels = torch.cat([getattr(data, name).tensors["y"] for name in ("train", "validation", "test")])
        assert len(labels) == 8014
        assert int((labels < 0).sum()) == 16595
        assert sorted((labels > 0).sum(0).tolist())[:: len(tox21.ASSAYS) - 1] == [189, 961]
        assert sum(map(len, data.origin.values())) == 7831
