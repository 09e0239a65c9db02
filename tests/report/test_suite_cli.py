"""`accord compare` and `accord tables` as functions: which runs are meant, and what is printed."""

from __future__ import annotations

import pytest

from accord.cli.compare import both, compare, tables
from accord.errors import AccordError

import sample

METHODS = ("Sum()", "UPGrad()", "CAGrad(c=0.5)")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    given = {"gain": {"UPGrad()": 0.05}, "noise": 0.001, "probes": 3, "singles": False}
    return sample.write(tmp_path_factory.mktemp("cli"), sample.Sample(methods=METHODS, **given))


def test_one_folder_and_two_labels(root, capsys):
    compare([root], "Sum", "UPGrad")
    shown = capsys.readouterr().out
    assert shown.startswith("Real: UPGrad() is better than Sum() by +5.")
    assert "left accuracy ↑" in shown
    assert "sign-flip test" in shown


def test_two_folders_of_one_method_each(root, capsys):
    folders = [root / "digits(epochs=4)" / method for method in ("UPGrad()", "Sum()")]
    compare(folders)
    assert capsys.readouterr().out.startswith("Real: Sum() is worse than UPGrad() by -")


def test_what_is_meant_must_be_clear(root):
    with pytest.raises(AccordError, match=r"found 3 methods \(CAGrad\(c=0.5\), Sum\(\), UPGrad\(\)\); name two"):
        compare([root])
    with pytest.raises(AccordError, match="holds 3 methods .* name one with --a"):
        compare([root, root], b="Sum()")
    with pytest.raises(AccordError, match="holds no run of 'UPGrat'. Did you mean 'UPGrad"):
        compare([root], "Sum()", "UPGrat")
    with pytest.raises(AccordError, match=r"both name Sum\(\)"):
        compare([root], "Sum()", "Sum")
    with pytest.raises(AccordError, match="found 3 folders"):
        compare([root, root, root])


def test_of_two_methods_the_plain_sum_is_the_baseline():
    assert both({"CAGrad()": [], "Sum()": []}, None, None) == ("Sum()", "CAGrad()")


def test_tables_are_written(root, tmp_path, capsys):
    tables([root], tmp_path / "new", ["md"])
    (path,) = (tmp_path / "new").iterdir()
    assert capsys.readouterr().out == f"{path}\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(AccordError, match="cannot be written"):
        tables([root], tmp_path / "file" / "x", ["md"])
