"""Sparse training: conflict is prevented by training only some of the shared scalars.

``select(model, rule) -> Mask`` says which; the rules are in ``accord.sparse.rules``, one per file. ``divide`` and
``unite`` give each task a part of its own.
"""

from accord.sparse.budget import Budget as Budget
from accord.sparse.evidence import Evidence as Evidence
from accord.sparse.evidence import collect as collect
from accord.sparse.mask import Mask as Mask
from accord.sparse.per_task import PerTask as PerTask
from accord.sparse.per_task import divide as divide
from accord.sparse.per_task import unite as unite
from accord.sparse.reselect import Reselection as Reselection
from accord.sparse.reselect import reselect as reselect
from accord.sparse.rule import Budgeted as Budgeted
from accord.sparse.rule import Rule as Rule
from accord.sparse.rule import Target as Target
from accord.sparse.rules import FISH as FISH
from accord.sparse.rules import GPS as GPS
from accord.sparse.rules import PSN as PSN
from accord.sparse.rules import RULES as RULES
from accord.sparse.rules import BitFit as BitFit
from accord.sparse.rules import Blocks as Blocks
from accord.sparse.rules import Columns as Columns
from accord.sparse.rules import ConflictFree as ConflictFree
from accord.sparse.rules import GlobalMagnitude as GlobalMagnitude
from accord.sparse.rules import RandomBlock as RandomBlock
from accord.sparse.rules import RandomNeuron as RandomNeuron
from accord.sparse.rules import SignAgreement as SignAgreement
from accord.sparse.rules import Smallest as Smallest
from accord.sparse.rules import parse_rule as parse_rule
from accord.sparse.select import Count as Count
from accord.sparse.select import count as count
from accord.sparse.select import select as select
from accord.sparse.store import load as load
from accord.sparse.store import save as save
from accord.sparse.training import SparseTraining as SparseTraining
