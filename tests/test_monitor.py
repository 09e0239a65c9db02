"""The Monitor sees what happened, changes nothing, and survives a kill."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from accord import Balancer, Monitor, record
from accord.errors import AccordError
from accord.pace import Pace

from models import Checkpointed, HardSharing, Hierarchy
from oracles import step as oracle

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()


def train(model, steps, method="Sum()", optimizer=None, monitor=None, plain=False):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), 1e-2)
    balancer = None if plain else Balancer(model, method)
    if monitor is not None and balancer is not None:
        monitor.attach(balancer)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = model.losses(X)
        if balancer is None:
            if monitor is not None:
                monitor.observe(losses)
            sum(losses.values()).backward()
        else:
            balancer.backward(losses)
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "DWA()", "GradDrop()"])
@pytest.mark.parametrize("make", [HardSharing, Hierarchy, lambda: Checkpointed(True)])
def test_looking_changes_nothing(method, make):
    """The same parameters, with a look at every step or none: bit for bit where the method reads no gradients."""
    first = make().double()
    second = copy.deepcopy(first)
    torch.manual_seed(1)
    bare = train(first, 5, method)
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(second.parameters(), 1e-2)
    watched = train(second, 5, method, optimizer, Monitor(second, every=1, optimizer=optimizer))
    if method == "UPGrad()":  # its Gramian is summed block by block while somebody looks
        for a, b in zip(bare, watched, strict=True):
            torch.testing.assert_close(a, b)
    else:
        assert all(torch.equal(a, b) for a, b in zip(bare, watched, strict=True))


def test_observing_a_plain_loop_changes_nothing_and_never_touches_grad():
    first = HardSharing().double()
    second = copy.deepcopy(first)
    monitor = Monitor(second, every=1)
    assert all(
        torch.equal(a, b)
        for a, b in zip(train(first, 5, plain=True), train(second, 5, plain=True, monitor=monitor), strict=True)
    )
    for p in second.parameters():
        p.grad = torch.full_like(p, 7.0)
    monitor.observe(second.losses(X))
    assert all(bool((p.grad == 7).all()) for p in second.parameters())


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "GradDrop()"])
@pytest.mark.parametrize("optim", [torch.optim.SGD, torch.optim.Adam])
def test_change_is_the_first_order_effect_of_the_step_that_was_taken(method, optim):
    model = HardSharing().double()
    optimizer = optim(model.parameters(), 1e-2)
    monitor = Monitor(model, every=1, blocks="tensor", optimizer=optimizer)
    balancer = Balancer(model, method)
    monitor.attach(balancer)
    for _ in range(3):
        optimizer.zero_grad()
        losses = model.losses(X)
        rows = oracle.gradients(model, losses)
        before = [p.detach().clone() for p in model.parameters()]
        balancer.backward(losses)
        optimizer.step()
        moved = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
        step = monitor.steps[-1]
        for i, row in enumerate(rows.values()):
            shared = [(g * m).sum() for g, m in zip(row[:6], moved[:6], strict=True)]  # six trunk tensors
            torch.testing.assert_close(step.change[:, i], torch.stack(shared))
        length = torch.cat([m.flatten() for m in moved[:6]]).norm()
        assert step.update_norm == pytest.approx(float(length))
        if optim is torch.optim.SGD:
            torch.testing.assert_close(step.change, -1e-2 * step.descent)


def test_the_change_predicts_the_loss():
    model = HardSharing().double()
    for head in model.heads:
        head.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-6)
    monitor = Monitor(model, every=1, optimizer=optimizer)
    train(model, 1, "UPGrad()", optimizer, monitor)
    step = monitor.steps[0]
    after = torch.stack(list(model.losses(X).values())).detach()
    torch.testing.assert_close(after - step.losses, step.change.sum(0), rtol=1e-4, atol=1e-12)


def test_records_on_disk_equal_those_in_memory(tmp_path):
    model = Hierarchy().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    stored = Monitor(model, every=2, path=tmp_path / "steps", optimizer=optimizer)
    twin = copy.deepcopy(model)
    optimizer2 = torch.optim.SGD(twin.parameters(), 0.1)
    kept = Monitor(twin, every=2, optimizer=optimizer2)
    train(model, 7, "UPGrad()", optimizer, stored)
    train(twin, 7, "UPGrad()", optimizer2, kept)
    a, b = stored.record(), kept.record()
    stored.close()
    assert a.index.tolist() == [0, 2, 4, 6]
    for name in ("losses", "weights", "gramians", "descent", "change"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.blocks == b.blocks


def test_resume_drops_what_came_after_the_state(tmp_path):
    model = HardSharing().double()
    monitor = Monitor(model, every=1, path=tmp_path)
    balancer = Balancer(model, "Sum()")
    monitor.attach(balancer)
    for t in range(6):
        if t == 3:
            state = monitor.state_dict()
        balancer.backward(model.losses(X))
    monitor.close()
    assert len(record.read(tmp_path)) == 6
    again = Monitor(model, every=1, path=tmp_path)
    again.load_state_dict(state)
    again.flush()
    assert record.read(tmp_path).index.tolist() == [0, 1, 2]


def test_another_runs_record_is_not_mixed_with_ours(tmp_path):
    model = HardSharing().double()
    with Monitor(model, every=1, path=tmp_path) as monitor:
        train(model, 2, monitor=monitor)
    with pytest.raises(AccordError, match="already holds a record"):
        train(model, 2, monitor=Monitor(model, every=1, path=tmp_path))


def test_what_was_flushed_survives_a_kill(tmp_path):
    script = textwrap.dedent(
        """
        import sys, torch
        import accord
        model = torch.nn.Linear(4, 3)
        monitor = accord.Monitor(model, every=1, path=sys.argv[1])
        for step in range(10**6):
            out = model(torch.randn(8, 4))
            monitor.observe({"a": out.mean(), "b": out.square().mean()})
            if step == 100:
                monitor.flush()
                print("flushed", flush=True)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "flushed\n"
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = record.read(tmp_path)
    assert found.index.tolist() == list(range(len(found)))
    assert len(found) > 100


def test_tasks_may_appear_later_and_be_absent():
    model = HardSharing().double()
    monitor = Monitor(model, every=1)
    losses = model.losses(X)
    monitor.observe({k: losses[k] for k in ("t1", "t2")})
    losses = model.losses(X)
    monitor.observe({k: losses[k] for k in ("t0", "t1")})
    found = monitor.record()
    assert found.tasks == ("t1", "t2", "t0")
    assert found.active.tolist() == [[True, True, False], [True, False, True]]


def test_nan_tasks_are_inactive_in_the_record():
    model = HardSharing().double()
    monitor = Monitor(model, every=1)
    losses = model.losses(X)
    losses["t1"] = losses["t1"] * torch.nan
    step = monitor.observe(losses)
    assert step.active.tolist() == [True, False, True]
    assert step.gramian.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 2, "budget": 0.1}, "not both"),
        ({"every": 0}, "at least 1"),
        ({"budget": 0.0}, "between 0 and 1"),
        ({"blocks": "modul"}, "Did you mean 'module'"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(AccordError, match=message):
        Monitor(HardSharing(), **arguments)


def test_a_static_graph_is_refused():
    model = HardSharing()
    model.static_graph = True  # as DistributedDataParallel has it
    with pytest.raises(AccordError, match="set static_graph=False"):
        Monitor(model)


def test_one_monitor_per_balancer():
    model = HardSharing()
    balancer = Balancer(model, "Sum()")
    Monitor(model, every=1).attach(balancer)
    with pytest.raises(AccordError, match="already has a Monitor"):
        Monitor(model, every=1).attach(balancer)


def test_a_budget_sets_the_interval_from_measured_times(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    pace = Pace(None, 0.05)
    for _ in range(500):
        clock[0] += 1.0 + (4.0 if pace.begin() else 0.0)  # a step takes 1, a look 4 more
    assert pace.step_seconds == 1.0
    assert pace.look_seconds == 4.0
    assert pace.interval == 80  # 4 / (0.05 * 1)
    assert pace.overhead == pytest.approx(0.05)


def test_a_fixed_interval_stays_and_its_cost_is_told(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    pace = Pace(10, None)
    looks = []
    for step in range(100):
        if pace.begin():
            looks.append(step)
            clock[0] += 1.0
        clock[0] += 1.0
    assert looks == list(range(0, 100, 10))
    assert pace.overhead == pytest.approx(0.1)
    assert np.isnan(Pace(1, None).overhead)
