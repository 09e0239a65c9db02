"""Dependency trees: scores of all heads and relations by biaffine maps, their losses, and what is counted of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from accord.architectures import Form, Head
from accord.errors import AccordError

NONE = -100  # no class at all, in targets: at padding, or because training never showed it


@dataclass(frozen=True)
class Scores:
    """What the head of a parser gives; column 0 of the heads is the root, column j is word j.

    Args:
        arcs: (N, L, L + 1) logits of the head of each word; -inf for itself and for padding.
        dependents: (N, L, R, A) each word as a dependent, already mapped for each relation; see ``relations``.
        governors: (N, L + 1, A) each word as a head.
        bias: (N, L, R) what a relation gets from the dependent alone.
        pull: (N, L + 1, R) what it gets from the head alone.
    """

    arcs: Tensor
    dependents: Tensor
    governors: Tensor
    bias: Tensor
    pull: Tensor

    def relations(self, heads: Tensor) -> Tensor:
        """(N, L, R) logits of the relation of each word to a given head.

        Args:
            heads: (N, L).
        """
        governors = _chosen(self.governors, heads)  # (N, L, A)
        matched = (self.dependents @ governors[..., None])[..., 0]  # (N, L, R)
        return matched + self.bias + _chosen(self.pull, heads)  # (N, L, R)


def biaffine(relations: int, arc: int = 64, relation: int = 32) -> Head:
    """A head that scores dependency trees.

    With ``d, h = relu(W r)`` of the features ``r`` of dependent and head, each map its own, and a learned root:
    ``s_ij = d_i' U h_j + u' h_j`` for arcs and, for relation c, ``d_i' U_c h_j + v_c' d_i + w_c' h_j + b_c``.

    Source: Dozat & Manning 2017, https://arxiv.org/abs/1611.01734, section 3.

    Args:
        relations: R, kinds of dependency.
        arc: width of words as ends of arcs.
        relation: A, width of words as ends of relations.

    Raises:
        AccordError: when built for anything but sequences.

    Example:
        >>> scores = biaffine(5)(Form("sequence", 8, (4,)))(torch.zeros(2, 3, 8))
        >>> scores.arcs.shape, scores.relations(torch.zeros(2, 3, dtype=torch.long)).shape
        (torch.Size([2, 3, 4]), torch.Size([2, 3, 5]))
    """

    def build(form: Form) -> nn.Module:
        if form.kind != "sequence":
            raise AccordError(f"a parser needs an encoder that gives a sequence; this one gives {form.kind}.")
        return _Biaffine(form.width, relations, arc, relation)

    return build


class _Biaffine(nn.Module):
    def __init__(self, width: int, relations: int, arc: int, relation: int) -> None:
        super().__init__()
        self.sizes = [arc, relation]
        self.root = nn.Parameter(torch.randn(width))
        self.dependent, self.governor = nn.Linear(width, arc + relation), nn.Linear(width, arc + relation)
        self.arcs = nn.Linear(arc, arc, bias=False)
        self.attractive = nn.Linear(arc, 1, bias=False)
        self.kinds = nn.Parameter(torch.randn(relation, relations * relation) / relation)
        self.bias, self.pull = nn.Linear(relation, relations), nn.Linear(relation, relations, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Scores:
        count, length, width = x.shape
        rooted = torch.cat((self.root.expand(count, 1, width), x), 1)  # (N, L + 1, D)
        dependent, described = relu(self.dependent(x)).split(self.sizes, 2)  # (N, L, arc), (N, L, A)
        governor, describing = relu(self.governor(rooted)).split(self.sizes, 2)  # (N, L + 1, arc), (N, L + 1, A)
        arcs = self.arcs(dependent) @ governor.mT + self.attractive(governor).mT  # (N, L, L + 1)
        excluded = torch.eye(length, length + 1, dtype=torch.bool, device=x.device).roll(1, 1)  # (L, L + 1)
        if valid is not None:
            real = torch.cat((valid.new_ones(count, 1), valid), 1)  # (N, L + 1)
            excluded = excluded | ~real[:, None]  # (N, L, L + 1)
        mapped = (described @ self.kinds).unflatten(2, (-1, self.sizes[1]))  # (N, L, R, A)
        return Scores(
            arcs.masked_fill(excluded, -torch.inf), mapped, describing, self.bias(described), self.pull(describing)
        )


def parse_loss(scores: Scores, heads: Tensor, relations: Tensor, valid: Tensor) -> Tensor:
    """Over all words, the sum of the cross entropies of the head and of the relation to the true head.

    Args:
        scores: of the parser.
        heads: (N, L) true heads.
        relations: (N, L) true relations; ``NONE`` at padding and where there is none to learn from.
        valid: (N, L) False at padding.
    """
    arc = total(scores.arcs, heads.masked_fill(~valid, NONE))
    return arc + total(scores.relations(heads), relations)


def total(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of the cross entropies where there is a target.

    Args:
        logits: (..., C).
        targets: (...) classes, or ``NONE``.
    """
    return cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum", ignore_index=NONE)


def attached(scores: Scores, heads: Tensor, relations: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """How many words have the right head, and how many the right head and relation.

    Each word takes its best head and then its best relation to it. Nothing demands that a tree results.

    Args:
        scores: of the parser.
        heads: (N, L) true heads.
        relations: (N, L) true relations.
        valid: (N, L) False at padding.
    """
    found = scores.arcs.argmax(2)  # (N, L)
    right = (found == heads) & valid
    labelled = right & (scores.relations(found).argmax(2) == relations)
    return right.sum(), labelled.sum()


def _chosen(x: Tensor, heads: Tensor) -> Tensor:
    """Rows (N, L, D) of x (N, L + 1, D)."""
    return x.gather(1, heads[..., None].expand(-1, -1, x.shape[2]))
