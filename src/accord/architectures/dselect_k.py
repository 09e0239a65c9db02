"""DSelect-k: experts that all tasks share, of which the gate of each task selects at most k."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from accord.architectures.architecture import Architecture, Head
from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form
from accord.architectures.glance import Glance
from accord.architectures.mixture import Mixture
from accord.errors import AccordError

NARROW, WIDE = 0.01, 0.05  # bounds of the uniform initial weights, as in the authors' code
TINY = 1e-6  # under the logarithm, as there: the derivative of p log p is infinite at p = 0, which gates do reach


@dataclass(frozen=True, repr=False)
class DSelectK(Architecture):
    """Sparse, continuously differentiable gates: ``y_t = head_t(sum_e q_te f_e(x))``, with at most k of q_t above 0.

    Every expert has a binary code of ``m = log2(experts)`` digits. A selector is a vector z of m numbers; expert e gets
    ``r_e(z) = prod_b S(z_b) if digit b of e is 1 else 1 - S(z_b)``, which sums to 1 over experts and is exactly one of
    them as soon as every ``|z_b| >= 1/2``: the smooth step ``S(z) = -2 z^3 + 3/2 z + 1/2`` is 0 below -1/2 and 1 above
    1/2. A gate has k selectors and weights for them: ``q = sum_i softmax(a)_i r(z_i)``. Per example, a and z are affine
    in a summary of the raw input (``Glance``); static gates learn them directly.

    What drives selectors to a single expert is their entropy, which the model hands out and does not add by itself:
    ``model.regulariser(x)`` gives it by task, to be added to the losses times a strength of your choice. The losses of
    a built-in problem do not contain it (strength 0); gates are then sparse only where that lowers the loss.

    Source: Hazimeh et al. 2021, https://arxiv.org/abs/2106.03760, sections 2 and 3. Numbers of experts that are not a
    power of 2 need a further penalty there and are not provided.

    Args:
        experts: how many encoders, a power of 2.
        k: how many of them a task may keep.
        static: gates that do not look at the input.

    Example:
        >>> from accord.architectures import MLP, vector
        >>> model = DSelectK().build(MLP(), Form("vector", 5), {"a": vector(3), "b": vector(1)})
        >>> x = torch.zeros(2, 5)
        >>> {task: tuple(y.shape) for task, y in model(x).items()}, {t: r.ndim for t, r in model.regulariser(x).items()}
        ({'a': (2, 3), 'b': (2, 1)}, {'a': 0, 'b': 0})
    """

    experts: int = 4
    k: int = 2
    static: bool = False

    name: ClassVar[str] = "dselect-k"

    def __post_init__(self) -> None:
        positive(self)
        if self.experts < 2 or self.experts & (self.experts - 1):
            raise AccordError(f"{self.name}: experts={self.experts}, expected a power of 2: 2, 4, 8, ...")
        if self.k > self.experts:
            raise AccordError(f"{self.name}: k={self.k}, expected at most the number of experts, {self.experts}.")

    def build(self, encoder: EncoderSpec, inputs: Form, heads: Mapping[str, Head]) -> nn.Module:
        """The experts, then a gate and a head for each task."""
        experts = [encoder.build(inputs) for _ in range(self.experts)]
        glance = _Blind() if self.static else Glance(inputs)
        gates = {task: Selectors(glance.width, self.experts, self.k, bias=not self.static) for task in heads}
        return _DSelectK(experts, glance, gates, {task: head(experts[0].output) for task, head in heads.items()})


class Selectors(nn.Module):
    """k selectors of single experts; from summaries (N, width) to how much each gives to each expert.

    Args:
        width: of the summaries.
        experts: E, a power of 2.
        k: number of selectors.
        bias: whether a and z are affine in the summary, or linear.
    """

    codes: Tensor

    def __init__(self, width: int, experts: int, k: int, bias: bool) -> None:
        super().__init__()
        digits = experts.bit_length() - 1
        self.shares = nn.Linear(width, k, bias)
        self.places = nn.Linear(width, k * digits, bias)
        for linear, bound in ((self.shares, WIDE), (self.places, NARROW)):
            for parameter in linear.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        codes = torch.arange(experts)[:, None] >> torch.arange(digits) & 1  # (E, m)
        self.register_buffer("codes", codes.bool(), persistent=False)

    def selected(self, seen: Tensor) -> Tensor:
        """(N, k, E) r: each selector's probabilities of the experts."""
        step = smooth_step(self.places(seen)).unflatten(1, (-1, 1, self.codes.shape[1]))  # (N, k, 1, m)
        return torch.where(self.codes, step, 1 - step).prod(-1)  # (N, k, E)

    def forward(self, seen: Tensor) -> Tensor:
        """(N, E) q: the weights of the experts."""
        return torch.einsum("nk,nke->ne", self.shares(seen).softmax(1), self.selected(seen))  # (N, E)

    def entropy(self, seen: Tensor) -> Tensor:
        """The entropy of the selectors in nats: summed over them, mean over examples."""
        r = self.selected(seen)  # (N, k, E)
        return -(r * (r + TINY).log()).sum((1, 2)).mean()


def smooth_step(z: Tensor) -> Tensor:
    """``S(z) = -2 z^3 + 3/2 z + 1/2`` between -1/2 and 1/2, 0 below, 1 above; it is differentiable everywhere.

    Example:
        >>> smooth_step(torch.tensor([-1.0, -0.25, 0.0, 0.5]))
        tensor([0.0000, 0.1562, 0.5000, 1.0000])
    """
    z = z.clamp(-0.5, 0.5)
    return -2 * z**3 + 1.5 * z + 0.5


class _Blind(nn.Module):
    """Sees the same number in every input, so that a gate without bias learns constants."""

    one: Tensor
    width = 1

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(1, 1), persistent=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.one.expand(len(x), 1)  # (N, 1)


class _DSelectK(Mixture):
    """A mixture whose gates are ``Selectors``."""

    def regulariser(self, x: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        """The entropy of each task's selectors on these inputs; only gates are run, no expert."""
        seen = self.glance(x, valid)  # (N, G)
        found: dict[str, Tensor] = {}
        for task, selectors in self.gates.items():
            assert isinstance(selectors, Selectors)
            found[task] = selectors.entropy(seen)
        return found
