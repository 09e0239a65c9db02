"""Delta-m against the printed tables of arXiv 2411.18615, whose Δm is a drop in per cent, flat over all measures."""

from __future__ import annotations

import math

import pytest

from accord.bench.stats import delta_m, gains

NYU = {
    "segmentation": {"mIoU": True, "PixAcc": True},
    "depth": {"abs": False, "rel": False},
    "normals": {"mean": False, "median": False, "11.25": True, "22.5": True, "30": True},
}
CITY = {"segmentation": {"mIoU": True, "PixAcc": True}, "depth": {"abs": False, "rel": False}}
SAM = """
STL 58.62 79.20 .3810 .1553 19.29 12.64 46.37 72.19 80.73
Joint 59.09 79.61 .3348 .1360 22.34 16.33 35.46 64.02 75.20 6.763 1.47
Joint+ST 60.03 79.96 .3320 .1353 21.98 15.92 36.69 64.92 75.82 5.314 0.28
PCGrad 59.18 80.12 .3258 .1323 21.81 15.72 36.92 65.49 76.26 4.584 -0.39
PCGrad+ST 59.37 80.33 .3272 .1330 21.53 15.39 38.02 66.09 76.71 3.741 -0.88
CAGrad 59.78 80.16 .3215 .1305 19.92 13.40 43.87 70.47 79.59 -1.816 -4.57
CAGrad+ST 60.33 80.20 .3232 .1306 19.74 13.20 44.42 71.04 80.02 -2.423 -4.98
GradDrop 59.02 79.80 .3283 .1321 22.03 15.95 36.42 64.90 75.79 5.323 0.17
GradDrop+ST 59.74 80.32 .3278 .1322 21.81 15.63 37.40 65.50 76.15 4.329 -0.63
MGDA 37.43 67.58 .4427 .1810 19.23 12.61 46.43 72.35 80.87 9.162 13.86
MGDA+ST 41.60 69.96 .4414 .1778 19.22 12.61 46.44 72.29 80.80 7.791 11.78
IMTL-G 60.64 80.29 .3324 .1348 19.85 13.37 43.92 70.78 79.9 -1.537 -4.00
IMTL-G+ST 60.35 80.18 .3347 .1350 19.65 13.15 44.66 71.25 80.20 -1.955 -4.13
NashMTL 59.42 80.20 .3303 .1341 19.90 13.39 43.86 70.65 79.72 -1.295 -3.74
NashMTL+ST 59.36 79.98 .3278 .1323 19.63 13.02 45.06 71.31 80.15 -2.384 -4.54
FAMO 57.64 78.59 .3574 .1463 19.396 12.846 45.61 71.87 80.59 -0.567 -1.30
FAMO+ST 57.68 78.79 .3520 .1430 19.279 12.711 46.12 72.06 80.72 -1.353 -2.15
"""
MTAN = """
STL 38.30 63.76 .6754 .2780 25.01 19.21 30.14 57.20 69.15
Joint 39.29 65.33 .5493 .2263 28.15 23.96 22.09 47.50 61.08 5.59 -0.88
Joint+ST 41.04 66.05 .5417 .2232 27.40 22.90 23.58 49.59 63.01 2.49 -3.53
PCGrad 38.06 64.64 .5550 .2325 27.41 22.80 23.86 49.83 63.14 3.97 -1.11
PCGrad+ST 40.49 66.17 .5441 .2264 27.09 22.55 24.22 50.34 63.63 1.98 -3.56
CAGrad 39.79 65.49 .5486 .2250 26.31 21.58 25.61 52.36 65.58 0.20 -4.33
CAGrad+ST 39.93 66.19 .5299 .2097 25.71 20.70 26.86 54.22 67.30 -2.76 -7.08
GradDrop 39.39 65.12 .5455 .2279 27.48 22.96 23.38 49.44 62.87 3.58 -2.07
GradDrop+ST 40.84 66.84 .5288 .2209 27.18 22.56 24.10 50.33 63.67 1.38 -4.55
MGDA 30.47 59.90 .6070 .2555 24.88 19.45 29.18 56.88 69.36 1.38 1.66
MGDA+ST 32.42 61.61 .5851 .2239 24.35 18.61 31.14 58.63 70.62 -3.09 -3.27
IMTL-G+ST 40.73 66.00 .5219 .2100 25.6 20.64 26.81 54.38 67.49 -3.18 -7.63
NashMTL 40.13 65.93 .5261 .2171 25.26 20.08 28.40 55.47 68.15 -4.04 -7.65
NashMTL+ST 39.75 66.45 .5156 .2121 24.96 19.80 28.80 56.20 68.93 -5.11 -8.60
FAMO 38.88 64.90 .5474 .2194 25.06 19.57 29.21 56.61 68.98 -4.10 -6.79
FAMO+ST 37.85 65.27 .5543 .2215 25.09 19.15 30.03 57.49 69.52 -4.46 -6.62
"""  # without IMTL-G dense, whose printed -0.76 its own metrics contradict
CITYSCAPES = """
STL 77.61 94.15 .0122 35.68
Joint 78.14 94.29 .0174 59.21 26.87
Joint+ST 78.34 94.34 .0143 55.00 17.48
PCGrad+ST 77.79 94.26 .0160 51.99 19.22
CAGrad 76.82 93.70 .0138 53.74 16.26
CAGrad+ST 77.20 94.01 .0150 39.85 8.88
GradDrop 77.91 94.28 .0154 55.58 20.34
GradDrop+ST 78.34 94.38 .0163 48.95 17.45
MGDA 69.91 92.17 .0124 40.68 6.91
MGDA+ST 68.38 91.91 .0128 33.19 3.17
IMTL-G 77.55 94.10 .0135 47.17 10.65
IMTL-G+ST 75.75 93.98 .0138 40.16 7.10
NashMTL 77.51 94.22 .0152 36.36 6.68
NashMTL+ST 76.87 94.09 .0148 33.30 3.99
"""  # without PCGrad dense, whose printed 19.96 its own metrics contradict


def rows(text: str, higher: dict) -> dict[str, tuple[dict, list[float]]]:
    """Each row's measures by task, and what is printed behind them."""
    found = {}
    for line in text.split("\n")[1:-1]:
        name, *numbers = line.split()
        values = iter(map(float, numbers))
        measures = {task: {name: next(values) for name in part} for task, part in higher.items()}
        found[name] = measures, list(values)
    return found


CASES = [
    (text, name, higher, near)
    for text, higher, near in ((SAM, NYU, 0.035), (MTAN, NYU, 0.035), (CITYSCAPES, CITY, 0.13))
    for name in rows(text, higher)
    if name != "STL"
]


@pytest.mark.parametrize(("text", "name", "higher", "near"), CASES)
def test_printed_delta_m(text, name, higher, near):
    table = rows(text, higher)
    (values, printed), (single, _) = table[name], table["STL"]
    assert -100 * delta_m(values, single, higher, flat=True) == pytest.approx(printed[0], abs=near)
    if len(printed) > 1:
        assert -100 * delta_m(values, single, higher) == pytest.approx(printed[1], abs=0.01)


@pytest.mark.parametrize(("text", "flat", "per_task"), [(MTAN, 5.589, -0.878), (SAM, 6.759, 1.468)])
def test_both_averages_of_joint_training(text, flat, per_task):
    table = rows(text, NYU)
    values, single = table["Joint"][0], table["STL"][0]
    assert -100 * delta_m(values, single, NYU, flat=True) == pytest.approx(flat, abs=6e-4)
    assert -100 * delta_m(values, single, NYU) == pytest.approx(per_task, abs=6e-4)


def test_where_all_tasks_have_as_many_measures_both_agree():
    table = rows(CITYSCAPES, CITY)
    values, single = table["Joint"][0], table["STL"][0]
    assert delta_m(values, single, CITY) == pytest.approx(delta_m(values, single, CITY, flat=True), rel=1e-12)


def test_a_missing_measure_makes_it_unknown():
    table = rows(CITYSCAPES, CITY)
    values, single = table["Joint"][0], table["STL"][0]
    found = delta_m(values, {"segmentation": single["segmentation"], "depth": {"abs": 1.0}}, CITY)
    assert math.isnan(found)
    assert math.isnan(gains({"a": 1.0}, {}, {"a": True})["a"][""])
