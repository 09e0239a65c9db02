"""The problems, one per file; ``PROBLEMS`` is the registry and the ``repr`` is the configuration."""

from accord.problems.digits import Digits as Digits
from accord.problems.multimnist import MultiMNIST as MultiMNIST
from accord.problems.problem import Batch as Batch
from accord.problems.problem import Data as Data
from accord.problems.problem import Examples as Examples
from accord.problems.problem import Part as Part
from accord.problems.problem import Problem as Problem
from accord.problems.tpp_hawkes import TPPHawkes as TPPHawkes
from accord.problems.tpp_sets import IMPORTED, REAL, imported
from accord.spelling import parse_among

PROBLEMS: tuple[type[Problem], ...] = (Digits, MultiMNIST, TPPHawkes, *REAL)


def parse(text: str) -> Problem:
    """The problem with this spelling; ``parse(repr(problem)) == problem``.

    Args:
        text: such as ``digits(width=64)``, or ``tpp:NAME`` for event sequences that were imported as NAME.

    Raises:
        AccordError: for an unknown problem or setting (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse("digits"), parse("digits(width=64, epochs=12)")
        (digits, digits(width=64))
    """
    known = {problem.name: problem for problem in PROBLEMS}
    if text.strip().startswith(IMPORTED):
        name = text.strip().split("(")[0]
        known[name] = imported(name.removeprefix(IMPORTED))
    return parse_among(known, text, "problem", "setting")
