"""UD-EWT: parts of speech, morphology, dependency trees and genre of English web texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord.architectures import Form, Head, per_token, vector
from accord.data import find
from accord.data.conllu import UPOS, Treebank, read_conllu
from accord.errors import AccordError
from accord.problems import seeds
from accord.problems.biaffine import NONE, attached, biaffine, parse_loss, total
from accord.problems.composed import ComposedProblem
from accord.problems.problem import Batch, Data, Metrics
from accord.problems.sentences import Sentences, padded
from accord.problems.words import FIRST, numbers, vocabulary

FILES = {
    "train": "mtl/ud_ewt/en_ewt-ud-train.conllu.gz",
    "validation": "mtl/ud_ewt/en_ewt-ud-dev.conllu.gz",
    "test": "mtl/ud_ewt/en_ewt-ud-test.conllu.gz",
}
GENRES = ("answers", "email", "newsgroup", "reviews", "weblog")
TAGGING = ("upos", "features")


@dataclass(frozen=True, repr=False)
class UDEWT(ComposedProblem):
    """Tag, analyse and parse the words of a sentence, and say which kind of text it is from.

    ``upos`` is the universal part of speech (17). ``features`` is the whole bundle of morphological features of a word
    (230 occur in the training file); one wrong feature is a wrong bundle. ``parse`` is the head and the relation (51)
    of each word, with its subtype, by biaffine attention; words choose their heads one by one, no tree is enforced,
    punctuation counts. ``genre`` is that of the document (5 kinds), read off a single sentence. Losses are mean cross
    entropies per word (``parse``: of head and of relation, added up) or sentence. Words and multi-word tokens are split
    as the treebank does. A bundle or relation that the training file lacks has no loss, and whatever is said is wrong.

    A word is known by its small letters if the training sentences of the seed have it twice, else by how it looks:
    capitals, digits, last two letters.

    Data: N. Silveira et al. 2014, "A Gold Standard Dependency Corpus for English", LREC; Universal Dependencies,
    https://github.com/UniversalDependencies/UD_English-EWT, CC BY-SA 4.0. The official parts: documents are in one of
    them only. Parser: Dozat & Manning 2017, https://arxiv.org/abs/1611.01734.

    Args:
        train: sentences drawn from the training file, anew for each seed; all would be 12544.
        validation: sentences drawn from the development file; the default is all.
        test: sentences drawn from the test file; the default is all.
        vocabulary: numbers for words and looks at most.
        epochs: passes over the training sentences.
        batch: sentences per step.
        lr: learning rate.
        architecture: what the tasks share.
        encoder: what they share it of; one for tokens.
    """

    train: int = 4000
    validation: int = 2001
    test: int = 2077
    vocabulary: int = 5000
    epochs: int = 8
    batch: int = 32
    lr: float = 4e-3
    encoder: str = "gru(embedding=128, dropout=0.25)"

    name: ClassVar[str] = "ud-ewt"
    dataset: ClassVar[str] = "ud_ewt"
    tasks: ClassVar[tuple[str, ...]] = ("upos", "features", "parse", "genre")
    metric: ClassVar[dict[str, tuple[str, bool]]] = {
        "upos": ("accuracy", True),
        "features": ("accuracy", True),
        "parse": ("las", True),
        "genre": ("accuracy", True),
    }
    measures: ClassVar[dict[str, dict[str, bool]]] = {
        "upos": {"accuracy": True},
        "features": {"accuracy": True},
        "parse": {"uas": True, "las": True},
        "genre": {"accuracy": True, "macro_f1": True},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocabulary <= FIRST:
            raise AccordError(f"{self.name}: vocabulary={self.vocabulary}, expected a whole number above {FIRST}.")

    @classmethod
    def tiny(cls) -> UDEWT:
        """Four steps per epoch, two epochs."""
        return cls(
            train=64, validation=24, test=24, vocabulary=300, epochs=2, batch=16, encoder="gru(width=16, embedding=8)"
        )

    def inputs(self) -> Form:
        """Numbers of words, in sentences as long as those of the training file."""
        return Form("tokens", self.vocabulary, (int(_read(find(FILES["train"])).lengths.max()),))

    def heads(self) -> dict[str, Head]:
        """Two taggers, a parser, and a classifier of whole sentences."""
        bundles, relations = _labels(find(FILES["train"]))
        return {
            "upos": per_token(len(UPOS)),
            "features": per_token(len(bundles)),
            "parse": biaffine(len(relations)),
            "genre": vector(len(GENRES)),
        }

    def data(self, seed: int) -> Data:
        """The sentences of this seed from each official part; words are numbered by its training sentences."""
        paths = {part: find(name) for part, name in FILES.items()}
        texts = {part: _read(path) for part, path in paths.items()}
        rng = np.random.default_rng(seeds.number(seed, self.name))
        chosen = {part: self._drawn(part, len(text), rng) for part, text in texts.items()}
        known = vocabulary(_words(texts["train"], chosen["train"]), self.vocabulary)
        labels = _labels(paths["train"])
        parts = {part: Sentences(_tensors(paths[part], chosen[part], known, labels), self.batch) for part in FILES}
        before = np.cumsum([0, *map(len, texts.values())])  # so that a number stands for one sentence of the treebank
        origin = {part: frozenset((chosen[part] + before[i]).tolist()) for i, part in enumerate(FILES)}
        return Data(**parts, origin=origin)

    def _drawn(self, part: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        wanted: int = getattr(self, part)
        if wanted > count:
            raise AccordError(f"{self.name}: {part}={wanted}, but {FILES[part]} has {count} sentences; ask for fewer.")
        return np.sort(rng.choice(count, wanted, replace=False))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean cross entropies per word, and per sentence for the genre."""
        sums = _sums(model(batch["word"], batch["valid"]), batch)
        words, sentences = batch["length"].sum(), len(batch["length"])
        return {task: loss / (sentences if task == "genre" else words) for task, loss in sums.items()}

    @torch.no_grad()
    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Losses; accuracies of tags, bundles and genre; attachment without and with relation; F1 of the genres."""
        words, sums, right = 0, dict.fromkeys(self.tasks, 0.0), dict.fromkeys((*TAGGING, "uas", "las"), 0)
        confusion = torch.zeros(len(GENRES), len(GENRES), dtype=torch.long)  # true by predicted
        for batch in batches:
            outputs = model(batch["word"], batch["valid"])
            words += int(batch["length"].sum())
            for task, loss in _sums(outputs, batch).items():
                sums[task] += float(loss)
            for task in TAGGING:
                right[task] += int((outputs[task].argmax(2) == batch[task]).sum())
            heads, labelled = attached(outputs["parse"], batch["head"], batch["relation"], batch["valid"])
            right["uas"] += int(heads)
            right["las"] += int(labelled)
            pairs = batch["genre"] * len(GENRES) + outputs["genre"].argmax(1)  # (N,)
            confusion += pairs.bincount(minlength=confusion.numel()).view_as(confusion).cpu()
        sentences = int(confusion.sum())
        genre = {"accuracy": int(confusion.trace()) / sentences, "macro_f1": macro_f1(confusion)}
        return {
            **{task: {"loss": sums[task] / words, "accuracy": right[task] / words} for task in TAGGING},
            "parse": {"loss": sums["parse"] / words, "uas": right["uas"] / words, "las": right["las"] / words},
            "genre": {"loss": sums["genre"] / sentences, **genre},
        }


def macro_f1(confusion: Tensor) -> float:
    """The mean F1 of the classes that occur: ``2 hits / (true + predicted)`` each.

    Args:
        confusion: (C, C) counts, true classes by predicted ones.

    Example:
        >>> macro_f1(torch.tensor([[2, 0, 0], [2, 0, 0], [0, 0, 0]]))
        0.3333333333333333
    """
    true, predicted = confusion.sum(1), confusion.sum(0)  # (C,) each
    scores = 2 * confusion.diagonal().double() / (true + predicted).clamp(min=1)  # (C,)
    return float(scores[true > 0].mean())


def _sums(outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
    """By task the sum of the cross entropies over words or sentences."""
    parse = parse_loss(outputs["parse"], batch["head"], batch["relation"], batch["valid"])
    return {task: parse if task == "parse" else total(outputs[task], batch[task]) for task in UDEWT.tasks}


@cache
def _read(path: Path) -> Treebank:
    return read_conllu(path)


@cache
def _labels(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of the bundles of features and of the relations of a training file."""
    treebank = _read(path)
    bundles, relations = (sorted(set(names)) for names in (treebank.features, treebank.relation))
    return {name: i for i, name in enumerate(bundles)}, {name: i for i, name in enumerate(relations)}


def _tensors(
    path: Path, chosen: NDArray[np.int64], known: dict[str, int], labels: tuple[dict[str, int], dict[str, int]]
) -> dict[str, Tensor]:
    """What a batch is cut from, with the sentences that were chosen."""
    text, lengths = _read(path), _read(path).lengths[chosen]
    places = _places(text, chosen)
    bundles, relations = labels

    def targets(names: list[str], classes: dict[str, int]) -> Tensor:
        return padded(np.array([classes.get(names[i], NONE) for i in places]), lengths, NONE)

    return {
        "word": padded(numbers(_words(text, chosen), known), lengths),
        "upos": padded(text.upos[places], lengths, NONE),
        "features": targets(text.features, bundles),
        "head": padded(text.head[places], lengths),
        "relation": targets(text.relation, relations),
        "genre": torch.tensor([_genre(path, text.document[i]) for i in chosen]),
        "length": torch.from_numpy(lengths),
    }


def _places(text: Treebank, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """(W,) where the words of some sentences stand in the treebank."""
    lengths = text.lengths[chosen]
    starts = text.offsets[chosen] - np.cumsum(lengths) + lengths
    return np.repeat(starts, lengths) + np.arange(lengths.sum())


def _words(text: Treebank, chosen: NDArray[np.int64]) -> list[str]:
    return [text.form[i] for i in _places(text, chosen)]


def _genre(path: Path, document: str) -> int:
    genre = document.partition("-")[0]
    if genre not in GENRES:
        raise AccordError(f"{path}: the document {document!r} must begin with one of {', '.join(GENRES)}; get it anew.")
    return GENRES.index(genre)
