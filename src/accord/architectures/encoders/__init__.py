"""The encoders, one per file; ``ENCODERS`` is the registry."""

from accord.architectures.encoder import EncoderSpec
from accord.architectures.encoders.bottleneck import Bottleneck as Bottleneck
from accord.architectures.encoders.conv import Conv as Conv
from accord.architectures.encoders.gru import GRU as GRU
from accord.architectures.encoders.mlp import MLP as MLP
from accord.architectures.encoders.resnet18 import ResNet18 as ResNet18
from accord.architectures.encoders.segnet import SegNet as SegNet
from accord.architectures.encoders.transformer import Transformer as Transformer
from accord.architectures.encoders.transformers_trunk import Swin as Swin
from accord.architectures.encoders.transformers_trunk import ViT as ViT
from accord.architectures.encoders.vit_tiny import ViTTiny as ViTTiny
from accord.spelling import parse_among

ENCODERS: tuple[type[EncoderSpec], ...] = (
    Bottleneck,
    Conv,
    GRU,
    MLP,
    ResNet18,
    SegNet,
    Swin,
    Transformer,
    ViT,
    ViTTiny,
)


def parse_encoder(text: str) -> EncoderSpec:
    """The encoder with this spelling; ``parse_encoder(repr(encoder)) == encoder``.

    Raises:
        AccordError: for an unknown encoder or setting (with the nearest right spelling), or a wrong value.

    Example:
        >>> parse_encoder("mlp(layers=3)"), parse_encoder("mlp(layers=2)")
        (mlp(layers=3), mlp)
    """
    return parse_among({encoder.name: encoder for encoder in ENCODERS}, text, "encoder", "setting")
