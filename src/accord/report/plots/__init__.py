"""The plots, each a pure function of stored runs: ``(Study) -> Chart``. ``PLOTS`` is the registry, in page order."""

from accord.report.plots.blocks import block_time
from accord.report.plots.cosine import pair_cosine
from accord.report.plots.difference import difference
from accord.report.plots.geometry import geometry_time
from accord.report.plots.harm import harm_rate, harm_size
from accord.report.plots.incidence import conflict_time
from accord.report.plots.learning import learning
from accord.report.plots.losses import losses_time
from accord.report.plots.masked_incidence import masked_incidence
from accord.report.plots.norms import dominance_time, norm_ratio_time
from accord.report.plots.tradeoff import cost, task_pairs
from accord.report.plots.weights import weights_time

PLOTS = (
    difference,
    cost,
    task_pairs,
    harm_rate,
    harm_size,
    conflict_time,
    masked_incidence,
    geometry_time,
    norm_ratio_time,
    learning,
    losses_time,
    pair_cosine,
    dominance_time,
    block_time,
    weights_time,
)
