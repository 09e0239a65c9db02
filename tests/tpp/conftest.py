"""A command line with a data folder of its own, an imported table, and a model of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import DATES, table

from accord import cli


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in an empty folder with a data folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ACCORD_DATA", str(tmp_path / "data"))

    def called(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return called


@pytest.fixture
def clicks(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> str:
    """An imported table."""
    arguments = ["data", "import", table(tmp_path / "clicks.csv", 0), "--as", "clicks", "--unit", "second", *DATES]
    assert call(*arguments)[0] == 0
    return "tpp:clicks"


@pytest.fixture
def fitted(call: Callable[..., tuple[int, str, str]], clicks: str) -> Path:
    """The folder of a model of it."""
    assert call("tpp", "fit", clicks, "lnm+", "--out", "fit", "--epochs", 2)[0] == 0
    return Path("fit")
