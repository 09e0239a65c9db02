"""Per-task masks: how places are divided, and that every kind of step sees each task's own places only."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest
import torch
from tests.models import HardSharing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import accord
from accord.engines import Starter
from accord.errors import AccordError
from accord.sparse import PSN, Mask, PerTask, collect, divide, reselect, select, unite
from accord.sparse.per_task import _draft
from accord.sparse.selection import Rows
from accord.sparse.training import SparseTraining

TASKS = ("t0", "t1", "t2")


def sparse(rule: str = "PSN(k=3)", seed: int = 0) -> tuple[HardSharing, Mask, SparseTraining]:
    torch.manual_seed(seed)
    model = HardSharing(3).double()
    mask = select(model, rule, heads="heads")
    return model, mask, SparseTraining(model, mask, heads="heads")


def data(seed: int = 1) -> Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(model: nn.Module) -> dict[str, Tensor]:
    """The compact leaves, by the name of their weight."""
    suffix = ".parametrizations.weight.0.values"
    return {n.removesuffix(suffix) + ".weight": p for n, p in model.named_parameters() if n.endswith(suffix)}


def oracle(model: HardSharing, parts: PerTask, x: Tensor) -> dict[str, dict[Tensor, Tensor]]:
    """For each task its gradient in every leaf, times its mask: one backward pass of PyTorch's own each."""
    leaves = [p for p in model.parameters() if p.requires_grad]
    inside = {leaf: parts.inside[name] for name, leaf in values(model).items()}
    found = {}
    for i, (task, loss) in enumerate(model.losses(x).items()):
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        found[task] = {
            p: g * inside[p][i] if p in inside else g for p, g in zip(leaves, gradients, strict=True) if g is not None
        }
    return found


def trunk(model: HardSharing) -> list[Tensor]:
    return [p for p in model.trunk.parameters() if p.requires_grad]


def check_trunk(model: HardSharing, expected: dict[Tensor, Tensor], factor: float = 1.0) -> None:
    for p in trunk(model):
        torch.testing.assert_close(p.grad, expected[p] * factor)


def summed(rows: dict[str, dict[Tensor, Tensor]], weights: dict[str, float]) -> dict[Tensor, Tensor]:
    total: dict[Tensor, Tensor] = {}
    for task, row in rows.items():
        for p, g in row.items():
            total[p] = total.get(p, 0) + weights[task] * g
    return total


# how places are divided


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("by_evidence", [False, True])
def test_every_row_is_divided_as_asked(overlap, by_evidence):
    torch.manual_seed(0)
    model = HardSharing(3).double()
    mask = select(model, "PSN(k=5)", heads="heads")
    evidence = None
    if by_evidence:
        evidence = collect(model, (model.losses(data(s)) for s in range(3)), list(mask.selections), ["magnitude"])
    parts = divide(mask, TASKS, overlap=overlap, evidence=evidence)
    for name, selection in mask.selections.items():
        inside = parts.inside[name]
        rows, k = selection.index.shape
        common = round(overlap * k)
        assert inside.shape == (3, rows, k)
        assert inside.any(0).all()  # nothing that is selected is lost
        holders = inside.sum(0)
        assert ((holders == 3).sum(1) == common).all()
        assert (((holders == 1) | (holders == 3)).all()) or k == common
        alone = (inside & (holders == 1)).sum(2)  # (K, rows)
        assert int((alone.amax(0) - alone.amin(0)).max()) <= 1
    total = sum(parts.sizes.values())
    assert total == sum(int(p.sum()) for p in parts.inside.values())
    if overlap in (0.0, 1.0):
        assert parts.overlap == overlap


def test_rows_take_turns_so_that_no_task_starves():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9))
    parts = divide(select(model, "PSN(k=1)"), TASKS)
    assert parts.sizes == {"t0": 3, "t1": 3, "t2": 3}


def test_two_tasks_get_the_best_division():
    """The share of use that is kept is the largest of all divisions into equal halves."""
    scores = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = _draft(scores, 0.0)
    for row in range(5):
        kept = float((scores[:, row] * inside[:, row]).sum())
        every = [
            sum(float(scores[0 if p in half else 1, row, p]) for p in range(6))
            for half in itertools.combinations(range(6), 3)
        ]
        assert kept == pytest.approx(max(every))


def test_common_places_are_those_that_all_use():
    scores = torch.tensor([[[5.0, 1.0, 9.0, 2.0]], [[5.0, 9.0, 1.0, 2.0]]])
    inside = _draft(scores, 0.25)[:, 0]
    assert inside[:, 0].tolist() == [True, True]
    assert inside[:, 1:].sum(0).tolist() == [1, 1, 1]
    assert bool(inside[0, 2] & inside[1, 1])


def test_evidence_sends_places_to_the_task_that_uses_them():
    """Two tasks that read different inputs get those inputs' weights; the scale of a task does not matter."""
    model = nn.Linear(4, 3, bias=False)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    left, right = x * torch.tensor([1.0, 1, 0, 0]), x * torch.tensor([0.0, 0, 1, 1])
    losses = [{"left": 100 * model(left).square().sum(), "right": model(right).square().sum()}]
    mask = Mask("by hand", {"weight": Rows(torch.arange(4).expand(3, 4))}, shapes={"weight": torch.Size([3, 4])})
    parts = divide(mask, ["left", "right"], evidence=collect(model, losses, ["weight"], ["magnitude"]))
    assert parts.inside["weight"][0].tolist() == [[True, True, False, False]] * 3


def test_unite_is_the_union_and_keeps_what_each_task_chose():
    torch.manual_seed(0)
    model = HardSharing(3).double()
    masks = {}
    for task in TASKS:
        own = ({task: model.losses(data(s))[task]} for s in range(2))
        masks[task] = select(model, "FISH(k=2)", heads="heads", losses=own)
    union, parts = unite(masks)
    for name in union.selections:
        shape = union.shapes[name]
        places = union.selections[name].places(shape)
        for i, mask in enumerate(masks.values()):
            mine = {int(p) for p in places[parts.inside[name][i]]}
            if name in mask.selections:
                assert mine == {int(p) for p in mask.selections[name].places(shape)}
            else:
                assert mine == (set() if name in mask.frozen else set(range(shape.numel())))
    assert union.selected < sum(mask.selected for mask in masks.values())
    assert 0 < parts.overlap < 1
    assert union.hash == Mask.from_state(union.state_dict()).hash
    SparseTraining(model, union, heads="heads")
    parts.attach(accord.Balancer(model, "UPGrad()"))


def test_unite_of_equal_masks_overlaps_wholly():
    torch.manual_seed(0)
    model = HardSharing(2)
    mask = select(model, PSN(k=2), heads="heads")
    union, parts = unite({"t0": mask, "t1": mask})
    assert union.selected == mask.selected
    assert parts.overlap == 1


# every kind of step


@pytest.mark.parametrize("method", ["Sum()", "Mean()"])
def test_a_sum_is_the_sum_of_masked_gradients(method):
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    rows = oracle(model, parts, data())
    balancer = accord.Balancer(model, method)
    parts.attach(balancer)
    balancer.backward(model.losses(data()))
    check_trunk(model, summed(rows, dict.fromkeys(TASKS, 1.0)))
    weight = 1.0 if method == "Sum()" else model.heads[1].weight.grad.norm() / rows["t1"][model.heads[1].weight].norm()
    torch.testing.assert_close(model.heads[1].weight.grad, rows["t1"][model.heads[1].weight] * weight)


@pytest.mark.parametrize("method", ["UPGrad()", "CAGrad(c=0.5)", "MGDA()", "NashMTL()"])
@pytest.mark.parametrize("overlap", [0.0, 0.4])
def test_weightings_see_the_gramian_of_masked_gradients(method, overlap):
    model, mask, _ = sparse("PSN(k=4)")
    parts = divide(mask, TASKS, overlap=overlap)
    rows = oracle(model, parts, data())
    balancer = accord.Balancer(model, method, scale="native")
    parts.attach(balancer)
    step = balancer.backward(model.losses(data()))
    flat = torch.stack([torch.cat([rows[t][p].reshape(-1) for p in trunk(model)]) for t in TASKS])
    torch.testing.assert_close(step.gramians.sum(0), flat @ flat.T)
    weights = balancer.method(flat @ flat.T)
    torch.testing.assert_close(step.weights, weights, rtol=1e-6, atol=1e-8)
    check_trunk(model, summed(rows, dict(zip(TASKS, step.weights.tolist(), strict=True))))


def test_whole_gradient_methods_combine_masked_gradients():
    model, mask, _ = sparse()
    parts = divide(mask, TASKS, overlap=0.34)
    balancer = accord.Balancer(model, "GradDrop()", scale="native", seed=3)
    parts.attach(balancer)
    rows = oracle(model, parts, data())
    balancer.backward(model.losses(data()))
    own = values(model)
    for name, leaf in own.items():
        stacked = torch.stack([rows[t][leaf] for t in TASKS])
        positive, negative = stacked.clamp(min=0).sum(0), stacked.clamp(max=0).sum(0)
        kept_positive = torch.isclose(leaf.grad, positive)
        kept_negative = torch.isclose(leaf.grad, negative)
        assert (kept_positive | kept_negative).all(), name
        alone = parts.inside[name].sum(0) == 1  # no other task, no conflict, nothing to drop
        torch.testing.assert_close(leaf.grad[alone], stacked.sum(0)[alone])


@pytest.mark.parametrize("method", ["UncertaintyWeighting()", "DWA()", "FAMO()"])
def test_loss_weightings_weight_masked_gradients(method):
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    rows = oracle(model, parts, data())
    balancer = accord.Balancer(model, method)
    parts.attach(balancer)
    step = balancer.backward(model.losses(data()))
    weights = dict(zip(TASKS, step.weights.tolist(), strict=True))
    check_trunk(model, summed(rows, weights))
    for i, task in enumerate(TASKS):  # their heads are weighted, too
        torch.testing.assert_close(model.heads[i].weight.grad, rows[task][model.heads[i].weight] * weights[task])


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "UncertaintyWeighting()"])
def test_accumulation_adds_masked_gradients(method):
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    both = [oracle(model, parts, data(s)) for s in (1, 2)]
    rows = {t: {p: both[0][t][p] + both[1][t][p] for p in both[0][t]} for t in TASKS}
    balancer = accord.Balancer(model, method)
    parts.attach(balancer)
    balancer.backward(model.losses(data(1)), accumulate=True)
    step = balancer.backward(model.losses(data(2)))
    check_trunk(model, summed(rows, dict(zip(TASKS, step.weights.tolist(), strict=True))))


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "UncertaintyWeighting()", "GradDrop()"])
def test_a_grad_scaler_scales_masked_gradients(method):
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    plain = accord.Balancer(model, method)
    parts.attach(plain)
    plain.backward(model.losses(data()))
    expected = {p: p.grad.clone() for p in model.parameters() if p.grad is not None}
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    balancer = accord.Balancer(model, method, scaler=scaler)
    parts.attach(balancer)
    balancer.backward(model.losses(data()))
    check_trunk(model, expected, 8.0)


@pytest.mark.parametrize("method", ["UPGrad()", "Sum()"])
def test_infinity_in_the_place_of_others_neither_skips_nor_poisons(method):
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    leaf = values(model)["trunk.6.weight"]
    inside = parts.inside["trunk.6.weight"]
    row, column = inside[1].nonzero()[0].tolist()  # a place of t1
    balancer = accord.Balancer(model, method)
    parts.attach(balancer)
    losses = model.losses(data())
    spoilt = torch.zeros_like(leaf)
    spoilt[row, column] = torch.inf
    losses["t0"] = losses["t0"] + _Add.apply(leaf, spoilt)
    step = balancer.backward(losses)
    assert step.active.all()
    assert leaf.grad.isfinite().all()


class _Add(torch.autograd.Function):
    """Zero, with a gradient of its own."""

    @staticmethod
    def forward(ctx, leaf, gradient):
        ctx.save_for_backward(gradient)
        return leaf.new_zeros(())

    @staticmethod
    def backward(ctx, outside):
        (gradient,) = ctx.saved_tensors
        return gradient, None


def test_disjoint_masks_have_no_cosine():
    model, mask, _ = sparse("PSN(density=0.6)")
    selected = [f"{n.removesuffix('.weight')}.parametrizations.weight.0.values" for n in mask.selections]
    parts = divide(mask, TASKS, overlap=0)
    balancer = accord.Balancer(model, "UPGrad()", shared=selected)
    parts.attach(balancer)
    step = balancer.backward(model.losses(data()))
    gramian = step.gramians.sum(0)
    assert torch.equal(gramian, torch.diag(gramian.diagonal()))
    assert (gramian.diagonal() > 0).all()
    parts.detach(balancer)
    model.zero_grad()
    assert (balancer.backward(model.losses(data())).gramians.sum(0) != 0).all()


def test_whole_overlap_is_plain_sparse_training():
    model, mask, _ = sparse()
    for method in ("UPGrad()", "Sum()"):
        found = []
        for attached in (False, True):
            model.zero_grad()
            balancer = accord.Balancer(model, method)
            if attached:
                divide(mask, TASKS, overlap=1.0).attach(balancer)
            balancer.backward(model.losses(data()))
            found.append([p.grad.clone() for p in trunk(model)])
        torch.testing.assert_close(found[1], found[0])


def test_weights_of_an_earlier_step_are_used_on_masked_gradients():
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    balancer = accord.Balancer(model, "UPGrad()", refresh=2)
    parts.attach(balancer)
    first = balancer.backward(model.losses(data(1)))
    model.zero_grad()
    rows = oracle(model, parts, data(2))
    balancer.backward(model.losses(data(2)))
    check_trunk(model, summed(rows, dict(zip(TASKS, first.weights.tolist(), strict=True))))


def test_training_moves_each_place_by_its_own_task_only():
    """Only t1 has a loss that is not flat: places of the others do not move."""
    model, mask, training = sparse()
    parts = divide(mask, TASKS)
    optimizer = torch.optim.SGD(training.parameters(), lr=0.1)
    balancer = accord.Balancer(model, "Sum()")
    parts.attach(balancer)
    before = {name: leaf.detach().clone() for name, leaf in values(model).items()}
    for seed in range(3):
        losses = model.losses(data(seed))
        balancer.backward({t: loss * (t == "t1") for t, loss in losses.items()})
        optimizer.step()
        optimizer.zero_grad()
    training.verify()
    for name, leaf in values(model).items():
        moved = leaf.detach() != before[name]
        assert moved.any()
        assert not (moved & ~parts.inside[name][1]).any()


@pytest.mark.parametrize("method", ["Sum()", "UncertaintyWeighting()", "UPGrad()"])
def test_a_monitor_sees_masked_gradients(method):
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    balancer = accord.Balancer(model, method)
    accord.Monitor(model, every=1, blocks="tensor").attach(balancer)
    parts.attach(balancer)
    rows = oracle(model, parts, data())
    step = balancer.backward(model.losses(data()))
    check_trunk(model, summed(rows, dict(zip(TASKS, step.weights.tolist(), strict=True))))
    selected = [i for i, name in enumerate(step.blocks) if name.endswith("weight")]
    assert len(selected) == 3
    for i in selected:
        assert torch.equal(step.gramians[i], torch.diag(step.gramians[i].diagonal()))


def test_second_batches_are_masked_as_well():
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    balancer = accord.Balancer(model, "SDMGrad()")
    parts.attach(balancer)
    balancer.backward(model.losses(data(1)), second=model.losses(data(2)))
    for name, leaf in values(model).items():
        assert leaf.grad.isfinite().all(), name
    with pytest.raises(AccordError, match="engine='stacked'"):
        Starter(model, "segmented", None, None, balancer.starter.parts).start(model.losses(data()))


# what is refused


def test_state_makes_the_same_parts():
    _, mask, _ = sparse()
    parts = divide(mask, TASKS, overlap=0.3)
    again = PerTask.from_state(parts.state_dict())
    assert again.sizes == parts.sizes
    assert all(torch.equal(again.inside[n], parts.inside[n]) for n in parts.inside)
    with pytest.raises(AccordError, match="lacks inside, places"):
        PerTask.from_state({"tasks": []})


def test_what_cannot_be_is_refused():
    model, mask, training = sparse()
    parts = divide(mask, TASKS)
    for engine in ("segmented", "features"):
        with pytest.raises(AccordError, match=f"engine='{engine}' never has"):
            parts.attach(accord.Balancer(model, "UPGrad()", engine=engine))
    with pytest.raises(AccordError, match="elsewhere"):
        parts.attach(accord.Balancer(model, "FORUM()"))
    balancer = accord.Balancer(model, "UPGrad()")
    parts.attach(balancer)
    z = model.trunk(data())
    heads = {f"t{i}": head(z).square().mean() for i, head in enumerate(model.heads)}
    with pytest.raises(AccordError, match="features="):
        balancer.backward(heads, features=[z])
    with pytest.raises(AccordError, match=r"'t9' has no part.*Did you mean 't"):
        balancer.backward({"t9": model.losses(data())["t0"], "t1": model.losses(data())["t1"]})
    weighted = accord.Balancer(model, "Sum()")
    parts.attach(weighted)
    with pytest.raises(AccordError, match="line search"):
        weighted.closure(lambda: model.losses(data()))
    with pytest.raises(AccordError, match="two different names"):
        divide(mask, ["t0"])
    with pytest.raises(AccordError, match=r"outside \[0, 1\]"):
        divide(mask, TASKS, overlap=1.2)
    with pytest.raises(AccordError, match="no evidence about"):
        divide(mask, TASKS, evidence={})
    with pytest.raises(AccordError, match="at least two"):
        unite({"t0": mask})
    training.merge()
    with pytest.raises(AccordError, match="no selected scalars"):
        parts.attach(accord.Balancer(model, "UPGrad()"))
    _, other, _ = sparse(seed=5)
    with pytest.raises(AccordError, match="different weights"):
        unite({"t0": mask, "t1": other})
    wider, _, _ = sparse("PSN(k=2)")
    with pytest.raises(AccordError, match="selected again"):
        parts.attach(accord.Balancer(wider, "UPGrad()"))


@contextlib.contextmanager
def _one_process(tmp_path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_distributed_models_are_found_and_need_reduce(tmp_path):
    model, mask, _ = sparse()
    parts = divide(mask, TASKS)
    with _one_process(tmp_path):
        wrapped = DistributedDataParallel(model)
        with pytest.raises(AccordError, match="reduce="):
            parts.attach(accord.Balancer(wrapped, "Sum()"))
        balancer = accord.Balancer(wrapped, "UPGrad()", reduce=lambda tensors: None)
        parts.attach(balancer)
        assert set(balancer.starter.parts["t0"]) == set(values(model).values())


def test_places_that_are_divided_stay():
    """Else a task's mask would lie over the places of others: of the same shape, so that nothing would break."""
    model, mask, training = sparse()
    parts, balancer = divide(mask, TASKS), accord.Balancer(model, "UPGrad()")
    optimizer = torch.optim.Adam(training.parameters())
    parts.attach(balancer)
    with pytest.raises(AccordError, match="masks per task divide the present places"):
        reselect(training, optimizer, "Smallest(k=3)")
    assert training.mask is mask
    training.verify()
    parts.detach(balancer)
    reselect(training, optimizer, "Smallest(k=3)")
    with pytest.raises(AccordError, match="Were they selected again"):
        parts.attach(balancer)
    divide(training.mask, TASKS).attach(balancer)
    balancer.backward(model.losses(data()))


@pytest.mark.parametrize("attached", [False, True])
def test_only_what_is_trained_is_divided(attached):
    """A method that sees whole gradients would see those of a task's own places beside those of all frozen ones."""
    torch.manual_seed(0)
    model = HardSharing(3).double()
    mask = select(model, "PSN(k=3)", heads="heads")
    training = SparseTraining(model, mask, order="combine-then-mask")
    balancer = accord.Balancer(model, "UPGrad()")
    if attached:
        training.attach(balancer)
    with pytest.raises(AccordError, match="order='mask-then-combine'"):
        divide(mask, TASKS).attach(balancer)


def test_looks_see_whole_gradients_beside_masks_per_task():
    model, mask, _ = sparse()
    wholes = []
    for divided in (False, True):
        torch.manual_seed(0)
        model = HardSharing(3).double()
        training = SparseTraining(model, mask, look=1)
        balancer = accord.Balancer(model, "UPGrad()")
        training.attach(balancer)
        if divided:
            divide(mask, TASKS).attach(balancer)
        step = balancer.backward(model.losses(data()))
        wholes.append(training.record().gramians)
    assert (wholes[0] == wholes[1]).all()
    assert not torch.allclose(step.gramian, torch.as_tensor(wholes[1][0].sum(0)).to(step.gramian))


def test_columns_are_divided_as_rows_are():
    """A layer with the smaller product of its own gives each task the gradient in its places."""
    model, mask, _ = sparse("Columns(k=3)")
    parts = divide(mask, TASKS)
    rows, balancer = oracle(model, parts, data()), accord.Balancer(model, "Sum()")
    parts.attach(balancer)
    balancer.backward(model.losses(data()))
    check_trunk(model, summed(rows, dict.fromkeys(TASKS, 1.0)))
