"""The setting of two digits: paired by seed, disjoint, labels that are not known, and the cost of a step."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from accord.studies import two_digits
from accord.studies.two_digits import Fit, Net


@pytest.fixture(scope="module")
def data():
    return two_digits.data(0, train=256, validation=64, test=64)


def test_equal_seeds_give_equal_images_batches_and_nets(data):
    again = two_digits.data(0, train=256, validation=64, test=64)
    assert torch.equal(data.train.x, again.train.x)
    assert all(torch.equal(a, b) for a, b in zip(data.indices(50, 9), again.indices(50, 9), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(Net(3, 4).parameters(), Net(3, 4).parameters(), strict=True))
    assert not torch.equal(data.train.x, two_digits.data(1, train=256, validation=64, test=64).train.x)


def test_every_epoch_sees_every_image_once(data):
    order = torch.cat(list(data.indices(50, 2 * 256 // 50)))[:256]
    assert sorted(order.tolist()) == list(range(256))


def test_a_net_leaves_the_global_random_numbers_alone():
    before = torch.random.get_rng_state()
    Net(0, 4)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_unknown_labels_count_for_nothing(data):
    net, part = Net(0, 4), data.train.first(6)
    t2 = part.t2.clone()
    t2[2:] = -1
    found = two_digits.losses(net, part.x, part.t1, t2, weights=(20.0, 1.0))
    assert torch.allclose(found["T1"], 20 * cross_entropy(net(part.x)[0], part.t1))
    assert torch.allclose(found["T2"], cross_entropy(net(part.x[:2])[1], part.t2[:2]))
    assert two_digits.losses(net, part.x, part.t1, torch.full_like(t2, -1))["T2"].item() == 0.0
    assert list(two_digits.losses(net, part.x, part.t1, t2, tasks=("T2",))) == ["T2"]


def test_training_equals_a_plain_loop(data):
    fit = two_digits.train(Net(0, 4), data, steps=5, batch=32, check_every=5)
    net = Net(0, 4)
    moves = torch.optim.Adam(net.parameters(), lr=1e-3)
    for i in data.indices(32, 5):
        first, second = net(data.train.x[i])
        (cross_entropy(first, data.train.t1[i]) + cross_entropy(second, data.train.t2[i])).backward()
        moves.step()
        moves.zero_grad()
    for a, b in zip(fit.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert fit.curves["T1 loss"] == [pytest.approx(two_digits.evaluate(net, data.validation)["T1 loss"])]


def test_a_look_changes_nothing_and_one_task_has_none(data):
    plain, seen = (two_digits.train(Net(0, 4), data, steps=6, batch=32, look_every=n) for n in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(plain.net.parameters(), seen.net.parameters(), strict=True))
    assert seen.record.gramian.shape == (3, 2, 2)
    assert two_digits.train(Net(0, 4), data, steps=2, batch=32, look_every=1, tasks=("T2",)).record is None


def test_equal_cost_reads_the_curve_where_the_money_ends():
    fit = Fit(Net(0, 4), [100, 200], {"T1 loss": [2.0, 1.0]}, milliseconds=4.0)
    assert fit.at_equal_cost(3.0, "T1 loss") == pytest.approx(1.5)  # 150 of 200 steps
    assert fit.at_equal_cost(8.0, "T1 loss") == 1.0
