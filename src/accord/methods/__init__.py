"""The methods, one per file; ``METHODS`` is the registry and the ``repr`` is the configuration."""

from accord.methods.alignedmtl import AlignedMTL as AlignedMTL
from accord.methods.cagrad import CAGrad as CAGrad
from accord.methods.constant import Constant as Constant
from accord.methods.dwa import DWA as DWA
from accord.methods.famo import FAMO as FAMO
from accord.methods.graddrop import GradDrop as GradDrop
from accord.methods.imtlg import IMTLG as IMTLG
from accord.methods.inverse_norm import InverseNorm as InverseNorm
from accord.methods.mean import Mean as Mean
from accord.methods.method import Aggregation as Aggregation
from accord.methods.method import Context as Context
from accord.methods.method import Elementwise as Elementwise
from accord.methods.method import Method as Method
from accord.methods.method import Weighting as Weighting
from accord.methods.mgda import MGDA as MGDA
from accord.methods.nashmtl import NashMTL as NashMTL
from accord.methods.pcgrad import PCGrad as PCGrad
from accord.methods.random_weighting import RandomWeighting as RandomWeighting
from accord.methods.sum import Sum as Sum
from accord.methods.uncertainty_weighting import UncertaintyWeighting as UncertaintyWeighting
from accord.methods.upgrad import UPGrad as UPGrad
from accord.spelling import parse_among

METHODS: tuple[type[Method], ...] = (
    Sum,
    Mean,
    Constant,
    UPGrad,
    MGDA,
    CAGrad,
    PCGrad,
    NashMTL,
    IMTLG,
    AlignedMTL,
    GradDrop,
    UncertaintyWeighting,
    DWA,
    FAMO,
    RandomWeighting,
    InverseNorm,
)


def parse(text: str) -> Method:
    """The method with this spelling; ``parse(repr(method))`` gives an equal configuration.

    Args:
        text: such as ``CAGrad(c=0.5)``; ``CAGrad`` alone means ``CAGrad()``.

    Raises:
        AccordError: for an unknown method or argument (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse("UPGrad"), parse("Constant(weights=[1, 2])")
        (UPGrad(), Constant(weights=(1.0, 2.0)))
    """
    return parse_among({method.__name__: method for method in METHODS}, text, "method", "argument")
