"""Selection rules, one per file: which scalars of the shared weights are trained."""

from accord.sparse.rule import Rule
from accord.sparse.rules.psn import PSN as PSN
from accord.spelling import parse_among

RULES: tuple[type[Rule], ...] = (PSN,)


def parse_rule(text: str) -> Rule:
    """The rule with this spelling; ``parse_rule(repr(rule)) == rule``.

    Raises:
        AccordError: for an unknown rule or argument (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse_rule("PSN(k=300)")
        PSN(k=300)
    """
    return parse_among({rule.name: rule for rule in RULES}, text, "rule", "argument")
