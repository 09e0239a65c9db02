"""Architectures and encoders, one per file: which parts tasks share, and what the parts are.

``build: (encoder, form of the inputs, heads by task) -> model``;  ``model(x, valid=None) -> outputs by task``.
"""

from accord.architectures.architecture import Architecture as Architecture
from accord.architectures.architecture import Head as Head
from accord.architectures.encoder import Encoder as Encoder
from accord.architectures.encoder import EncoderSpec as EncoderSpec
from accord.architectures.encoders import ENCODERS as ENCODERS
from accord.architectures.encoders import MLP as MLP
from accord.architectures.encoders import Conv as Conv
from accord.architectures.encoders import parse_encoder as parse_encoder
from accord.architectures.form import Form as Form
from accord.architectures.hard import HardSharing as HardSharing
from accord.architectures.heads import dense as dense
from accord.architectures.heads import per_token as per_token
from accord.architectures.heads import pooled as pooled
from accord.architectures.heads import vector as vector
from accord.spelling import parse_among

ARCHITECTURES: tuple[type[Architecture], ...] = (HardSharing,)


def parse_architecture(text: str) -> Architecture:
    """The architecture with this spelling; ``parse_architecture(repr(architecture)) == architecture``.

    Raises:
        AccordError: for an unknown architecture or setting (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse_architecture("hard")
        hard
    """
    return parse_among({kind.name: kind for kind in ARCHITECTURES}, text, "architecture", "setting")
