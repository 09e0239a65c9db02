"""Language pre-training in small: pairs of sentences from Python's own help texts, and four objectives on them.

``MLM``: say the words that are masked (15 %). ``NSP``: does the second sentence follow the first, or is it from another
topic? ``RTD``: which words were replaced by a generator (here a bigram model of the same text)? ``CASE``: which words
had a capital letter? MLM, NSP and CASE read the masked sentences, RTD the same sentences with replacements. Letters:
`N` pairs, `L` positions, `V` words.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pydoc_data.topics import topics  # type: ignore[import-untyped, unused-ignore]
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, scaled_dot_product_attention

OBJECTIVES = ("MLM", "NSP", "RTD", "CASE")
VOCABULARY, FIRST, SECOND = 1200, 20, 19  # words; positions of both sentences
LENGTH = FIRST + SECOND + 3  # one CLS, two SEP
PAD, CLS, SEP, MASK, UNKNOWN, WORDS = range(6)  # special tokens; words begin at the last one
SHARE = 0.15  # of the words that are masked, or replaced
SHARED = ("words", "positions", "layers", "norm")  # what all objectives share; the rest are heads


@dataclass(frozen=True)
class Pairs:
    """Two sentences that follow each other, as numbers of words.

    Args:
        first: (N, 20), padded.
        second: (N, 19), padded.
        capital_first: (N, 20) bool.
        capital_second: (N, 19) bool.
        topic: (N,) which help text they are from.
    """

    first: Tensor
    second: Tensor
    capital_first: Tensor
    capital_second: Tensor
    topic: Tensor

    def __len__(self) -> int:
        return len(self.topic)

    def __getitem__(self, i: Tensor) -> Pairs:
        return Pairs(*(part[i] for part in vars(self).values()))


@dataclass(frozen=True)
class Batch:
    """What goes into the model, and what should come out; positions that do not count are -1.

    Args:
        masked: (N, L) words, some of them masked.
        replaced: (N, L) the same words, others of them replaced.
        words: (N, L) what was masked.
        follows: (N,) 1 if the second sentence follows.
        fakes: (N, L) 1 where a word was replaced by another one.
        capitals: (N, L) 1 where a word had a capital.
    """

    masked: Tensor
    replaced: Tensor
    words: Tensor
    follows: Tensor
    fakes: Tensor
    capitals: Tensor


@lru_cache(maxsize=1)
def _sentences() -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    """Topic and words of all sentences that follow each other in a paragraph; texts that occur twice count once."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}
    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            parts = re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split()))
            words = [tuple(re.findall(r"[A-Za-z_]+|\d+|[^\w\s]", part)) for part in parts]
            words = [one for one in words if len(one) >= 4]
            for pair in pairwise(words):
                found.setdefault(pair, name)
    return tuple((topic, *pair) for pair, topic in found.items())


def text_hash() -> str:
    """Of the help texts, which differ from one version of Python to another.

    Example:
        >>> len(text_hash())
        12
    """
    return hashlib.sha256("".join(topics[name] for name in sorted(topics)).encode()).hexdigest()[:12]


@lru_cache(maxsize=2)
def corpus(seed: int, held_out: float) -> tuple[Pairs, Pairs, Tensor]:
    """Pairs for pre-training, pairs that it never sees, and the ``bigrams``; words are those of the former.

    Args:
        seed: of the split.
        held_out: share of the pairs.

    Example:
        >>> train, other, _ = corpus(0, 0.25)
        >>> train.first.shape[1], train.second.shape[1], abs(len(train) - 3 * len(other)) < 9
        (20, 19, True)
    """
    every = _sentences()
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
    cut = int(held_out * len(every))
    parts = [every[i] for i in order[cut:]], [every[i] for i in order[:cut]]
    counts = Counter(word.lower() for _, a, b in parts[0] for word in (*a, *b))
    known = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: VOCABULARY - WORDS]]
    number = {word: i for i, word in enumerate(known, WORDS)}
    topic = {name: i for i, name in enumerate(sorted(topics))}

    def pairs(chosen: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> Pairs:
        def filled(one: Sequence[Any], side: int, empty: Any) -> list[Any]:
            room = (FIRST, SECOND)[side]
            return [*one, *[empty] * room][:room]

        words = ([filled([number.get(w.lower(), UNKNOWN) for w in p[s + 1]], s, PAD) for p in chosen] for s in (0, 1))
        capitals = ([filled([w[0].isupper() for w in p[s + 1]], s, False) for p in chosen] for s in (0, 1))
        first, second, capital_first, capital_second = map(torch.tensor, (*words, *capitals))
        return Pairs(first, second, capital_first, capital_second, torch.tensor([topic[p[0]] for p in chosen]))

    train = pairs(parts[0])
    return train, pairs(parts[1]), bigrams(train)


def bigrams(train: Pairs) -> Tensor:
    """(V, V) how likely each word follows each: counts in the text, with a little of the plain frequencies."""
    joined = torch.cat([train.first, train.second], 1)  # (N, 39)
    flat = joined[:, :-1] * VOCABULARY + joined[:, 1:]  # (N, 38)
    follows = torch.bincount(flat.flatten(), minlength=VOCABULARY**2).double().view(VOCABULARY, VOCABULARY)
    plain = torch.bincount(joined.flatten(), minlength=VOCABULARY).double()  # (V,)
    chance = follows + plain / plain.sum()  # (V, V)
    chance[:, :WORDS] = 0.0  # a generator proposes words
    return (chance / chance.sum(1, keepdim=True)).float()


def joined(first: Tensor, second: Tensor, ends: tuple[int, int]) -> Tensor:
    """(N, L): CLS, first, SEP, second, SEP, with given values at the places of CLS and SEP."""
    start, stop = (torch.full((len(first), 1), end, dtype=first.dtype) for end in ends)
    return torch.cat([start, first, stop, second, stop], 1)


def batch(pairs: Pairs, i: Tensor, chances: Tensor, generator: torch.Generator) -> Batch:
    """The pairs with these numbers, half of them with a second sentence from another topic, masked and replaced.

    Args:
        pairs: to choose from.
        i: (N,).
        chances: (V, V), see ``bigrams``.
        generator: draws everything.
    """
    chosen = pairs[i]
    j = torch.randint(len(pairs), i.shape, generator=generator)  # (N,) where another second sentence may come from
    apart = (torch.rand(len(i), generator=generator) < 0.5) & (pairs.topic[j] != chosen.topic)  # (N,)
    other = pairs[j]
    second = torch.where(apart[:, None], other.second, chosen.second)  # (N, 19)
    capital = torch.where(apart[:, None], other.capital_second, chosen.capital_second)  # (N, 19)
    words = joined(chosen.first, second, (CLS, SEP))  # (N, L)
    capitals = joined(chosen.capital_first.long(), capital.long(), (0, 0))  # (N, L)
    real = words >= UNKNOWN  # (N, L)
    masks, fakes = ((torch.rand(words.shape, generator=generator) < SHARE) & real for _ in range(2))
    proposed = torch.multinomial(chances[words.roll(1, 1)[fakes]], 1, generator=generator)[:, 0]
    replaced = words.masked_scatter(fakes, proposed)  # (N, L)
    return Batch(
        words.masked_fill(masks, MASK),
        replaced,
        words.masked_fill(~masks, -1),
        (~apart).float(),
        (replaced != words).long().masked_fill(~real, -1),
        capitals.masked_fill(~real, -1),
    )


def batches(pairs: Pairs, size: int, count: int, chances: Tensor, seed: int) -> Iterator[Batch]:
    """So many batches, drawn with replacement; equal for equal seeds."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield batch(pairs, torch.randint(len(pairs), (size,), generator=generator), chances, generator)


class Layer(nn.Module):
    """A transformer layer that normalises first."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.feed = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``x (N, L, D)``, ``seen (N, 1, 1, L)`` bool."""
        n, length, size = x.shape
        parts = self.qkv(self.before(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (3, N, H, L, D/H)
        mixed = scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=seen)  # (N, H, L, D/H)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, size))  # (N, L, D)
        return x + self.feed(self.between(x))


class Model(nn.Module):
    """Two layers of 64 units with four heads of attention, and one output for each objective.

    Args:
        seed: of the initial weights.

    Example:
        >>> Model(0).encode(torch.ones(2, LENGTH, dtype=torch.long)).shape
        torch.Size([2, 42, 64])
    """

    def __init__(self, seed: int, size: int = 64) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.words = nn.Embedding(VOCABULARY, size)
            self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, size))
            nn.init.normal_(self.words.weight, std=0.1)
            self.layers = nn.ModuleList(Layer(size, 4) for _ in range(2))
            self.norm = nn.LayerNorm(size)
            outputs = {"MLM": VOCABULARY, "NSP": 1, "RTD": 1, "CASE": 1}
            self.outputs = nn.ModuleDict({name: nn.Linear(size, wide) for name, wide in outputs.items()})

    def encode(self, words: Tensor) -> Tensor:
        """(N, L) words as (N, L, D)."""
        x = self.words(words) + self.positions  # (N, L, D)
        for layer in self.layers:
            x = layer(x, (words != PAD)[:, None, None])
        return self.norm(x)

    def losses(self, given: Batch, objectives: Sequence[str]) -> dict[str, Tensor]:
        """Those objectives' mean losses; each of the two inputs is read only if one of them needs it."""
        out = {}
        if set(objectives) - {"RTD"}:
            features = self.encode(given.masked)  # (N, L, D)
        for name in objectives:
            head = self.outputs[name]
            if name == "MLM":
                hidden = given.words >= 0  # (N, L)
                out[name] = cross_entropy(head(features[hidden]), given.words[hidden])
            elif name == "NSP":
                out[name] = binary_cross_entropy_with_logits(head(features[:, 0])[:, 0], given.follows)
            else:
                x, target = (features, given.capitals) if name == "CASE" else (self.encode(given.replaced), given.fakes)
                known = target >= 0  # (N, L)
                out[name] = binary_cross_entropy_with_logits(head(x[known])[:, 0], target[known].float())
        return out


@torch.no_grad()
def evaluate(model: Model, given: Sequence[Batch], objectives: Sequence[str]) -> dict[str, float]:
    """Mean losses over batches, as ``MLM loss`` and so on."""
    found = [model.losses(one, objectives) for one in given]
    return {f"{name} loss": float(torch.stack([one[name] for one in found]).mean()) for name in objectives}


def blocks(model: Model) -> dict[Tensor, str]:
    """Names for what the objectives share: the embedding, each layer."""
    out: dict[Tensor, str] = {model.words.weight: "embedding", model.positions: "embedding"}
    for number, layer in enumerate(model.layers, 1):
        out |= dict.fromkeys(layer.parameters(), f"layer {number}")
    return out | dict.fromkeys(model.norm.parameters(), f"layer {len(model.layers)}")
