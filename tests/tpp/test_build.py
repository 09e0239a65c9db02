"""Models by name: published parameter counts, tags, blocks, widths that match."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from accord.tpp.build import NAMES, build, match_width, rebuild, split_name
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.presets import PUBLISHED, Widths

# M = 50, 22, 8; checkpoints of the study's authors, or the same formulas where those have none
COUNTS = {
    "thp": (14720, 11696, 10184), "thp+": (14786, 11566, 10544), "thp++": (14602, 11158, 10024),
    "thp-d": (15112, 11976, 10408), "thp-dd": (15252, 11892, 10212),
    "sahp": (15588, 12620, 11136), "sahp+": (15210, 12438, 11640), "sahp++": (15514, 12518, 11608),
    "sahp-d": (15412, 12388, 10876), "sahp-dd": (15464, 12216, 10592),
    "sthp+": (18586, 12594, 10186), "sthp++": (18402, 12186, 9666),
    "fnn": (15939, 14343, 13545), "fnn+": (16086, 15106, 14616), "fnn++": (14961, 13589, 12903),
    "fnn-d": (16083, 14011, 12975), "fnn-dd": (16086, 13790, 12642),
    "lnm": (13930, 13230, 12880), "lnm+": (13946, 13246, 12896), "lnm++": (13762, 12838, 12376),
    "rmtpp": (13619, 10427, 9419), "rmtpp+": (13669, 10449, 9427), "rmtpp++": (13063, 9619, 8485),
    "joint-lnm": (169162, 79758, 35056),
}  # fmt: skip


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_published_parameter_counts(name):
    assert tuple(size(build(name, marks)) for marks in (50, 22, 8)) == COUNTS[name]


def test_other_published_widths():
    lastfm = dataclasses.replace(PUBLISHED["lnm++"], rnn=27)
    wide = Widths(40, 16, 16)
    assert tuple(size(build("lnm++", m, lastfm)) for m in (50, 22, 8)) == (13340, 12416, 11954)
    assert tuple(size(build("rmtpp++", m, wide)) for m in (50, 22, 8)) == (18125, 15129, 14219)


def test_every_model_but_the_references_has_a_published_count():
    assert set(NAMES) - set(COUNTS) == {"poisson", "hawkes"}


@pytest.mark.parametrize("name", NAMES)
def test_tags_follow_the_variant(name):
    model = build(name, 3)
    family, variant = split_name(name)
    tags = set(model.task_of().values())
    assert set(model.task_of()) == {n for n, _ in model.named_parameters()} == set(model.block_of())
    assert ("shared" in tags) == (variant in ("", "+", "-d"))
    assert model.disjoint == (variant in ("++", "-dd"))
    shared_decoder = any(n.startswith("decoder.shared") for n in model.task_of())
    assert shared_decoder == (variant == "" and family not in ("lnm", "rmtpp"))


def test_blocks_are_those_of_the_study():
    assert set(build("thp", 3).block_of().values()) == {"embedding", "history", "mlp", "decoder"}
    assert set(build("thp++", 3, history="attention").block_of().values()) == {
        f"{part}-{task}" for part in ("embedding", "history", "mlp", "decoder") for task in ("time", "mark")
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("history", ["gru", "attention"])
def test_settings_make_the_same_model_again(name, history):
    model = build(name, 4, history=history, encoding="log_concatenate", tick=1e-7)
    again = rebuild(model.settings)
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in again.named_parameters()}
    assert again.floor == model.floor == 5e-8


@pytest.mark.parametrize("history", ["gru", "attention"])
@pytest.mark.parametrize("name", sorted(COUNTS.keys() - {"joint-lnm"}))
def test_matched_widths_are_within_one_per_cent(name, history):
    """All variants of a family at the size of one of them, for few marks, where a unit weighs most."""
    target = size(build(split_name(name)[0].replace("sthp", "sthp+"), 8, history=history))
    widths = match_width(name, 8, target, history=history)
    assert size(build(name, 8, widths, history=history)) == pytest.approx(target, rel=0.01)


def test_widths_that_cannot_match():
    with pytest.raises(TPPError, match="parameters, and 100 were wanted"):
        match_width("thp", 50, 100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "thpp"}, "no model 'thpp'. Did you mean 'thp"),
        ({"name": "sthp"}, "no model 'sthp'"),
        ({"name": "thp", "marks": 0}, "marks=0"),
        ({"name": "thp", "history": "lstm"}, "history='lstm'"),
        ({"name": "thp", "encoding": "temporal_with_lables"}, "Did you mean 'temporal_with_labels'"),
        ({"name": "thp", "history": "attention", "position": "sin"}, "sin"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(TPPError, match=message):
        build(**{"marks": 3, **arguments})


def test_another_vocabulary_is_refused():
    with pytest.raises(TPPError, match="knows 3 marks and the events have 2"):
        build("lnm", 3).accept(Events.of([[1.0]], names="ab"))
