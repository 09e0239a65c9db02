"""Charts over several problems, each a pure function of stored runs: ``(Suite) -> Chart``, in page order."""

from accord.report.across.foresight import conflict_gain
from accord.report.across.profile import performance_profile
from accord.report.across.standing import mean_rank

SUITE_PLOTS = (mean_rank, performance_profile, conflict_gain)
