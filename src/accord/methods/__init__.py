"""The methods, one per file; ``METHODS`` is the registry and the ``repr`` is the configuration."""

from accord.methods.agem import AGEM as AGEM
from accord.methods.alignedmtl import AlignedMTL as AlignedMTL
from accord.methods.autolambda import AutoLambda as AutoLambda
from accord.methods.bloop import Bloop as Bloop
from accord.methods.cagrad import CAGrad as CAGrad
from accord.methods.config import ConFIG as ConFIG
from accord.methods.constant import Constant as Constant
from accord.methods.cosmos import COSMOS as COSMOS
from accord.methods.db_mtl import DBMTL as DBMTL
from accord.methods.dualproj import DualProj as DualProj
from accord.methods.dwa import DWA as DWA
from accord.methods.excess_mtl import ExcessMTL as ExcessMTL
from accord.methods.fairgrad import FairGrad as FairGrad
from accord.methods.famo import FAMO as FAMO
from accord.methods.forum import FORUM as FORUM
from accord.methods.gcond import GCond as GCond
from accord.methods.gls import GLS as GLS
from accord.methods.gradcosine import GradCosine as GradCosine
from accord.methods.graddrop import GradDrop as GradDrop
from accord.methods.gradnorm import GradNorm as GradNorm
from accord.methods.gradops import GradOPS as GradOPS
from accord.methods.gradvac import GradVac as GradVac
from accord.methods.imtl import IMTL as IMTL
from accord.methods.imtlg import IMTLG as IMTLG
from accord.methods.imtll import IMTLL as IMTLL
from accord.methods.inverse_norm import InverseNorm as InverseNorm
from accord.methods.krum import Krum as Krum
from accord.methods.lexicographic import Lexicographic as Lexicographic
from accord.methods.mean import Mean as Mean
from accord.methods.method import Aggregation as Aggregation
from accord.methods.method import Context as Context
from accord.methods.method import Elementwise as Elementwise
from accord.methods.method import Method as Method
from accord.methods.method import Weighting as Weighting
from accord.methods.mgda import MGDA as MGDA
from accord.methods.moco import MoCo as MoCo
from accord.methods.modo import MoDo as MoDo
from accord.methods.momentum_config import MomentumConFIG as MomentumConFIG
from accord.methods.moml import MOML as MOML
from accord.methods.nashmtl import NashMTL as NashMTL
from accord.methods.pbi import PBI as PBI
from accord.methods.pcgrad import PCGrad as PCGrad
from accord.methods.random_weighting import RandomWeighting as RandomWeighting
from accord.methods.sdmgrad import SDMGrad as SDMGrad
from accord.methods.smoothed import Smoothed as Smoothed
from accord.methods.stch import STCH as STCH
from accord.methods.sum import Sum as Sum
from accord.methods.trimmed_mean import TrimmedMean as TrimmedMean
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
    FairGrad,
    DualProj,
    ConFIG,
    GradVac,
    Krum,
    AGEM,
    GradCosine,
    Lexicographic,
    GradOPS,
    IMTLL,
    IMTL,
    GLS,
    STCH,
    PBI,
    COSMOS,
    GradNorm,
    SDMGrad,
    MoDo,
    MoCo,
    MomentumConFIG,
    GCond,
    Bloop,
    TrimmedMean,
    ExcessMTL,
    DBMTL,
    Smoothed,
    AutoLambda,
    MOML,
    FORUM,
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
