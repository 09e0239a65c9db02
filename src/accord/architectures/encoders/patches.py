"""What vision transformers have in common: the grid of patches, and what comes out of their tokens."""

from __future__ import annotations

from torch import Tensor, nn

from accord.architectures.form import Form
from accord.errors import AccordError, nearest

OUTPUTS = ("class", "mean", "sequence", "map")


def check_output(name: str, output: str) -> None:
    """Refuse an unknown output.

    Raises:
        AccordError: naming the encoder and the nearest output.
    """
    if output not in OUTPUTS:
        raise AccordError(f"{name}: output={output!r} is unknown.{nearest(str(output), OUTPUTS)}")


def grid(name: str, size: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Rows and columns of patches.

    Args:
        name: of the encoder, for the message.
        size: (H, W) of the image.
        patch: side of a patch.

    Raises:
        AccordError: if the image is no whole number of patches, naming the sizes that fit.

    Example:
        >>> grid("vit", (144, 192), 16)
        (9, 12)
    """
    height, width = size
    if height % patch or width % patch:
        fitting = [side for side in range(1, min(height, width) + 1) if not height % side and not width % side]
        listed = ", ".join(map(str, fitting[1:] or fitting))
        raise AccordError(
            f"{name}: patch={patch} does not divide an image of {height} x {width} pixels; choose one of {listed}."
        )
    return height // patch, width // patch


class Output(nn.Module):
    """Normalised tokens (N, extra + h·w, D), as one of ``OUTPUTS``.

    Args:
        norm: applied to each token first.
        output: ``class``: the first token (N, D); ``mean`` over patches (N, D); ``sequence`` of patches (N, h·w, D);
            ``map`` of patches (N, D, h, w).
        size: (h, w), of the grid.
        extra: tokens before the patches.
    """

    def __init__(self, norm: nn.Module, output: str, size: tuple[int, int], extra: int) -> None:
        super().__init__()
        self.norm, self.output, self.size, self.extra = norm, output, size, extra

    def forward(self, x: Tensor) -> Tensor:
        """The tokens (N, extra + h·w, D) in their final form."""
        x = self.norm(x)
        if self.output == "class":
            return x[:, 0]  # (N, D)
        x = x[:, self.extra :]  # (N, h·w, D)
        if self.output == "mean":
            return x.mean(1)  # (N, D)
        return x if self.output == "sequence" else x.transpose(1, 2).unflatten(2, self.size)  # (N, D, h, w)


def form(output: str, width: int, size: tuple[int, int]) -> Form:
    """The form of an output.

    Args:
        output: one of ``OUTPUTS``.
        width: D.
        size: (h, w), of the grid.

    Example:
        >>> form("map", 192, (9, 12)), form("class", 192, (9, 12)).kind
        (Form(kind='map', width=192, size=(9, 12)), 'vector')
    """
    if output == "map":
        return Form("map", width, size)
    return Form("sequence", width, (size[0] * size[1],)) if output == "sequence" else Form("vector", width)
