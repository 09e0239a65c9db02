"""Sample runs, written once for all tests of the report."""

from __future__ import annotations

import pytest

from accord.bench.store import load_runs
from accord.report.study import studies

import sample


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Five methods, three seeds, single-task baselines."""
    return sample.write(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def runs(folder):
    return load_runs(folder)


@pytest.fixture(scope="session")
def study(runs):
    return studies(runs)[0]


@pytest.fixture
def make(tmp_path):
    """The Study of any sample."""

    def made(**settings):
        root = sample.write(tmp_path / str(len(list(tmp_path.iterdir()))), sample.Sample(**settings))
        return studies(sample.read(root))[0]

    return made
