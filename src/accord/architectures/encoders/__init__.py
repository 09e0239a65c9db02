"""The encoders, one per file; ``ENCODERS`` is the registry."""

from accord.architectures.encoder import EncoderSpec
from accord.architectures.encoders.conv import Conv as Conv
from accord.architectures.encoders.mlp import MLP as MLP
from accord.spelling import parse_among

ENCODERS: tuple[type[EncoderSpec], ...] = (Conv, MLP)


def parse_encoder(text: str) -> EncoderSpec:
    """The encoder with this spelling; ``parse_encoder(repr(encoder)) == encoder``.

    Raises:
        AccordError: for an unknown encoder or setting (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse_encoder("mlp(layers=3)"), parse_encoder("mlp(layers=2)")
        (mlp(layers=3), mlp)
    """
    return parse_among({encoder.name: encoder for encoder in ENCODERS}, text, "encoder", "setting")
