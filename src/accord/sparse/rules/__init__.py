"""Selection rules, one per file: which scalars of the shared weights are trained."""

from accord.sparse.rule import Rule
from accord.sparse.rules.bitfit import BitFit as BitFit
from accord.sparse.rules.blocks import Blocks as Blocks
from accord.sparse.rules.columns import Columns as Columns
from accord.sparse.rules.conflict_free import ConflictFree as ConflictFree
from accord.sparse.rules.fish import FISH as FISH
from accord.sparse.rules.global_magnitude import GlobalMagnitude as GlobalMagnitude
from accord.sparse.rules.gps import GPS as GPS
from accord.sparse.rules.psn import PSN as PSN
from accord.sparse.rules.random_block import RandomBlock as RandomBlock
from accord.sparse.rules.random_neuron import RandomNeuron as RandomNeuron
from accord.sparse.rules.sign_agreement import SignAgreement as SignAgreement
from accord.sparse.rules.smallest import Smallest as Smallest
from accord.spelling import parse_among

RULES: tuple[type[Rule], ...] = (
    PSN, RandomNeuron, RandomBlock, Smallest, GlobalMagnitude, GPS, FISH, ConflictFree, SignAgreement, BitFit, Columns,
    Blocks,
)  # fmt: skip


def parse_rule(text: str) -> Rule:
    """The rule with this spelling; ``parse_rule(repr(rule)) == rule``.

    Raises:
        AccordError: for an unknown rule or argument (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse_rule("PSN(k=300)")
        PSN(k=300)
    """
    return parse_among({rule.name: rule for rule in RULES}, text, "rule", "argument")
