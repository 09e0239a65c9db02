"""The problems, one per file; ``PROBLEMS`` is the registry and the ``repr`` is the configuration."""

from accord.problems.adult import Adult as Adult
from accord.problems.celeba import CelebA as CelebA
from accord.problems.celeba import CelebA40 as CelebA40
from accord.problems.cityscapes import Cityscapes as Cityscapes
from accord.problems.clevr import CLEVR as CLEVR
from accord.problems.digits import Digits as Digits
from accord.problems.eth80 import ETH80 as ETH80
from accord.problems.mtfl import MTFL as MTFL
from accord.problems.mulan import MULAN
from accord.problems.multimnist import MultiMNIST as MultiMNIST
from accord.problems.nyuv2 import NYUv2 as NYUv2
from accord.problems.nyuv2_mtan import NYUv2MTAN as NYUv2MTAN
from accord.problems.problem import Batch as Batch
from accord.problems.problem import Data as Data
from accord.problems.problem import Examples as Examples
from accord.problems.problem import Part as Part
from accord.problems.problem import Problem as Problem
from accord.problems.school import School as School
from accord.problems.smallnorb import SmallNORB as SmallNORB
from accord.problems.tox21 import Tox21 as Tox21
from accord.problems.tpp_hawkes import TPPHawkes as TPPHawkes
from accord.problems.tpp_sets import IMPORTED, REAL, imported
from accord.problems.ud_ewt import UDEWT as UDEWT
from accord.spelling import parse_among

PROBLEMS: tuple[type[Problem], ...] = (
    Digits,
    MultiMNIST,
    TPPHawkes,
    UDEWT,
    Adult,
    School,
    Tox21,
    NYUv2,
    NYUv2MTAN,
    Cityscapes,
    *MULAN,
    ETH80,
    MTFL,
    CelebA,
    CelebA40,
    CLEVR,
    SmallNORB,
    *REAL,
)


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
