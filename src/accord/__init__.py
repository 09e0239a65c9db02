"""Accord finds, explains and resolves gradient conflict in PyTorch training with several objectives."""

from accord import conflict as conflict
from accord.balancer import Balancer as Balancer
from accord.errors import AccordError as AccordError
from accord.methods import DWA as DWA
from accord.methods import FAMO as FAMO
from accord.methods import IMTLG as IMTLG
from accord.methods import METHODS as METHODS
from accord.methods import MGDA as MGDA
from accord.methods import AlignedMTL as AlignedMTL
from accord.methods import CAGrad as CAGrad
from accord.methods import Constant as Constant
from accord.methods import GradDrop as GradDrop
from accord.methods import InverseNorm as InverseNorm
from accord.methods import Mean as Mean
from accord.methods import NashMTL as NashMTL
from accord.methods import PCGrad as PCGrad
from accord.methods import RandomWeighting as RandomWeighting
from accord.methods import Sum as Sum
from accord.methods import UncertaintyWeighting as UncertaintyWeighting
from accord.methods import UPGrad as UPGrad
from accord.methods import parse as parse
from accord.monitor import Monitor as Monitor
from accord.step import Event as Event
from accord.step import Step as Step
