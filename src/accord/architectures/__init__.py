"""Architectures and encoders, one per file: which parts tasks share, and what the parts are.

``build: (encoder, form of the inputs, heads by task) -> model``;  ``model(x, valid=None) -> outputs by task``.
"""

from accord.architectures.architecture import Architecture as Architecture
from accord.architectures.architecture import Head as Head
from accord.architectures.cgc import CGC as CGC
from accord.architectures.cross_stitch import CrossStitch as CrossStitch
from accord.architectures.dselect_k import DSelectK as DSelectK
from accord.architectures.encoder import Encoder as Encoder
from accord.architectures.encoder import EncoderSpec as EncoderSpec
from accord.architectures.encoders import ENCODERS as ENCODERS
from accord.architectures.encoders import GRU as GRU
from accord.architectures.encoders import MLP as MLP
from accord.architectures.encoders import Bottleneck as Bottleneck
from accord.architectures.encoders import Conv as Conv
from accord.architectures.encoders import ResNet18 as ResNet18
from accord.architectures.encoders import SegNet as SegNet
from accord.architectures.encoders import Swin as Swin
from accord.architectures.encoders import Transformer as Transformer
from accord.architectures.encoders import ViT as ViT
from accord.architectures.encoders import ViTTiny as ViTTiny
from accord.architectures.encoders import parse_encoder as parse_encoder
from accord.architectures.form import Form as Form
from accord.architectures.hard import HardSharing as HardSharing
from accord.architectures.heads import dense as dense
from accord.architectures.heads import per_token as per_token
from accord.architectures.heads import pooled as pooled
from accord.architectures.heads import vector as vector
from accord.architectures.mmoe import MMoE as MMoE
from accord.architectures.mtan import MTAN as MTAN
from accord.architectures.ple import PLE as PLE
from accord.spelling import parse_among

ARCHITECTURES: tuple[type[Architecture], ...] = (HardSharing, CrossStitch, MTAN, MMoE, CGC, PLE, DSelectK)


def parse_architecture(text: str) -> Architecture:
    """The architecture with this spelling; ``parse_architecture(repr(architecture)) == architecture``.

    Raises:
        AccordError: for an unknown architecture or setting (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse_architecture("hard")
        hard
    """
    return parse_among({kind.name: kind for kind in ARCHITECTURES}, text, "architecture", "setting")
