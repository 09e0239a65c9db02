"""SparseTraining: what is frozen stays, what is not trains as it would, and the model stays a model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from accord import Balancer
from accord.errors import AccordError
from accord.sparse.mask import Mask
from accord.sparse.training import SparseTraining

from models import HardSharing


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


X = normal(16, 5)


def mean_out(model, x):
    out = model(*x) if isinstance(x, tuple) else model(x)
    out = out[0] if isinstance(out, tuple) else out
    return (out - torch.linspace(-1, 1, out.numel()).view(out.shape)).square().mean()


def steps(model, training, count=3, method="UPGrad()", lr=1e-2, optimizer=None, **options):
    optimizer = optimizer or torch.optim.Adam(training.parameters(), lr)
    balancer = Balancer(model, method, **options)
    training.attach(balancer)
    found = []
    for _ in range(count):
        optimizer.zero_grad()
        found.append(balancer.backward(model.losses(X)))
        optimizer.step()
    return found


@pytest.mark.parametrize("order", ["mask-then-combine", "combine-then-mask"])
@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "CAGrad()", "GradDrop()", "DWA()", "MGDA()"])
def test_frozen_bits_stay_and_selected_ones_move(method, order):
    model = HardSharing()
    start = copy.deepcopy(model)
    training = SparseTraining(model, "PSN(k=2)", heads="heads", order=order)
    steps(model, training, method=method)
    training.verify()
    mask = training.mask
    training.merge()
    assert list(mask.selections) == ["trunk.0.weight", "trunk.3.weight", "trunk.6.weight"]
    for (name, p), q in zip(model.named_parameters(), start.parameters(), strict=True):
        moved = p.detach() != q.detach()
        if name in mask.selections:
            chosen = torch.zeros(p.numel(), dtype=torch.bool)
            chosen[mask.selections[name].places(p.shape)] = True
            assert not moved[~chosen.view(p.shape)].any()
            assert moved[chosen.view(p.shape)].all()
        else:
            assert moved.all()


def test_memory_is_that_of_the_selection():
    """K task gradients, ``.grad`` and moments exist for what is trained alone."""
    model = HardSharing()
    training = SparseTraining(model, "PSN(k=2)", heads="heads")
    optimizer = torch.optim.Adam(training.parameters())
    steps(model, training, 1, optimizer=optimizer)
    assert sum(p.numel() for p in training.parameters()) == training.mask.trainable
    assert sum(s["exp_avg"].numel() for s in optimizer.state.values()) == training.mask.trainable
    assert sum(p.grad.numel() for p in model.parameters() if p.grad is not None) == training.mask.trainable


def test_the_method_sees_what_the_order_says():
    """Gramians of compact gradients are those of masked dense ones; ``combine-then-mask`` sees the dense ones."""
    model = HardSharing().double()
    x = X.double()
    trunk = list(model.trunk.parameters())
    full = [torch.autograd.grad(loss, trunk, retain_graph=True) for loss in model.losses(x).values()]
    found = {}
    for order in ("mask-then-combine", "combine-then-mask"):
        sparse = copy.deepcopy(model)
        training = SparseTraining(sparse, "PSN(k=2)", heads="heads", order=order)
        balancer = Balancer(sparse, "UPGrad()")
        training.attach(balancer)
        found[order] = balancer.backward(sparse.losses(x)).gramian
    mask = training.mask
    keep = [torch.ones_like(p) for p in trunk]
    for (name, _), k in zip(model.trunk.named_parameters(prefix="trunk"), keep, strict=True):
        if name in mask.selections:
            k.view(-1).zero_()[mask.selections[name].places(k.shape)] = 1
    rows = torch.stack([torch.cat([g.flatten() for g in row]) for row in full])
    masked = torch.stack([torch.cat([(g * k).flatten() for g, k in zip(row, keep, strict=True)]) for row in full])
    torch.testing.assert_close(found["combine-then-mask"], rows @ rows.T)
    torch.testing.assert_close(found["mask-then-combine"], masked @ masked.T)


@pytest.mark.parametrize("name", ["trains all", "everything selected"])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_nothing_frozen_is_dense_training(name, kind):
    """Either all is trained and the mask only looked at, or k is no smaller than any fan-in: the same bits."""
    dense, sparse = HardSharing(norm="layer"), None
    sparse = copy.deepcopy(dense)
    if name == "trains all":
        training = SparseTraining(sparse, "PSN(k=2)", heads="heads", trains="all", look=2)
    else:
        training = SparseTraining(sparse, "PSN(density=1.0)", heads="heads", regime="scratch")
        assert training.mask.trainable == training.mask.total
        assert not training.sites
    optimizer = kind(training.parameters(), 1e-2)
    steps(sparse, training, 5, "Sum()", optimizer=optimizer)
    plain = kind(dense.parameters(), 1e-2)
    for _ in range(5):
        plain.zero_grad()
        sum(dense.losses(X).values()).backward()
        plain.step()
    training.merge()
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), sparse.parameters(), strict=True))


class Tied(nn.Module):
    """One weight under two names, and one module twice."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 5), nn.Linear(5, 5)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(self.one(x).tanh()).tanh())


def test_tied_weights_have_one_set_of_values_and_stay_tied():
    model = Tied()
    dense, weight = copy.deepcopy(model), model.one.weight
    training = SparseTraining(model, "PSN(k=2)")
    assert len(training.sites) == 1
    mean_out(model, X).backward()
    mean_out(dense, X).backward()
    ((name, site),) = training.sites.items()
    torch.testing.assert_close(site.placed.values.grad, training.mask.selections[name].gather(dense.one.weight.grad))
    torch.optim.SGD(training.parameters(), 0.1).step()
    training.merge()
    assert model.one.weight is model.two.weight is weight
    assert weight.requires_grad


LAYERS = {
    "lstm": (lambda: nn.LSTM(5, 4, num_layers=2, bidirectional=True), normal(6, 3, 5)),
    "gru cell": (lambda: nn.GRUCell(5, 4), normal(3, 5)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), (normal(5, 2, 8),) * 3),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), normal(2, 5, 8)),
    "channels last": (lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), normal(2, 3, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3), normal(2, 3, 6, 6)),
    "columns": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)), normal(3, 8)),
}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, fused):
    """Forward, gradient, a step, evaluation, copies and the way back, for layers that use their weights in odd ways."""
    make, x = LAYERS[name]
    model = make()
    dense, before = copy.deepcopy(model), dict(model.named_parameters())
    training = SparseTraining(model, "Columns(k=2)" if name == "columns" else "PSN(k=2)")
    torch.manual_seed(3)
    loss = mean_out(model, x)
    torch.manual_seed(3)
    expected = mean_out(dense, x)
    loss.backward(), expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    gradients = {n: p.grad for n, p in dense.named_parameters()}
    for n, site in training.sites.items():
        torch.testing.assert_close(site.placed.values.grad, site.placed.selection.gather(gradients[n]))
    copied = copy.deepcopy(model)
    torch.optim.SGD(training.parameters(), 0.1, fused=fused).step()
    with torch.no_grad():
        for n, p in dense.named_parameters():
            if n in training.sites:
                selection = training.sites[n].placed.selection
                selection.scatter_(p, selection.gather(p) - 0.1 * selection.gather(p.grad))
            elif n in training.mask.whole:
                p -= 0.1 * p.grad
        model.eval(), dense.eval(), copied.eval()
        after = mean_out(model, x)
        torch.testing.assert_close(after, mean_out(dense, x))
        assert not torch.equal(after, mean_out(copied, x))
    training.verify()
    training.merge()
    assert type(model) is type(dense)
    assert {n: id(p) for n, p in model.named_parameters()} == {n: id(p) for n, p in before.items()}
    assert list(before) == [n for n, _ in model.named_parameters()]
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(mean_out(model, x), after)
        assert not torch.equal(mean_out(copied, x), after)  # the copy is as it was


class Deep(nn.Module):
    """Blocks under a checkpoint."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(2))
        self.checkpointed = True

    def losses(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.checkpointed else layer(x)
        return {str(i): (head(x) - i).square().mean() for i, head in enumerate(self.heads)}


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()"])
def test_checkpointed_blocks_train_alike(method):
    first, second = (model := Deep()), copy.deepcopy(model)
    second.checkpointed = False
    for m in (first, second):
        steps(m, SparseTraining(m, "PSN(k=2)", heads="heads"), method=method)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("method", ["AutoLambda()", "FORUM()", "FAMO()"])
def test_methods_that_look_at_other_parameters(method):
    """They move the values for a moment; the graph that saved the weight stays valid."""
    model = HardSharing()
    training = SparseTraining(model, "PSN(k=2)", heads="heads")
    optimizer = torch.optim.SGD(training.parameters(), 1e-2)
    balancer = Balancer(model, method, optimizer=optimizer)
    training.attach(balancer)
    for _ in range(3):
        optimizer.zero_grad()
        compute = lambda: model.losses(X)  # noqa: E731
        more = {"validation": lambda: model.losses(-X)} if balancer.method.needs_validation else {}
        balancer.backward(compute, **more)
        optimizer.step()
        if balancer.method.needs_losses_after:
            balancer.after_step()
    training.verify()


def test_compiled_models_train_alike():
    """The compiled step makes a copy of the weight; the eager backend needs no compiler."""
    first = HardSharing()
    second = copy.deepcopy(first)
    training = SparseTraining(first, "PSN(k=2)", heads="heads")
    steps(first, training, method="Sum()")
    other = SparseTraining(second, "PSN(k=2)", heads="heads")
    losses = torch.compile(second.losses, backend="aot_eager")
    optimizer = torch.optim.Adam(other.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        sum(losses(X).values()).backward()
        optimizer.step()
    training.merge(), other.verify(), other.merge()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_converting_types():
    model = HardSharing()
    training = SparseTraining(model.to(torch.bfloat16), "PSN(k=2)", heads="heads")
    values = training.sites["trunk.0.weight"].placed.values
    assert values.dtype == torch.float32  # an optimiser's small steps would be lost in 16 bits
    optimizer = torch.optim.SGD(training.parameters(), 1e-5)
    before, start = values.detach().clone(), model.trunk[0].weight.detach().clone()
    sum(model.losses(X.bfloat16()).values()).backward()
    optimizer.step()
    assert (values != before).any()
    assert values.grad.dtype == torch.float32
    training.verify()
    training.merge()
    assert model.trunk[0].weight.dtype == torch.bfloat16 == start.dtype
    double = HardSharing()
    other = SparseTraining(double, "PSN(k=2)", heads="heads")
    double.double()
    sum(double.losses(X.double()).values()).backward()
    assert other.sites["trunk.0.weight"].placed.values.grad.dtype == torch.float64


def test_nothing_below_the_lowest_trained_tensor_is_differentiated():
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    SparseTraining(model, "PSN(k=2)", overrides={"0.*": "frozen"})
    assert not model[0](X).requires_grad
    assert model(X).requires_grad


def test_running_statistics_move_or_stay():
    for choice, moves in (("move", True), ("freeze", False)):
        model = HardSharing(norm="batch")
        before = model.trunk[1].running_mean.clone()
        training = SparseTraining(model.train(), "PSN(k=2)", heads="heads", bn_stats=choice)
        steps(model, training)
        assert torch.equal(model.trunk[1].running_mean, before) is not moves
        training.merge()
        model.train().losses(X)
        assert not torch.equal(model.trunk[1].running_mean, before)


def test_weight_decay_is_for_what_is_trained():
    model = HardSharing()
    start = copy.deepcopy(model)
    training = SparseTraining(model, "PSN(k=2)", heads="heads")
    optimizer = torch.optim.AdamW(training.parameters(), 0.1, weight_decay=0.5)
    for p in training.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    training.verify()
    training.merge()
    selection = training.mask.selections["trunk.0.weight"]
    expected = selection.gather(start.trunk[0].weight) * (1 - 0.1 * 0.5)
    torch.testing.assert_close(selection.gather(model.trunk[0].weight), expected)


def test_an_unbroken_run_equals_a_resumed_one():
    def fresh(seed):
        torch.manual_seed(seed)
        return HardSharing()

    def go(model, training, optimizer, balancer, count):
        for _ in range(count):
            optimizer.zero_grad()
            balancer.backward(model.losses(X))
            optimizer.step()

    whole = fresh(0)
    training = SparseTraining(whole, "PSN(k=2)", heads="heads", look=2)
    optimizer, balancer = torch.optim.Adam(training.parameters()), Balancer(whole, "UPGrad()")
    training.attach(balancer)
    go(whole, training, optimizer, balancer, 3)
    kept = copy.deepcopy((training.state_dict(), whole.state_dict(), optimizer.state_dict(), balancer.state_dict()))
    go(whole, training, optimizer, balancer, 3)

    model = fresh(5)  # other weights: what is restored is all that counts
    resumed = SparseTraining(model, Mask.from_state(kept[0]["mask"]), look=2)
    again, other = torch.optim.Adam(resumed.parameters()), Balancer(model, "UPGrad()")
    resumed.attach(other)
    resumed.load_state_dict(kept[0])
    model.load_state_dict(kept[1])
    again.load_state_dict(kept[2]), other.load_state_dict(kept[3])
    resumed.verify()
    go(model, resumed, again, other, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
    assert [s.index for s in resumed._looks.monitor.steps] == [4]
    assert training.record().gramians.shape[0] == 3


def test_a_state_of_another_mask_is_refused():
    model = HardSharing()
    training = SparseTraining(copy.deepcopy(model), "PSN(k=2)", heads="heads")
    other = SparseTraining(target := copy.deepcopy(model), "RandomNeuron(k=2)", heads="heads")
    with pytest.raises(AccordError, match=r"another mask or model.*Mask.from_state"):
        other.load_state_dict(training.state_dict())
    with pytest.raises(AccordError, match="other places of the weight"):
        target.load_state_dict(training.model.state_dict())
    different = SparseTraining(HardSharing(), "PSN(k=2)", heads="heads")
    with pytest.raises(AccordError, match="another mask or model"):
        different.load_state_dict(training.state_dict())
    with pytest.raises(AccordError, match="order"):
        SparseTraining(copy.deepcopy(model), "PSN(k=2)", heads="heads", order="combine-then-mask").load_state_dict(
            training.state_dict()
        )


def test_after_merge_there_is_nothing_to_verify_and_other_states_are_refused():
    training = SparseTraining(HardSharing(), "PSN(k=2)", heads="heads")
    with pytest.raises(AccordError, match="the state has order=None"):
        training.load_state_dict({"epoch": 3})
    training.verify()
    training.merge()
    with pytest.raises(AccordError, match=r"merge\(\) has ended this sparse training"):
        training.verify()


def test_masks_of_other_models_are_refused():
    mask = SparseTraining(HardSharing(), "PSN(k=2)", heads="heads").mask
    with pytest.raises(AccordError, match="'heads.2.weight' is missing"):
        SparseTraining(HardSharing(tasks=2), mask)
    with pytest.raises(AccordError, match="is new"):
        SparseTraining(HardSharing(tasks=4), mask)
    wide = HardSharing()
    wide.trunk[0] = nn.Linear(6, 8)
    with pytest.raises(AccordError, match=r"\(8, 6\) here, \(8, 5\) there"):
        SparseTraining(wide, mask)
    with pytest.raises(AccordError, match=r"has no values \(device meta\)"):
        SparseTraining(HardSharing().to("meta"), mask)


def test_sparse_gradients_and_sparse_weights():
    """Rows of an embedding with sparse gradients are selected from as any other; a sparse frozen weight is watched."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"words": nn.Embedding(6, 4, sparse=True), "a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})
    model["other"] = nn.Linear(3, 2, bias=False)
    model["other"].weight = nn.Parameter(torch.eye(2, 3).to_sparse())
    overrides = {"words.weight": "rows", "other.weight": "frozen"}
    dense = copy.deepcopy(model["words"].weight)
    training = SparseTraining(model, "PSN(k=2)", heads=("a", "b"), overrides=overrides)
    z, expected = model["words"](torch.tensor([0, 2, 2])), dense[[0, 2, 2]]
    Balancer(model, "Sum()").backward({task: model[task](z).sum() for task in "ab"})
    sum(model[task](expected).sum() for task in "ab").backward()
    site = training.sites["words.weight"]
    torch.testing.assert_close(site.placed.values.grad, site.placed.selection.gather(dense.grad))
    training.verify()
    training.frozen["other.weight"].data = torch.eye(2, 3).mul(2).to_sparse()
    with pytest.raises(AccordError, match="changed in 'other.weight'"):
        training.verify()


def test_places_follow_the_model_to_another_device():
    """The device meta is the other one that is sure to be there."""
    model = HardSharing()
    training = SparseTraining(model, "PSN(k=2)", heads="heads")
    indices = {n: s.index.clone() for n, s in training.mask.selections.items()}
    empty = copy.deepcopy(model).to("meta")
    for name in training.sites:
        placed = empty.get_submodule(name.removesuffix(".weight")).parametrizations.weight[0]
        assert placed.selection.index.is_meta
        assert placed.values.is_meta
    back = training.mask.to("cpu")
    assert back.hash == training.mask.hash
    assert all(torch.equal(s.index, indices[n]) for n, s in back.selections.items())
    training.verify()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "mask-first"}, "order='mask-first' is not known"),
        ({"trains": "some"}, "trains='some' is not known"),
        ({"bn_stats": "frozen"}, "Did you mean 'freeze'"),
        ({"look": -1}, "look=-1, expected a whole number"),
        ({"path": "somewhere"}, "give look="),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(AccordError, match=message):
        SparseTraining(HardSharing(), "PSN(k=2)", heads="heads", **options)


def test_mistakes():
    model = HardSharing()
    stale = torch.optim.Adam(model.parameters())
    training = SparseTraining(model, "PSN(k=2)", heads="heads")
    with pytest.raises(AccordError, match="already; merge"):
        SparseTraining(model, "PSN(k=2)", heads="heads")
    with pytest.raises(AccordError, match=r"3 tensor\(s\) that are not trained, the first 'trunk.0.weight'"):
        training.check(stale)
    with pytest.raises(AccordError, match="nothing that is trained"):
        training.check(torch.optim.Adam(HardSharing().parameters()))
    with pytest.raises(AccordError, match="not trained"):
        training.attach(Balancer(model, "UPGrad()", optimizer=stale))
    with pytest.raises(AccordError, match="another model"):
        training.attach(Balancer(HardSharing(), "UPGrad()"))
    with pytest.raises(AccordError, match="nothing was looked at"):
        training.record()
    training.attach(Balancer(model, "UPGrad()"))
    with pytest.raises(AccordError, match="attached to a Balancer already"):
        training.attach(Balancer(model, "UPGrad()"))
    with torch.no_grad():
        model.trunk[3].parametrizations.weight.original += 1
    with pytest.raises(AccordError, match=r"frozen entries have changed in 'trunk.3.weight'\."):
        training.verify()


def test_the_table_says_which_layers_save_operations():
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv1d(8, 8, 3))
    text = SparseTraining(model, "Columns(k=2)").describe()
    assert "0.weight: smaller product" in text
    assert "1.weight: whole product (Conv1d computes in its own way)" in text


def test_values_that_are_changed_without_a_trace_are_written():
    """Fused optimisers, ``.data`` and averages of weights leave no version behind."""
    model = nn.Linear(5, 3)
    training = SparseTraining(model, "PSN(k=2)")
    (site,) = training.sites.values()
    model(X).sum().backward()
    site.placed.values.data.zero_()
    model(X)
    assert not site.placed.selection.gather(site.dense).any()
    site.placed.values.data.fill_(1)
    with torch.no_grad():
        model(X)
    assert (site.placed.selection.gather(site.dense) == 1).all()
    site.placed.values.data.fill_(2)
    out = model(X)
    assert (site.placed.selection.gather(site.dense) == 2).all()
    site.placed.values.data = torch.full_like(site.placed.values, 3)
    other = model(X)
    assert (site.placed.selection.gather(site.dense) == 2).all()  # lest the first graph lose its weight
    expected = site.placed.selection.scatter_(site.dense.clone(), site.placed.values.detach())
    torch.testing.assert_close(other, nn.functional.linear(X, expected, model.bias))
    (out.sum() + other.sum()).backward()


def test_an_optimiser_from_before_is_stopped_at_its_first_step():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    early = torch.optim.Adam(model.parameters())
    training = SparseTraining(model, "PSN(k=1)")
    late, elsewhere = torch.optim.Adam(model.parameters()), torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    model(torch.ones(1, 4)).sum().backward()
    with pytest.raises(AccordError, match="built before the SparseTraining"):
        early.step()
    late.step()  # holds frozen weights, which have no gradient, beside what is trained
    elsewhere.step()
    training.verify()
    training.merge()
    early.step()


def test_whole_gradients_that_nobody_drops_are_noticed():
    model = HardSharing()
    training = SparseTraining(model, "PSN(k=2)", heads="heads", order="combine-then-mask")
    optimizer, balancer = torch.optim.SGD(model.parameters(), lr=0.1), Balancer(model, "UPGrad()")
    balancer.backward(model.losses(torch.randn(4, 5)))
    with pytest.raises(AccordError, match="needs training.attach"):
        optimizer.step()
    training.verify()


def test_everything_frozen_is_refused():
    with pytest.raises(AccordError, match="nothing is left to train"):
        SparseTraining(nn.Sequential(nn.Linear(4, 3)), "PSN(k=1)", overrides={"*": "frozen"})
