"""The published widths of every model and variant, and the widths that reach a wanted number of parameters."""

from __future__ import annotations

from dataclasses import dataclass

VARIANTS = ("", "+", "++", "-d", "-dd")
DISJOINT = ("++", "-dd")  # two encoders


@dataclass(frozen=True)
class Widths:
    """Sizes of the layers of one model; of one encoder where there are two.

    Args:
        rnn: hidden size of the GRU.
        mid: hidden width of the MLP behind it.
        dim: D, size of the history vector.
        head: hidden width of the mark head; None: M.
        fnn: hidden width of the FNN network.
        components: C, mixture components, or units of a ground intensity.
        emb: size of the event encoding.
        layers: of self-attention.
        heads: of self-attention.
        ffn: width of its feed-forward layers.
    """

    rnn: int
    mid: int
    dim: int
    head: int | None = None
    fnn: int = 32
    components: int = 32
    emb: int = 8
    layers: int = 2
    heads: int = 1
    ffn: int = 64


# Bosser & Ben Taieb 2024, the widths of their final scripts. Two names where base and + have the same.
PUBLISHED = {
    "thp": Widths(36, 32, 96),
    "thp+": Widths(42, 32, 32),
    "thp++": Widths(28, 16, 32),
    "thp-d": Widths(42, 32, 48),
    "thp-dd": Widths(28, 18, 48),
    "sahp": Widths(46, 32, 32),
    "sahp+": Widths(46, 32, 16),
    "sahp++": Widths(32, 16, 16),
    "sahp-d": Widths(46, 36, 16),
    "sahp-dd": Widths(32, 16, 16),
    "sthp+": Widths(42, 32, 32),
    "sthp++": Widths(28, 16, 32),
    "fnn": Widths(42, 32, 63, fnn=46),
    "fnn+": Widths(42, 32, 63, fnn=26, head=26),
    "fnn++": Widths(30, 16, 31, fnn=32, head=32),
    "fnn-d": Widths(44, 36, 35, fnn=30),
    "fnn-dd": Widths(30, 18, 35, fnn=30),
    "lnm": Widths(42, 32, 32, head=16),
    "lnm+": Widths(42, 32, 32, head=16),
    "lnm++": Widths(28, 16, 32, head=16),
    "rmtpp": Widths(42, 32, 32),
    "rmtpp+": Widths(42, 32, 32),
    "rmtpp++": Widths(27, 16, 32),
    "joint-lnm": Widths(42, 32, 32, head=16),
    "poisson": Widths(1, 1, 1),
    "hawkes": Widths(1, 1, 1),
}
