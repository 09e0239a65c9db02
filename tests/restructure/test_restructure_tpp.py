"""Point processes: the variants of a base model, and its layers made task-specific, are the same idea.

With the same widths, ``-d`` and ``-dd`` are exactly the base with a task-specific decoder, and with that and a
task-specific encoder. ``+`` and ``++`` also write the mark head anew: a network of its own, which sees the time.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accord.restructure import task_specific
from accord.tpp import Events, build
from accord.tpp.batch import collate
from accord.tpp.model import TASKS
from accord.tpp.presets import PUBLISHED

M = 4


def numbers(model):
    return sum(p.numel() for p in model.parameters())


def own_loss(output, task):
    return output.losses()[task]


def split(name, layers):
    torch.manual_seed(0)
    return task_specific(build(name, M, PUBLISHED[name]), layers, TASKS, pick=own_loss)


@pytest.mark.parametrize("family", ["thp", "sahp", "fnn"])
@pytest.mark.parametrize(
    ("variant", "layers"), [("-d", ["decoder.shared"]), ("-dd", ["encoder.shared", "decoder.shared"])]
)
def test_variants_that_keep_the_form(family, variant, layers):
    assert numbers(split(family, layers)) == numbers(build(f"{family}{variant}", M, PUBLISHED[family]))


@pytest.mark.parametrize("family", ["rmtpp", "lnm"])
def test_variants_with_another_mark_head(family):
    """RMTPP and LNM have task-specific decoders from the start: ``+`` only shows the mark head the time."""
    base, plus, both = (build(f"{family}{variant}", M, PUBLISHED[family]) for variant in ("", "+", "++"))
    time = numbers(plus) - numbers(base)
    assert time == (PUBLISHED[family].head or M)  # one more input of its hidden layer
    assert numbers(split(family, "encoder.shared")) == numbers(both) - time


def test_variants_with_a_mark_head_of_their_own():
    """THP+ has a ground intensity of C units and a network for the marks, where a split decoder has M units twice."""
    widths = PUBLISHED["thp"]
    plus, base = build("thp+", M, widths), split("thp", "decoder.shared")
    own = numbers(plus.decoder["time"]) + numbers(plus.decoder["mark"])
    assert numbers(plus) - own == numbers(base) - 2 * numbers(base.copies()["decoder.shared"].time)
    assert numbers(plus.decoder["time"]) == widths.components * numbers(base.copies()["decoder.shared"].time) // M


@pytest.mark.parametrize(
    ("variant", "layers"), [("-d", ["decoder.shared"]), ("-dd", ["encoder.shared", "decoder.shared"])]
)
def test_losses_are_those_of_the_variant(variant, layers):
    rng = np.random.default_rng(0)
    times = [np.cumsum(rng.exponential(1, size=n)) for n in (5, 8)]
    marks = [rng.integers(0, M, size=len(t)) for t in times]
    batch = collate(Events.of(times, marks))
    model = split("thp", layers)
    variant_model = build(f"thp{variant}", M, PUBLISHED["thp"])
    state = {}
    for name, value in model.state_dict().items():
        state[name.replace(".shared.time.", ".time.").replace(".shared.mark.", ".mark.")] = value
    variant_model.load_state_dict(state)
    expected, found = variant_model(batch).losses(), model(batch)
    for task in TASKS:
        torch.testing.assert_close(found[task], expected[task])
    model.base.project_()  # constraints reach every copy
