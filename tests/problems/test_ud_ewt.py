"""UD-EWT on generated treebanks: the parts, numbers of words, biaffine scores, metrics against slow counting."""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from accord.architectures import ARCHITECTURES, Form
from accord.data import VARIABLE
from accord.data.conllu import UPOS
from accord.errors import AccordError
from accord.problems import parse
from accord.problems.biaffine import NONE, Scores, attached, biaffine, parse_loss
from accord.problems.sentences import Sentences, padded
from accord.problems.ud_ewt import FILES, GENRES, UDEWT, macro_f1
from accord.problems.words import looks, numbers, vocabulary

BUNDLES, RELATIONS = ("_", "Number=Sing", "Number=Plur|Person=3"), ("dep", "nsubj", "root")
TINY = {"train": 30, "validation": 12, "test": 10}


def write(folder, part: str, count: int, extra: str = "") -> None:
    """A random treebank; its words are short strings of a few letters, its trees chains to earlier words."""
    rng = np.random.default_rng(list(FILES).index(part))
    lines = []
    for i in range(count):
        lines.append(f"# newdoc id = {GENRES[i % 5]}-{i}")
        for place in range(1, int(rng.integers(1, 12)) + 1):
            word = "".join(rng.choice(list("aeinrstABC19-"), rng.integers(1, 4)))
            head = int(rng.integers(1, place)) if place > 1 else 0
            relation = RELATIONS[int(rng.integers(2))] if head else "root"
            tag, bundle = rng.choice(UPOS), rng.choice(BUNDLES)
            lines.append("\t".join((str(place), word, "_", tag, "X", bundle, str(head), relation, "_", "_")))
        lines.append("")
    path = folder / FILES[part]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n" + extra).encode()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    unseen = "# newdoc id = email-9\n1\tNew\t_\tVERB\tX\tMood=Imp\t0\tnever\t_\t_\n\n"
    for part, count in (("train", 60), ("validation", 20), ("test", 20)):
        write(tmp_path, part, count, "" if part == "train" else unseen)
    return tmp_path


@pytest.fixture
def problem(folder) -> UDEWT:
    return replace(UDEWT.tiny(), **TINY)


# --- parts --------------------------------------------------------------------------------------------------------


def test_each_seed_draws_its_own_sentences(problem):
    one, same, other = problem.data(3), problem.data(3), problem.data(4)
    for name, count in TINY.items():
        part = getattr(one, name)
        assert part.count == count
        assert all(torch.equal(part.tensors[key], getattr(same, name).tensors[key]) for key in part.tensors)
        assert one.origin[name] == same.origin[name] != other.origin[name]
    assert not one.origin["train"] & one.origin["validation"]
    assert not (one.origin["train"] | one.origin["validation"]) & one.origin["test"]


def test_all_sentences_can_be_taken_and_no_more(folder):
    data = parse("ud-ewt(train=60, validation=21, test=21)").data(0)
    assert data.origin["validation"] == frozenset(range(60, 81))
    other = parse("ud-ewt(train=5, test=21, validation=1)").data(7)
    assert torch.equal(data.test.tensors["head"], other.test.tensors["head"])
    with pytest.raises(AccordError, match="train=61, but .* has 60 sentences; ask for fewer"):
        parse("ud-ewt(train=61, validation=1, test=1)").data(0)


def test_what_training_never_shows_has_no_target(folder):
    tensors = parse("ud-ewt(train=60, validation=21, test=21)").data(0).test.tensors
    last = {name: tensors[name][20] for name in ("features", "relation", "upos", "head")}
    assert last["features"][0] == last["relation"][0] == NONE
    assert last["upos"][0] == UPOS.index("VERB")
    assert last["head"][0] == 0


@pytest.mark.parametrize("kind", ["batch", "pool"])
def test_an_epoch_holds_every_sentence_once_in_an_order_of_the_generator(kind):
    count = 40 if kind == "batch" else 1500
    lengths = torch.from_numpy(np.random.default_rng(0).geometric(0.1, count))
    words = padded(np.ones(lengths.sum(), int), lengths.numpy())
    part = Sentences({"row": torch.arange(count), "length": lengths, "word": words}, 8)

    def epoch(seed: int) -> list[dict[str, torch.Tensor]]:
        batches = list(part.shuffled(torch.Generator().manual_seed(seed)))
        assert len(batches) == len(part)
        return batches

    def order(seed: int) -> torch.Tensor:
        return torch.cat([batch["row"] for batch in epoch(seed)])

    assert torch.equal(order(0), order(0))
    assert not torch.equal(order(0), order(1))
    assert torch.equal(order(0).sort()[0], torch.arange(count))
    for batches in (epoch(0), list(part)):
        assert sorted(torch.cat([b["row"] for b in batches]).tolist()) == list(range(count))
        for batch in batches:
            assert batch["word"].shape == batch["valid"].shape
            assert batch["valid"].sum(1).tolist() == lengths[batch["row"]].tolist() == batch["length"].tolist()
            assert batch["valid"][:, -1].any(), "not cut to the longest sentence"
            assert torch.equal(batch["word"] != 0, batch["valid"])
    if kind == "pool":
        members = [{frozenset(batch["row"].tolist()) for batch in epoch(seed)} for seed in (0, 1)]
        assert len(members[0] & members[1]) < len(part) / 2, "the same sentences meet in every epoch"
        waste = sum(int((~b["valid"]).sum()) for b in epoch(0)) / int(lengths.sum())
        assert waste < 0.25  # in batches at random it is 1.6


def test_numbers_of_words():
    words = ["The", "cat", "the", "Dog", "Hog", "x1", "THE", "cat", "..."]
    known = vocabulary(words, 100)
    assert set(known) == {"the", "cat", *looks("Hog")}
    assert sorted(known.values()) == list(range(2, 2 + len(known)))
    assert numbers(["THE", "Fog", "Fox", "fog"], known).tolist() == [
        known["the"], known["LIKE Aa.og"], known["LIKE Aa"], 1,
    ]  # fmt: skip
    assert len(vocabulary(words, 4)) == 2
    assert vocabulary(["a", "B", "1"], 100) == {}
    assert numbers(["LIKE Aa"], known).tolist() == [1], "a word must not pass for a look"


# --- scores -------------------------------------------------------------------------------------------------------


@pytest.fixture
def scored():
    torch.manual_seed(0)
    head = biaffine(4, arc=5, relation=3)(Form("sequence", 6, (9,))).double()
    valid = torch.tensor([[True] * 4, [True, False, False, False], [True] * 3 + [False]])
    return head, torch.randn(3, 4, 6, dtype=torch.double), valid


def test_biaffine_scores_one_pair_at_a_time(scored):
    head, x, valid = scored
    scores = head(x, valid)
    kinds = head.kinds.view(3, 4, 3)
    for n, i in valid.nonzero().tolist():
        dependent = head.dependent(x[n, i]).relu()
        for j in range(5):
            governor = head.governor(head.root if j == 0 else x[n, j - 1]).relu()
            if j == i + 1 or (j and not valid[n, j - 1]):
                assert scores.arcs[n, i, j] == -torch.inf
                continue
            arc = governor[:5] @ head.arcs.weight @ dependent[:5] + head.attractive.weight[0] @ governor[:5]
            assert scores.arcs[n, i, j].item() == pytest.approx(arc.item())
            heads = torch.full((3, 4), j)
            for c in range(4):
                expected = dependent[5:] @ kinds[:, c] @ governor[5:] + head.bias(dependent[5:])[c]
                expected = expected + head.pull.weight[c] @ governor[5:]
                assert scores.relations(heads)[n, i, c].item() == pytest.approx(expected.item())


def test_biaffine_scores_do_not_depend_on_padding(scored):
    head, x, valid = scored
    together, heads = head(x, valid), torch.tensor([[0, 1, 1, 2], [0] * 4, [2, 0, 2, 0]])
    for n, length in enumerate((4, 1, 3)):
        alone = head(x[n : n + 1, :length])
        torch.testing.assert_close(together.arcs[n, :length, : length + 1], alone.arcs[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(
            together.relations(heads)[n, :length], alone.relations(heads[n : n + 1, :length])[0], rtol=0, atol=1e-10
        )


def test_parse_loss_and_attachment_counted_word_by_word(scored):
    head, x, valid = scored
    scores = head(x, valid)
    heads = torch.tensor([[0, 1, 1, 2], [0, 0, 0, 0], [2, 0, 2, 0]])
    relations = torch.tensor([[0, 1, 2, 3], [1, NONE, NONE, NONE], [0, NONE, 2, NONE]])
    loss, right, labelled = 0.0, 0, 0
    for n, i in valid.nonzero().tolist():
        loss += cross_entropy(scores.arcs[n, i], heads[n, i]).item()
        if relations[n, i] != NONE:
            loss += cross_entropy(scores.relations(heads)[n, i], relations[n, i]).item()
        found = scores.arcs[n, i].argmax()
        best = scores.relations(torch.full_like(heads, int(found)))[n, i].argmax()
        right += int(found == heads[n, i])
        labelled += int(found == heads[n, i] and best == relations[n, i])
    assert parse_loss(scores, heads, relations, valid).item() == pytest.approx(loss)
    assert [int(count) for count in attached(scores, heads, relations, valid)] == [right, labelled]
    assert right > 0


def test_a_sentence_of_one_word_depends_on_the_root(scored):
    head, x, _ = scored
    scores = head(x[:1, :1])
    assert scores.arcs.softmax(2).tolist() == [[[1.0, 0.0]]]
    zero = torch.zeros(1, 1, dtype=torch.long)
    assert parse_loss(scores, zero, zero, zero == 0).isfinite()


def test_a_parser_needs_a_sequence():
    with pytest.raises(AccordError, match="a parser needs an encoder that gives a sequence; this one gives map"):
        biaffine(3)(Form("map", 8, (2, 2)))


# --- losses and metrics -------------------------------------------------------------------------------------------


def batches(part: Sentences, size: int):
    return [part._cut(chosen) for chosen in torch.arange(part.count).split(size)]


def test_losses_are_finite_and_reach_every_parameter(problem):
    model = problem.model(0)
    losses = problem.losses(model, next(iter(problem.data(0).train)))
    assert tuple(losses) == problem.tasks
    sum(losses.values()).backward()
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("encoder", ["gru(width=8)", "transformer(width=8, layers=1, attending=2)"])
@pytest.mark.parametrize("architecture", [kind.name for kind in ARCHITECTURES])
def test_metrics_and_losses_do_not_depend_on_the_batches(problem, encoder, architecture):
    problem = replace(problem, encoder=encoder, architecture=architecture)
    model, part = problem.model(0).eval().double(), problem.data(0).test
    whole, pieces = (problem.metrics(model, batches(part, size)) for size in (part.count, 3))
    assert set(whole) == set(problem.tasks)
    for task, measures in problem.measures.items():
        assert set(whole[task]) == {"loss", *measures}
        assert whole[task] == pytest.approx(pieces[task], rel=1e-10)
    losses = problem.losses(model, batches(part, part.count)[0])
    for task in problem.tasks:
        assert losses[task].item() == pytest.approx(whole[task]["loss"])


def test_metrics_counted_word_by_word(problem):
    model, part = problem.model(1).eval(), problem.data(1).test
    words, right, genres = 0, dict.fromkeys(("upos", "features", "uas", "las"), 0), []
    for batch in batches(part, 1):
        out = model(batch["word"], batch["valid"])
        found = out["parse"].arcs.argmax(2)
        relation = out["parse"].relations(found).argmax(2)
        for i in range(int(batch["length"])):
            words += 1
            for task in ("upos", "features"):
                right[task] += int(out[task][0, i].argmax() == batch[task][0, i])
            hit = bool(found[0, i] == batch["head"][0, i])
            right["uas"] += hit
            right["las"] += hit and bool(relation[0, i] == batch["relation"][0, i])
        genres.append((int(batch["genre"]), int(out["genre"].argmax())))
    metrics = problem.metrics(model, part)
    assert metrics["upos"]["accuracy"] == right["upos"] / words
    assert metrics["features"]["accuracy"] == right["features"] / words
    assert metrics["parse"]["uas"] == right["uas"] / words
    assert metrics["parse"]["las"] == right["las"] / words
    assert metrics["genre"]["accuracy"] == sum(a == b for a, b in genres) / len(genres)


def test_macro_f1_as_precision_and_recall():
    pairs = np.random.default_rng(0).integers(0, 4, (50, 2))
    confusion = torch.zeros(5, 5, dtype=torch.long)  # class 4 never occurs
    scores = []
    for true, predicted in pairs:
        confusion[true, predicted] += 1
    for c in range(4):
        hits = sum((pairs == c).all(1))
        precision, recall = hits / (pairs[:, 1] == c).sum(), hits / (pairs[:, 0] == c).sum()
        scores.append(2 * precision * recall / (precision + recall))
    assert macro_f1(confusion) == pytest.approx(np.mean(scores))


class Oracle(torch.nn.Module):
    """Knows the truth, and says it with logits."""

    def __init__(self, batch, classes: dict[str, int], wrong: int = 0) -> None:
        super().__init__()
        self.batch, self.classes, self.wrong = batch, classes, wrong

    def forward(self, x, valid):
        def sure(targets, size):
            return 50.0 * torch.nn.functional.one_hot((targets.clamp(min=0) + self.wrong) % size, size).float()

        batch, count, length = self.batch, *x.shape
        arcs = sure(batch["head"], length + 1)
        relations = sure(batch["relation"], self.classes["relation"])
        nothing = torch.zeros(count, length + 1, relations.shape[2])
        parse = Scores(arcs, relations[..., None] * 0, torch.zeros(count, length + 1, 1), relations, nothing)
        simple = {task: sure(batch[task], self.classes[task]) for task in ("upos", "features", "genre")}
        return {**simple, "parse": parse}


def test_who_knows_the_truth_gets_everything_right_and_who_is_always_beside_it_nothing(problem):
    (batch,) = batches(problem.data(0).train, TINY["train"])
    classes = {"upos": len(UPOS), "features": len(BUNDLES), "relation": len(RELATIONS), "genre": len(GENRES)}
    for wrong, expected in ((0, 1.0), (1, 0.0)):
        metrics = problem.metrics(Oracle(batch, classes, wrong), [batch])
        for task, measures in problem.measures.items():
            for measure in measures:
                assert metrics[task][measure] == expected, (task, measure)
            assert (metrics[task]["loss"] < 1e-6) == (wrong == 0)


# --- wrong files and settings -------------------------------------------------------------------------------------


def test_missing_files_are_named(folder):
    (folder / FILES["test"]).unlink()
    with pytest.raises(AccordError, match=FILES["test"]):
        UDEWT.tiny().data(0)


def test_a_document_of_an_unknown_genre(folder):
    write(folder, "validation", 0, "# newdoc id = novel-1\n1\tw\t_\tX\tX\t_\t0\troot\t_\t_\n\n")
    with pytest.raises(AccordError, match="the document 'novel-1' must begin with one of answers, email"):
        parse("ud-ewt(train=30, validation=1, test=10)").data(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ud-ewt(vocabulary=2)", "vocabulary=2, expected a whole number above 2"),
        ("ud-ewt(train=0)", "train=0, expected a whole number greater than 0"),
        ("ud-ewt(encoder='grus')", "Did you mean 'gru'"),
    ],
)
def test_wrong_settings(text, message):
    with pytest.raises(AccordError, match=message):
        parse(text)


def test_an_encoder_for_images_is_refused(folder):
    with pytest.raises(AccordError, match="the encoder conv takes inputs of the form map, and these are tokens"):
        parse("ud-ewt(encoder='conv')").model(0)
