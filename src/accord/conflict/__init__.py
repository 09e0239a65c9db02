"""Conflict metrics: pure functions on Gramians ``(..., K, K)``, in numpy float64.

Store the Gramians, compute the metric later: per block, per group of blocks (``group``), or in total (``total``).
"""

from accord.conflict.blocks import drop_negligible as drop_negligible
from accord.conflict.blocks import group as group
from accord.conflict.blocks import total as total
from accord.conflict.direction import below as below
from accord.conflict.direction import cosine as cosine
from accord.conflict.direction import in_conflict as in_conflict
from accord.conflict.direction import incidence as incidence
from accord.conflict.direction import longest_run as longest_run
from accord.conflict.direction import pair_incidence as pair_incidence
from accord.conflict.direction import severity as severity
from accord.conflict.direction import synergy as synergy
from accord.conflict.entries import Rate as Rate
from accord.conflict.entries import clean as clean
from accord.conflict.entries import defined as defined
from accord.conflict.entries import norms as norms
from accord.conflict.entries import rate as rate
from accord.conflict.entries import upper as upper
from accord.conflict.joint import cancellation as cancellation
from accord.conflict.joint import condition_number as condition_number
from accord.conflict.joint import curvature_bound as curvature_bound
from accord.conflict.joint import effective_rank as effective_rank
from accord.conflict.joint import pareto_gap as pareto_gap
from accord.conflict.joint import singular_values as singular_values
from accord.conflict.joint import sum_norm as sum_norm
from accord.conflict.magnitude import dominance as dominance
from accord.conflict.magnitude import magnitude_similarity as magnitude_similarity
from accord.conflict.magnitude import norm_ratio as norm_ratio
from accord.conflict.magnitude import priority as priority
from accord.conflict.pair import PairConflict as PairConflict
from accord.conflict.pair import evolution as evolution
from accord.conflict.pair import pair_conflict as pair_conflict
from accord.conflict.pair import published_gramians as published_gramians
from accord.conflict.progress import Line as Line
from accord.conflict.progress import aggregated as aggregated
from accord.conflict.progress import harm as harm
from accord.conflict.progress import harmed as harmed
from accord.conflict.progress import lines as lines
from accord.conflict.progress import relative_harm as relative_harm
from accord.conflict.progress import summed as summed
from accord.conflict.progress import taken as taken
from accord.conflict.shares import update_share as update_share
from accord.conflict.survival import intervened as intervened
from accord.conflict.survival import oscillation as oscillation
from accord.conflict.survival import survival as survival
