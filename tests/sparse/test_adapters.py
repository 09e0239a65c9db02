"""Adapters as baselines: exact counts, matched budgets, frozen weights, every engine, and what peft gets wrong."""

from __future__ import annotations

import copy
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import accord
from accord.conflict import incidence
from accord.errors import AccordError
from accord.sparse import select
from accord.sparse.adapters import Adapters, LoRA
from accord.sparse.adapters.ranks import Cost, cost, spend, taken

peft = pytest.importorskip("peft", reason="adapters need the extra peft")

ENGINES = ("stacked", "segmented", "features", "auto")


class Net(nn.Module):
    """A convolution, two linear layers, and two heads."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.LayerNorm(24)
        self.fc1 = nn.Linear(24, 10)
        self.fc2 = nn.Linear(10, 8)
        self.heads = nn.ModuleDict({"a": nn.Linear(8, 3), "b": nn.Linear(8, 1)})

    def features(self, x):
        x = torch.relu(self.conv(x)).flatten(1)
        return torch.tanh(self.fc2(torch.relu(self.fc1(self.norm(x)))))

    def forward(self, x):
        z = self.features(x)
        return {name: head(z) for name, head in self.heads.items()}


class Attending(nn.Module):
    def __init__(self, drop=0.0):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=drop, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


def net(seed=0):
    torch.manual_seed(seed)
    return Net()


def losses(model, seed=1):
    x = torch.randn(5, 2, 2, 2, generator=torch.Generator().manual_seed(seed))
    out = model(x)
    return {"a": out["a"].logsumexp(1).mean() - out["a"][:, 0].mean(), "b": (out["b"] - 1).square().mean()}


def awake(adapters, seed=3):
    """Adapters that do something: at first all of them are the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in adapters.named_parameters():
            if "lora_B" in name or "ia3" in name:
                p += 0.3 * torch.randn(p.shape, generator=generator)
    return adapters


def trained_in(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# counts


def test_counts_by_hand():
    model = net()
    total = sum(p.numel() for p in model.parameters())
    adapters = Adapters(model, "LoRA(rank=2)", heads=["heads"])
    low_rank = 2 * ((18 + 6) + (24 + 10) + (10 + 8))
    biases, heads = 6 + 10 + 8, 8 * 3 + 3 + 8 + 1
    assert adapters.trainable == trained_in(model) == low_rank + biases + heads
    assert (adapters.total, adapters.difference, adapters.left_out) == (total, 0, ())
    assert repr(adapters) == f"Adapters(LoRA(rank=2), trainable={adapters.trainable}, total={total})"


def test_counts_of_ia3_by_hand():
    model = net()
    adapters = Adapters(model, "IA3(feedforward=('fc2',))", heads=["heads"], biases="frozen")
    assert adapters.trainable == trained_in(model) == 6 + 10 + 10 + (8 * 3 + 3 + 8 + 1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 7), nn.Conv1d(3, 4, 3), nn.Conv2d(3, 5, 3, stride=2), nn.Conv3d(2, 3, 2),
        nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 2, bias=False),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("rank", [1, 2])
def test_a_rank_costs_what_peft_makes_of_it(layer, rank):
    model = nn.ModuleDict({"layer": copy.deepcopy(layer), "head": nn.Linear(1, 1)})
    adapters = Adapters(model, LoRA(rank=rank), heads=["head"], biases="frozen")
    assert adapters.trainable - 2 == rank * cost(layer).each


def test_no_rank_above_that_of_the_weight():
    model = net()
    Adapters(model, "LoRA(rank=100)", heads=["heads"])
    assert model.fc2.lora_A["default"].weight.shape == (8, 10)
    assert model.conv.lora_B["default"].weight.shape == (6, 6, 1, 1)


@pytest.mark.parametrize("budget", [163, 200, 251, 252, 253, 300, 411, 500])
def test_a_budget_is_met_up_to_half_a_rank(budget):
    model = net()
    adapters = Adapters(model, LoRA(budget=budget), heads=["heads"])
    assert adapters.trainable == trained_in(model)
    assert adapters.difference == adapters.trainable - budget
    assert abs(adapters.difference) <= 18 // 2  # fc2 has the cheapest rank
    assert ("budget" in repr(adapters).split("total")[1]) == (adapters.difference != 0)


def test_spending_against_every_way_of_spending():
    """Ranks within one of each other, and no raise of a single layer brings them nearer."""
    costs = {"a": Cost(7, 5), "b": Cost(12, 3), "c": Cost(5, 6)}
    for budget in range(24, 110):
        ranks = spend(costs, budget)
        missed = abs(budget - taken(ranks, costs))
        free = [rank for name, rank in ranks.items() if rank < costs[name].largest]
        assert max(free, default=0) - min(free, default=0) <= 2
        assert all(1 <= rank <= costs[name].largest for name, rank in ranks.items())
        for name in costs:
            if ranks[name] < costs[name].largest:
                assert abs(budget - taken({**ranks, name: ranks[name] + 1}, costs)) >= missed


def test_matches_a_mask():
    heads = tuple(f"heads.{t}.{p}" for t in "ab" for p in ("weight", "bias"))
    whole = ("conv.weight", "conv.bias", "norm.weight", "fc1.bias", "fc2.bias")
    model = net()
    adapters = Adapters.match(model, SimpleNamespace(trainable=420, heads=heads, whole=whole))
    assert abs(adapters.trainable - 420) <= 9
    names = {name for name, _ in adapters.named_parameters()}
    assert {*heads, "norm.weight", "conv.base_layer.bias", "fc1.base_layer.bias"} <= names
    assert "conv.base_layer.weight" not in names  # its adapter is trained
    with pytest.raises(AccordError, match="the mask has fc9.bias, the model has not. Did you mean 'fc"):
        Adapters.match(net(), SimpleNamespace(trainable=420, heads=heads, whole=("fc9.bias",)))


@pytest.mark.parametrize("rule", ["PSN(k=5)", "GlobalMagnitude(density=0.3)", "Columns(k=4)"])
def test_matches_the_mask_of_sparse_training(rule):
    mask = select(net(), rule, heads="heads", regime="scratch")
    adapters = Adapters.match(net(), mask)
    assert adapters.total == mask.total
    assert abs(adapters.trainable - mask.trainable) <= 9  # half a rank of the cheapest layer
    heads = {name for name, _ in adapters.named_parameters() if name.startswith("heads")}
    assert heads == set(mask.heads)


def test_heads_are_named_as_for_sparse_training():
    """By the beginning of a name: ``1`` is the second of all, not of every block."""
    models = [
        nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 2), nn.Linear(4, 2))
        for _ in range(2)
    ]
    mask = select(models[0], "PSN(k=2)", heads=["1", "2.*"])
    adapters = Adapters(models[1], "LoRA(rank=1)", heads=["1", "2.*"], biases="frozen")
    assert [name for name, _ in adapters.named_parameters() if "lora" not in name] == list(mask.heads)


def test_names_that_end_alike_are_told_apart():
    model = nn.ModuleDict({"fc": nn.Linear(3, 3), "head": nn.ModuleDict({"fc": nn.Linear(3, 1)})})
    Adapters(model, "LoRA(rank=1)", heads=[model["head"]["fc"].weight, model["head"]["fc"].bias])
    assert type(model["head"]["fc"]) is nn.Linear
    assert type(model["fc"]) is not nn.Linear


def test_layers_that_cannot_be_served_are_named():
    model = nn.ModuleDict(
        {
            "grouped": nn.Conv2d(4, 4, 3, groups=2),
            "wide": nn.Conv2d(4, 4, 3, dilation=2),
            "mirror": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            "turned": nn.ConvTranspose2d(4, 4, 3),
            "fc": nn.Linear(4, 4),
        }
    )
    with pytest.raises(AccordError, match="targets= takes in turned, but peft has no LoRA for ConvTranspose2d"):
        Adapters(model, "LoRA(rank=1)", targets=["turned"])
    assert Adapters(model, "LoRA(rank=1)").left_out == ("grouped", "wide", "mirror", "turned")


# training


@pytest.mark.parametrize("kind", ["LoRA(rank=2)", "IA3()"])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_gramian_is_that_of_what_is_trained(kind, engine):
    model = net()
    adapters = awake(Adapters(model, kind, heads=["heads"]))
    shared = [p for n, p in adapters.named_parameters() if not n.startswith("heads")]
    x = torch.randn(5, 2, 2, 2)
    z = model.features(x)
    found = {"a": model.heads["a"](z).square().mean(), "b": (model.heads["b"](z) - 1).square().mean()}
    space = [z] if engine == "features" else shared
    rows = torch.stack(
        [torch.cat([g.flatten() for g in torch.autograd.grad(v, space, retain_graph=True)]) for v in found.values()]
    )
    options = {"features": [z]} if engine == "features" else {}
    step = accord.Balancer(model, "UPGrad()", engine=engine).backward(found, **options)
    torch.testing.assert_close(step.gramians[0], (rows @ rows.T).double(), rtol=1e-4, atol=1e-7)
    assert float(incidence(step.gramians[0])) in (0.0, 1.0)
    assert all(p.grad is not None for p in adapters.parameters())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("kind", ["LoRA(rank=2)", "IA3()"])
def test_frozen_weights_keep_every_bit(kind):
    model = net()
    before = {id(p): p.detach().clone() for p in model.parameters()}
    adapters = Adapters(model, kind, heads=["heads"])
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=0.05, weight_decay=0.1)
    balancer = accord.Balancer(model, "PCGrad()")
    first = float(sum(losses(model).values()).detach())
    for _ in range(6):
        optimizer.zero_grad()
        balancer.backward(losses(model))
        optimizer.step()
    for p in model.parameters():
        if id(p) in before:
            assert torch.equal(p, before[id(p)]) == (not p.requires_grad)
    assert float(sum(losses(model).values()).detach()) < first


def test_attention_keeps_every_bit_and_is_not_forgotten_in_evaluation():
    torch.manual_seed(0)
    model = Attending()
    frozen = model.encoder.layers[0].self_attn.in_proj_weight.clone()
    plain = copy.deepcopy(model)
    adapters = awake(Adapters(model, "LoRA(rank=3)", heads=["head"]))
    x = torch.randn(2, 4, 8)
    training = model(x)
    assert torch.equal(model.encoder.layers[0].self_attn.base_layer.in_proj_weight, frozen)
    assert not torch.allclose(training, plain(x))
    model.eval()
    with torch.no_grad():
        evaluated = model(x)
        padded = model.encoder(x, src_key_padding_mask=torch.zeros(2, 4, dtype=torch.bool))
    torch.testing.assert_close(evaluated, training)
    torch.testing.assert_close(model.head(padded), training)
    torch.testing.assert_close(copy.deepcopy(model)(x), training)
    merged = adapters.merge()
    torch.testing.assert_close(merged(x), training)
    assert {n for n, _ in merged.named_parameters()} == {n for n, _ in plain.named_parameters()}
    assert merged.encoder.layers[0].activation_relu_or_gelu == plain.encoder.layers[0].activation_relu_or_gelu


def test_a_failing_forward_pass_leaves_attention_as_it_was():
    model = Attending()
    frozen = model.encoder.layers[0].self_attn.in_proj_weight.clone()
    awake(Adapters(model, "LoRA(rank=2)", heads=["head"]))
    with pytest.raises(Exception, match=r"."):
        model(torch.randn(2, 4, 9))
    assert torch.equal(model.encoder.layers[0].self_attn.base_layer.in_proj_weight, frozen)
    model(torch.randn(2, 4, 8))


@pytest.mark.parametrize("kind", ["LoRA(rank=2)", "IA3()"])
def test_merging_keeps_the_function(kind):
    model = net()
    plain = [name for name, _ in model.named_parameters()]
    adapters = awake(Adapters(model, kind, heads=["heads"]))
    before = losses(model)
    merged = adapters.merge()
    assert [name for name, _ in merged.named_parameters()] == plain
    for name, loss in losses(merged).items():
        torch.testing.assert_close(loss, before[name])


def test_untrained_adapters_change_nothing():
    plain, model = net(), net()
    Adapters(model, "LoRA(rank=2)", heads=["heads"])
    for name, loss in losses(model).items():
        assert torch.equal(loss, losses(plain)[name])


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second, third = (Adapters(copy.deepcopy(net()), heads=["heads"], seed=s) for s in (0, 0, 1))
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)
    values = [a.state_dict()["values"]["fc1.lora_A.default.weight"] for a in (first, second, third)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_state_round_trip():
    one, other = (Adapters(net(s), "LoRA(rank=2)", heads=["heads"]) for s in (0, 1))
    awake(one)
    other.load_state_dict(one.state_dict())
    for (name, p), (same, q) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(p, q)
    with pytest.raises(AccordError, match="the state is of LoRA.rank=2., which differs in conv.lora_A"):
        Adapters(net(), "LoRA(rank=3)", heads=["heads"]).load_state_dict(one.state_dict())


# errors


@pytest.mark.parametrize(
    ("adapter", "options", "message"),
    [
        ("LORA(rank=2)", {}, "adapter 'LORA' is unknown. Did you mean 'LoRA'?"),
        ("LoRA(ranks=2)", {}, "LoRA has no argument 'ranks'. Did you mean 'rank'?"),
        ("LoRA()", {}, "expected rank= or budget=, a whole number from 1; write LoRA"),
        ("LoRA(rank=0)", {}, r"LoRA\(rank=0\): expected rank="),
        ("LoRA(rank=2, budget=9)", {}, "expected rank= or budget="),
        ("LoRA(budget=100)", {"heads": ["heads"]}, "rank 1 everywhere makes it 136; give that much"),
        ("LoRA(rank=2)", {"heads": ["head"]}, "heads=: 'head' matches no parameter. Did you mean 'heads'?"),
        ("LoRA(rank=2)", {"targets": ["fc3"]}, "targets=: 'fc3' matches no parameter"),
        ("LoRA(rank=2)", {"biases": "all"}, "biases='all', expected 'whole' or 'frozen'"),
        ("LoRA(rank=2)", {"whole": ["fc1.weight"]}, "fc1 would be trained whole and adapted"),
        ("IA3(feedforward=('fc7',))", {}, "feedforward=: 'fc7' matches no parameter"),
    ],
)
def test_mistakes_have_one_clear_line(adapter, options, message):
    with pytest.raises(AccordError, match=message) as caught:
        Adapters(net(), adapter, **options)
    assert "\n" not in str(caught.value)


def test_what_is_prepared_already_and_shared_modules_are_refused():
    model = net()
    Adapters(model, heads=["heads"])
    with pytest.raises(AccordError, match="conv is a Conv2d already; expected a plain model"):
        Adapters(model, heads=["heads"])
    shared = nn.Linear(3, 3)
    with pytest.raises(AccordError, match="one and two are one module"):
        Adapters(nn.ModuleDict({"one": shared, "two": shared}))
    with pytest.raises(AccordError, match="no layer inside the model can be adapted"):
        Adapters(nn.Linear(3, 3))


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AccordError, match=r"pip install 'accord\[peft\]'"):
        Adapters(net(), heads=["heads"])
