"""Sparse training: conflict is prevented by training only some of the shared scalars.

``select(model, rule) -> Mask`` says which; the rules are in ``accord.sparse.rules``, one per file.
"""

from accord.sparse.budget import Budget as Budget
from accord.sparse.mask import Mask as Mask
from accord.sparse.rule import Rule as Rule
from accord.sparse.rules import PSN as PSN
from accord.sparse.rules import RULES as RULES
from accord.sparse.rules import parse_rule as parse_rule
from accord.sparse.select import Count as Count
from accord.sparse.select import count as count
from accord.sparse.select import select as select
