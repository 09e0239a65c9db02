"""Charts of point processes: each a pure function of what ``accord.tpp`` and ``accord.conflict`` found."""

from accord.report.point_process.calibration import mark_reliability_chart as mark_reliability_chart
from accord.report.point_process.calibration import time_reliability_chart as time_reliability_chart
from accord.report.point_process.conflict import evolution_chart as evolution_chart
from accord.report.point_process.conflict import histogram_chart as histogram_chart
from accord.report.point_process.files import write as write
from accord.report.point_process.intensity import intensity_chart as intensity_chart
from accord.report.point_process.rescaling import rescaling_chart as rescaling_chart
