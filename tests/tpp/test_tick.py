"""The resolution of recorded times, against grids that are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from accord.tpp.events import Events
from accord.tpp.readers import table
from accord.tpp.tick import DIVISORS, tick

# Seconds of one unit and of one step, from the description of the sets.
REAL = {
    "mooc": (257_208.6, 1.0),
    "lastfm": (13_574_827.7, 1.0),
    "reddit": (267_837.1329, 1e-3),
    "stackoverflow": (6_311_638.2787, 1e-3),
    "github": (1.0, 1.0),
    "helpdesk": (1.0, 1.0),
    "bpi12_w": (1.0, 1.0),
    "bpi13_incidents": (1.0, 60.0),
    "taxi": (3600.0, 1.0),
}


def real(name: str) -> Events:
    path = Path(os.environ.get("ACCORD_DATA", "/nowhere"), "tpp", f"{name}.parquet")
    if not path.is_file():
        pytest.skip(f"needs {path.name} in the folder ACCORD_DATA")
    pytest.importorskip("polars", reason="tables need polars")
    return table.read(path).parts["all"]


@pytest.mark.parametrize("name", REAL)
def test_real_sets_lie_on_their_documented_grid(name: str) -> None:
    unit, step = REAL[name]
    assert tick(real(name)) == pytest.approx(step / unit, rel=1e-5)


def test_a_third_of_off_grid_times_is_no_grid() -> None:
    assert tick(real("taobao")) is None


@pytest.mark.parametrize("step", [1.0, 60.0, 86_400.0, 0.25, 1e-3])
def test_decimal_grids_by_their_common_divisor(step: float) -> None:
    gaps = np.random.default_rng(0).integers(1, 50, 200)
    assert tick(Events.of([step * np.cumsum(gaps), step * np.cumsum(gaps[:20])])) == pytest.approx(step, rel=1e-12)


@pytest.mark.parametrize("smallest", [1, 2, 13])
def test_rescaled_grids_whose_smallest_gap_is_several_steps(smallest: int) -> None:
    gaps = smallest + np.random.default_rng(1).integers(0, 300, 500)
    gaps[0] = smallest
    assert tick(Events.of([np.cumsum(gaps) * (10 / 257_208.6)])) == pytest.approx(10 / 257_208.6, rel=1e-6)


def test_a_smallest_gap_beyond_the_divisors_is_not_taken_for_the_step() -> None:
    gaps = np.arange(DIVISORS + 3, DIVISORS + 300)
    assert tick(Events.of([np.cumsum(gaps) / np.pi])) is None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("count", [2, 5, 30, 3000])
def test_continuous_times_have_none(seed: int, count: int) -> None:
    assert tick(Events.of([np.random.default_rng(seed).exponential(size=count).cumsum()])) is None


@pytest.mark.parametrize(("strays", "found"), [(5, True), (30, False)])
def test_a_few_strays_do_not_hide_a_grid_but_three_in_a_hundred_do(strays: int, found: bool) -> None:
    rng = np.random.default_rng(2)
    gaps = np.r_[1.0, rng.integers(1, 40, 999)]
    gaps[100 : 100 + strays] += rng.uniform(0.1, 0.9, strays)
    assert (tick(Events.of([[1.0, 1.0 + gap / np.pi] for gap in gaps])) is not None) is found


def test_gaps_between_sequences_and_from_the_start_do_not_count() -> None:
    rng = np.random.default_rng(3)
    events = Events.of([rng.uniform() + np.arange(1, 30) ** 2 for _ in range(5)], start=0.0)
    assert tick(events) == pytest.approx(1.0)


def test_few_gaps_show_no_divisor() -> None:
    assert tick(Events.of([[0.0, 60.0, 180.0]])) == 1.0


@pytest.mark.parametrize("times", [[], [3.0], [2.0, 2.0]])
def test_without_a_positive_gap_there_is_none(times: list[float]) -> None:
    assert tick(Events.of([times], start=0.0, end=5.0)) is None


def test_unix_times_with_microseconds_are_beyond_float64_and_claim_no_decimals() -> None:
    times = 1.4e9 + np.random.default_rng(4).exponential(10.0, size=500).cumsum()
    assert tick(Events.of([times])) is None
