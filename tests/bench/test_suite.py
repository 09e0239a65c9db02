"""Suites: every mistake in one line with its place; the plan is what was asked for; nothing is done twice."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from accord import cli
from accord.bench import config as configuration
from accord.bench import files, plan, pool, store
from accord.bench.config import configure, vary
from accord.bench.memory import Peak
from accord.bench.run import run
from accord.bench.suite import parse, read
from accord.errors import AccordError
from stored import TINY, tiny

SUITES = Path(__file__).parents[2] / "suites"
GOOD = f"""name: a
problems:
  - {TINY}
methods: [UPGrad, Sum()]
seeds: 2
"""


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Call the command line in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return called


def mistakes(text: str) -> list[str]:
    with pytest.raises(AccordError) as error:
        parse(text, "a.yaml")
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sed: 3", "a.yaml, line 6: the suite has no field 'sed'. Did you mean 'seeds'?"),
        ("seeds: 3", "a.yaml, line 6: 'seeds' is given twice."),
        ("sparse: [dense, PNS]", "a.yaml, line 6: rule 'PNS' is unknown. Did you mean 'PSN'?"),
        ("sparse_order: combine-then-mask", "a.yaml, line 6: sparse_order is given without a rule"),
        ("sparse_single_tasks: true", "a.yaml, line 6: sparse_single_tasks is given without a rule"),
        ("anchor: [-1]", "a.yaml, line 6: anchor.0 is -1: input should be"),
        ("epochs: '3'", "a.yaml, line 6: epochs.every problem is '3': input should be a valid integer"),
        ("epochs: {digts: 3}", "which is no problem of the suite. Did you mean 'digits'?"),
        ("lr: -1", "input should be greater than 0"),
        ("optimizer: Adm", "a.yaml, line 6: optimizer is 'Adm'"),
        ("optimizer: Adm", "Did you mean 'Adam'?"),
        ("mode: equal-stps", "Did you mean 'equal-steps'?"),
        ("single_tasks: 1", "single_tasks is 1: input should be a valid boolean"),
        ("architectures: [hard, mmoe]", "a.yaml, line 6: digits has no setting 'architecture'"),
        ("encoders: [mlp]", "digits has no setting 'encoder'"),
        ("search:\n  trials: 0", "a.yaml, line 7: search.trials is 0"),
        ("search:\n  trails: 3", "a.yaml, line 7: the suite has no field 'search.trails'. Did you mean 'trials'?"),
        ("search: {low: 1e-2, high: 1e-3}", "search.low is 0.01, above search.high, which is 0.001"),
        ("search: {seeds: []}", "list should have at least 1 item"),
        ("threads: {", "this is no YAML"),
        ("threads: !!python/object/apply:os.getcwd []", "a.yaml, line 6: this is no YAML: could not determine"),
        ("x: &x 1\ny: *x", "a.yaml, line 7: *x is an alias"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(line, expected):
    (found,) = [text for text in mistakes(GOOD + line) if expected in text]
    assert found.startswith("a.yaml")


def test_every_mistake_is_told_with_its_own_line():
    text = "name: a b\nproblems: [digits, dgits]\nmethods:\n- UPgrad\n- Sum\n- Sum()\nseeds: [1, 1]\n"
    found = mistakes(text)
    assert [line.split(":")[0] for line in found] == [f"a.yaml, line {n}" for n in (1, 2, 4, 7)]
    assert "Did you mean 'digits'?" in found[1]
    assert "Did you mean 'UPGrad'?" in found[2]
    assert mistakes("name: a\nproblems: [digits]\nmethods: [Sum, Sum()]") == [
        "a.yaml, line 3: 'Sum()' is listed twice."
    ]


@pytest.mark.parametrize("text", ["", "3", "- a", "1: 2"])
def test_what_is_no_suite(text):
    assert "holds no suite" in mistakes(text)[0]


def test_missing_fields_and_files(tmp_path):
    assert mistakes("name: a") == [
        "a.yaml, line 1: the suite needs the field 'methods'.",
        "a.yaml, line 1: the suite needs the field 'problems'.",
    ]
    with pytest.raises(AccordError, match="cannot be read .No such file.*name a YAML file"):
        read(tmp_path / "none.yaml")


def test_a_spelling_cut_by_a_comma_gets_a_hint():
    found = mistakes("name: a\nproblems: [digits(width=3, batch=2)]\nmethods: [Sum]")
    assert all("put quotes around it" in line for line in found)


def test_numbers_and_spellings_are_understood():
    suite = parse(GOOD + "lr: {digits: 1e-3}\nsearch: {low: 1e-4, high: 1e-2, seeds: 2}", "a.yaml")
    assert suite.methods == ["UPGrad()", "Sum()"]
    assert suite.seeds == [0, 1]
    assert suite.given("lr", suite.problems[0]) == {"lr": 1e-3}
    assert suite.search.low == 1e-4
    assert suite.search.seeds == [0, 1]


def test_the_plan_is_seed_by_seed_and_baselines_are_trained_once():
    text = """
name: a
problems: ["adult(epochs=1)", digits]
methods: [Sum]
seeds: [5, 7]
single_tasks: true
"""
    suite = parse(text, "a.yaml")
    arms = plan.arms(suite)
    assert [arm.label for arm in arms][-4:] == ["Sum()", "single-left", "single-right", "single-sum"]
    assert [config.seed for config in plan.runs(suite, arms)] == [5] * len(arms) + [7] * len(arms)
    composed = parse(text.replace(", digits", "") + "architectures: [hard, mmoe]\nencoders: [mlp]\n", "a.yaml")
    found = [(arm.problem, arm.label) for arm in plan.arms(composed)]
    problems = list(dict.fromkeys(problem for problem, _ in found))
    assert problems[0] == "adult(epochs=1)"
    assert "mmoe" in problems[1]
    assert [problem for problem, label in found if label.startswith("single-")] == [problems[0]] * (len(found) - 2)


def test_two_runs_of_one_folder_are_refused():
    suite = parse(GOOD.replace(f"- {TINY}", "- digits(epochs=2)\n  - digits") + "epochs: 3", "a.yaml")
    assert len(plan.arms(suite)) == 2, "the same problem twice is trained once"
    suite = parse(GOOD.replace(f"- {TINY}", "- digits(epochs=2)\n  - digits") + "epochs: 3\nlr: {'digits': 0.1}", "a")
    assert len(plan.arms(suite)) == 2
    suite = parse(
        GOOD.replace(f"- {TINY}", "- digits(epochs=2)\n  - digits") + "epochs: 3\nlr: {digits(epochs=2): 0.1}", "a"
    )
    with pytest.raises(AccordError, match="two runs of the suite are both called"):
        plan.arms(suite)


def test_changes_and_conflicts(tmp_path):
    suite = parse(GOOD, "a.yaml")
    configs = plan.runs(suite, plan.arms(suite))
    plan.write(suite, configs, tmp_path)
    assert list(plan.changes(suite, tmp_path)) == []
    other = parse(GOOD.replace("UPGrad", "PCGrad") + "lr: 0.5", "a.yaml")
    assert list(plan.changes(other, tmp_path)) == [
        "methods: + PCGrad(), - UPGrad()",
        "lr: {} before, {'every problem': 0.5} now",
    ]
    files.write_json(tmp_path / configs[-1].place / store.CONFIG, configs[-1].model_dump(mode="json"))
    plan.conflicts(configs, tmp_path)
    changed = plan.runs(other, plan.arms(other))
    with pytest.raises(AccordError, match=r"holds 1 of 4 runs with other settings.*lr=0\.003, now 0\.5; choose"):
        plan.conflicts(changed, tmp_path)


def test_dry_run_runs_nothing(call, tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD + "search: {trials: 3, weights: 2, epochs: 1}")
    code, out, err = call("bench", "a.yaml", "--dry-run")
    assert (code, err) == (0, "")
    assert "4 runs" not in out, "the tuned weighted sum is one more arm"
    assert "6 runs, 0 of them finished" in out
    joined = " ".join(out.split())
    assert "13 trials of 13 epochs in all" in joined  # (1 + 1) x 3 + 2 x 3 + 1
    assert "Weighted sums get 2 times the trials" in joined
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_a_suite_from_end_to_end(call, tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text((SUITES / "tiny.yaml").read_text().replace("seeds: 2", "seeds: 1"))
    code, out, err = call("bench", "tiny.yaml", "--out", "out")
    assert (code, err) == (0, "")
    assert "[5/5]" in out
    assert "Δm %" in out
    assert "accord report out" in out
    planned = json.loads((tmp_path / "out" / "plan.json").read_text())
    found = {run.path.relative_to("out").as_posix() for run in store.load_runs("out")}
    assert {entry["place"] for entry in planned["runs"]} == found
    assert planned["counts"] == {"runs": 5, "epochs": 10}
    monkeypatch.setattr("accord.bench.run.Training", None)  # nothing may be trained
    code, out, _ = call("bench", "tiny.yaml", "--out", "out")
    assert code == 0
    assert "5 runs, 5 of them finished" in out


def test_a_folder_in_use_is_refused(call, tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "out").mkdir()
    with files.lock(tmp_path / "out"):
        code, _, err = call("bench", "a.yaml", "--out", "out")
    assert code == 2
    assert "being written by another process" in err


def test_waiting_for_a_lock(tmp_path):
    """Another process holds it for a moment, as one that is being killed does."""
    code = (
        f"import fcntl, os, time; f = open({str(tmp_path / 'lock')!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(0.3)"
    )
    with subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AccordError, match="being written"), files.lock(tmp_path):
            pass
        with files.lock(tmp_path, patience=60):
            assert holder.poll() is not None or holder.wait(60) == 0


def test_steps_end_where_they_are_told_to(tmp_path):
    """Four steps per epoch: the second epoch is cut short after one; up to there it is the same training."""
    whole, cut = run(tiny(), tmp_path / "whole"), run(tiny(max_steps=5), tmp_path / "cut")
    assert tiny(max_steps=5).place == tiny().place
    assert (cut.result["steps"], cut.result["epochs"], cut.result["selected_epoch"]) == (5, 2, 2)
    assert cut.history[0]["validation"] == whole.history[0]["validation"]
    record = whole.record()
    first_of_second = dict(zip(record.tasks, record.losses[record.index == 4][0].tolist(), strict=True))
    assert cut.history[1]["train_loss"] == pytest.approx(first_of_second, rel=1e-6)
    exact = run(tiny(max_steps=8), tmp_path / "exact")
    assert exact.history[1]["validation"] == whole.history[1]["validation"]
    assert exact.result["epochs"] == 2


def test_an_arm_has_a_name_of_its_own():
    config = tiny(arm="tuned weighted sum", method="Constant(weights=[1, 2, 3])")
    assert config.label == "tuned weighted sum"
    assert config.place.parts[-2:] == ("tuned weighted sum", "seed-0")
    for wrong in ("", " ", "a/b", "..", "single-left", "a\nb"):
        with pytest.raises(AccordError, match="expected a name for a folder"):
            tiny(arm=wrong)
    assert vary(config, seed=3).settings() == {**config.settings(), "seed": 3}


def test_configurations_of_earlier_versions_are_read(tmp_path):
    values = tiny().model_dump(mode="json")
    old = {name: value for name, value in values.items() if name not in ("max_steps", "arm")}
    files.write_json(tmp_path / "config.json", old)
    assert configuration.read(tmp_path / "config.json") == tiny()


def test_what_a_run_costs_is_stored(tmp_path):
    result = run(tiny(epochs=1), tmp_path).result
    assert 0 < result["loading_seconds"] < result["seconds"] < result["wall_seconds"]
    assert result["peak_bytes"] is None or result["peak_bytes"] > 0


def test_peak_memory_is_seen_again_after_it_was_freed():
    """Bytes of 64 MiB; the second time the process has been larger before."""
    found = []
    for _ in range(2):
        peak = Peak()
        peak.begin()
        del (block := bytearray(2**26))[:]
        del block
        peak.end()
        found.append(peak.bytes)
    if None in found:
        pytest.skip("the system does not tell the highest resident size")
    assert all(0.9 * 2**26 < size < 1.5 * 2**26 for size in found)


def test_one_of_each_kind_first_then_the_longest():
    configs = [tiny(method=method, seed=seed) for seed in (0, 1, 2) for method in ("Sum()", "UPGrad()", "PCGrad()")]
    queue = pool.Queue(dict(enumerate(configs)))
    assert [queue.next() for _ in range(3)] == [0, 1, 2]
    queue.took(0, 1.0)
    queue.took(2, 5.0)
    assert queue.next() == 4, "who is still going on takes longest"
    queue.took(1, 2.0)
    assert [queue.next() for _ in range(6)] == [5, 8, 7, 3, 6, None]


def test_every_suite_of_the_repository_is_right():
    found = sorted(SUITES.glob("*.yaml"))
    assert SUITES / "tiny.yaml" in found
    for path in found:
        assert plan.arms(read(path))


def test_a_configuration_names_the_machine_it_was_made_on():
    assert configure(problem="digits").versions == configuration.versions()


@pytest.mark.parametrize("content", ["", "[]", '{"suite": []}'])
def test_a_damaged_plan_costs_no_run(tmp_path, content):
    (tmp_path / plan.PLAN).write_text(content)
    with pytest.raises(AccordError, match=r"plan\.json is damaged: .* Remove this one file") as error:
        list(plan.changes(parse(GOOD, "a.yaml"), tmp_path))
    assert "Remove the folder" not in str(error.value)


def test_brackets_without_end_are_a_mistake():
    with pytest.raises(AccordError, match="nested too deeply"):
        parse("{name: a, problems: " + "[" * 1500 + "]" * 1500 + "}", "a.yaml")


def test_additions_are_crossed_and_each_arm_has_a_folder():
    text = """
name: a
problems: ["digits(epochs=1)"]
methods: [Sum, UPGrad]
seeds: 1
sparse: [dense, "PSN(k=3)"]
anchor: [0, 0.5]
single_tasks: true
"""
    suite = parse(text, "a.yaml")
    arms = plan.arms(suite)
    found = [arm for arm in arms if arm.tasks is None]
    expected = {(m, s, a) for m in ("Sum()", "UPGrad()") for s in (None, "PSN(k=3)") for a in (None, 0.5)}
    assert {(arm.method, arm.sparse, arm.anchor) for arm in found} == expected
    assert len({arm.place for arm in arms}) == len(arms) == len(expected) + 3
    assert all(
        arm.sparse is None and arm.anchor is None for arm in arms if arm.tasks is not None
    )  # baselines are dense
    sparse_alone = plan.arms(parse(text + "sparse_single_tasks: true\n", "a.yaml"))
    alone = [(arm.tasks, arm.sparse) for arm in sparse_alone if arm.tasks is not None]
    assert sorted(rule or "" for _, rule in alone) == [""] * 3 + ["PSN(k=3)"] * 3
