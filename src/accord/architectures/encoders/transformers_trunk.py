"""ViT and Swin as the package ``transformers`` builds them from a configuration; nothing is ever downloaded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from torch import Tensor, nn

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.encoders.patches import Output, check_output, form, grid
from accord.architectures.form import Form, Kind
from accord.errors import AccordError


@dataclass(frozen=True, repr=False)
class ViT(EncoderSpec):
    """The vision transformer of ``transformers``, by default ViT-B/16; each block is a stage.

    On images of 224 x 224 the default has 85,798,656 parameters. Initial weights are random.

    Source: Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929.

    Args:
        patch: side of a patch in pixels; it must divide height and width.
        output: the ``class`` token or the ``mean`` over patches, a vector; ``sequence`` or ``map`` of patches.
        width: ``hidden_size``; the hidden layers of the blocks have four times as many features.
        blocks: ``num_hidden_layers``.
        heads: ``num_attention_heads``; they must divide the width.

    Raises:
        AccordError: for a wrong setting, and when built without the package or for images that patches do not fill.

    Example:
        >>> ViT(blocks=24, width=1024, heads=16)
        vit(width=1024, blocks=24, heads=16)
    """

    patch: int = 16
    output: str = "class"
    width: int = 768
    blocks: int = 12
    heads: int = 12

    name: ClassVar[str] = "vit"
    accepts: ClassVar[tuple[Kind, ...]] = ("map",)

    def __post_init__(self) -> None:
        positive(self)
        check_output(self.name, self.output)
        _divisible(self.name, self.width, self.heads)

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """The embeddings, the blocks, and the output."""
        size = grid(self.name, inputs.size, self.patch)
        theirs = _theirs(self.name, "transformers.models.vit.modeling_vit")
        config = theirs.ViTConfig(
            hidden_size=self.width, num_hidden_layers=self.blocks, num_attention_heads=self.heads,
            intermediate_size=4 * self.width, image_size=inputs.size, patch_size=self.patch, num_channels=inputs.width,
        )  # fmt: skip
        model = theirs.ViTModel(config, add_pooling_layer=False)
        tokens = Form("sequence", self.width, (size[0] * size[1] + 1,))
        blocks = [part for part in model.modules() if isinstance(part, theirs.ViTLayer)]
        output = Output(model.layernorm, self.output, size, extra=1)
        return [
            (model.embeddings, tokens),
            *((_First(block), tokens) for block in blocks),
            (output, form(self.output, self.width, size)),
        ]


@dataclass(frozen=True, repr=False)
class Swin(EncoderSpec):
    """The Swin transformer of ``transformers``, by default Swin-T; the embeddings and each of its stages are a stage.

    Attention is within windows, shifted in every other block; between stages the map is halved. The default has
    27,519,354 parameters, ``swin(width=128, blocks=(2, 2, 18, 2), heads=(4, 8, 16, 32))`` is Swin-B, 86,743,224. What
    comes out is a map. There is no stochastic depth, so that nothing but the seed of the model decides a training.

    Source: Liu et al. 2021, https://arxiv.org/abs/2103.14030.

    Args:
        patch: side of a patch in pixels; it must divide height and width.
        window: side of a window in patches; no map may be smaller.
        width: ``embed_dim``, features of the first stage; they double from stage to stage.
        blocks: ``depths``, of each stage.
        heads: ``num_heads``, of each stage; they must divide its features.

    Raises:
        AccordError: for a wrong setting, and when built without the package or for images that are too small.

    Example:
        >>> Swin(window=8, blocks=[2, 2, 2], heads=[3, 6, 12])
        swin(window=8, blocks=(2, 2, 2), heads=(3, 6, 12))
    """

    patch: int = 4
    window: int = 7
    width: int = 96
    blocks: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)

    name: ClassVar[str] = "swin"
    accepts: ClassVar[tuple[Kind, ...]] = ("map",)

    def __post_init__(self) -> None:
        positive(self)
        for setting in ("blocks", "heads"):
            value = getattr(self, setting)
            fine = isinstance(value, list | tuple) and value and all(type(n) is int and n > 0 for n in value)
            if not fine:
                raise AccordError(
                    f"{self.name}: {setting}={value!r}, expected whole numbers greater than 0, as in (2, 2, 6, 2)."
                )
            object.__setattr__(self, setting, tuple(value))
        if len(self.blocks) != len(self.heads):
            raise AccordError(
                f"{self.name}: {len(self.blocks)} stages of blocks and {len(self.heads)} of heads; give as many."
            )
        for stage, heads in enumerate(self.heads):
            _divisible(self.name, self.width << stage, heads)

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """The embeddings, then the stages, the last with the final norm."""
        sizes = self._sizes(inputs)
        theirs = _theirs(self.name, "transformers.models.swin.modeling_swin")
        config = theirs.SwinConfig(
            image_size=inputs.size, patch_size=self.patch, num_channels=inputs.width, embed_dim=self.width,
            depths=list(self.blocks), num_heads=list(self.heads), window_size=self.window, drop_path_rate=0.0,
        )  # fmt: skip
        model = theirs.SwinModel(config, add_pooling_layer=False)
        parts: list[tuple[nn.Module, Form]] = [
            (_Map(_First(model.embeddings), sizes[0]), Form("map", self.width, sizes[0]))
        ]
        found = [part for part in model.modules() if isinstance(part, theirs.SwinStage)]
        for index, (stage, before) in enumerate(zip(found, sizes, strict=True)):
            last = index == len(found) - 1
            after = min(index + 1, len(found) - 1)
            norm = model.layernorm if last else nn.Identity()
            parts.append((_Stage(stage, norm, before, sizes[after]), Form("map", self.width << after, sizes[after])))
        return parts

    def _sizes(self, inputs: Form) -> list[tuple[int, int]]:
        """(h, w) of the map in each stage."""
        sizes = [grid(self.name, inputs.size, self.patch)]
        for _ in self.blocks[1:]:
            height, width = sizes[-1]
            sizes.append(((height + 1) // 2, (width + 1) // 2))
        if min(sizes[-1]) < self.window:
            image, last = (" x ".join(map(str, size)) for size in (inputs.size, sizes[-1]))
            raise AccordError(
                f"{self.name}: an image of {image} pixels comes to a map of {last}, smaller than window={self.window}; "
                f"choose window={min(sizes[-1])}, a smaller patch or fewer stages."
            )
        return sizes


def _theirs(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AccordError(
            f"the encoder {name} needs the package transformers ({error}): pip install 'accord[transformers]'"
        ) from None


def _divisible(name: str, width: int, heads: int) -> None:
    if width % heads:
        raise AccordError(f"{name}: {width} features are no multiple of {heads} heads; change one.")


class _First(nn.Module):
    """A part of theirs that gives a tuple in some versions; the first is what goes on."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        out = self.part(x)
        return out[0] if isinstance(out, tuple) else out


class _Map(nn.Module):
    """A part that gives tokens (N, h·w, D), as a map (N, D, h, w)."""

    def __init__(self, part: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.part, self.size = part, size

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.part(x)
        return out.transpose(1, 2).unflatten(2, self.size)  # (N, D, h, w)


class _Stage(nn.Module):
    """A stage of theirs between maps (N, D, h, w)."""

    def __init__(self, stage: nn.Module, norm: nn.Module, before: tuple[int, int], after: tuple[int, int]) -> None:
        super().__init__()
        self.stage, self.norm, self.before, self.after = stage, norm, before, after

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (N, h·w, D)
        out: Tensor = self.norm(self.stage(tokens, self.before)[0])
        return out.transpose(1, 2).unflatten(2, self.after)  # (N, D', h', w')
