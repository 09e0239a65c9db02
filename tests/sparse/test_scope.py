"""Which tensors are selected from, trained whole or frozen; and what is refused, in one clear line."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, weight_norm

from accord.errors import AccordError
from accord.sparse import PSN, RandomNeuron, count, select
from accord.sparse.placed import Placed
from accord.sparse.scope import scope
from accord.sparse.training import SparseTraining


def treatments(model: nn.Module, **options) -> dict[str, str]:
    return {part.name: part.treatment for part in scope(model, **options)}


class Odd(nn.Module):
    """A module of an unknown type."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))


class RMSNormOfMine(Odd):
    """Its class's name says what it is."""


class Conv1D(Odd):
    """The layer of GPT-2: (in, out)."""


@pytest.mark.parametrize(
    ("module", "pretrained"),
    [
        (nn.Linear(3, 2), {"weight": "rows", "bias": "whole"}),
        (nn.Bilinear(3, 4, 2), {"weight": "rows", "bias": "whole"}),
        (nn.Conv1d(4, 2, 3), {"weight": "rows", "bias": "whole"}),
        (nn.ConvTranspose3d(2, 4, 1), {"weight": "rows", "bias": "whole"}),
        (nn.LayerNorm(3), {"weight": "frozen", "bias": "frozen"}),
        (nn.BatchNorm1d(3), {"weight": "frozen", "bias": "frozen"}),
        (nn.GroupNorm(1, 3), {"weight": "frozen", "bias": "frozen"}),
        (nn.RMSNorm(3), {"weight": "frozen"}),
        (RMSNormOfMine(weight=(3, 3)), {"weight": "frozen"}),
        (nn.Embedding(5, 3), {"weight": "frozen"}),
        (nn.PReLU(3), {"weight": "frozen"}),
        (nn.GRUCell(3, 2), {"weight_ih": "rows", "weight_hh": "rows", "bias_ih": "whole", "bias_hh": "whole"}),
        (nn.LSTM(3, 4, proj_size=2, bias=False),
         {"weight_ih_l0": "rows", "weight_hh_l0": "rows", "weight_hr_l0": "rows"}),
        (
            nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True),
            {"q_proj_weight": "rows", "k_proj_weight": "rows", "v_proj_weight": "rows", "in_proj_bias": "whole"}
            | {"bias_k": "frozen", "bias_v": "frozen", "out_proj.weight": "rows", "out_proj.bias": "whole"},
        ),
        (Odd(weight=(2, 3), bias=(2,), scale=(2,)), {"weight": "rows", "bias": "whole", "scale": "frozen"}),
        (Odd(weight=(3,), bias=(3,)), {"weight": "frozen", "bias": "frozen"}),
        (Odd(position_bias_table=(9, 2), token=(1, 1, 3)), {"position_bias_table": "frozen", "token": "frozen"}),
        (nn.ParameterList([torch.zeros(2, 2)]), {"0": "frozen"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_the_owning_module_decides(module, pretrained):
    assert treatments(module) == pretrained
    scratch = {name: "whole" if found == "frozen" else found for name, found in pretrained.items()}
    assert treatments(module, regime="scratch") == scratch


def test_what_requires_no_gradient_stays_frozen_unless_overridden():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    assert treatments(net, heads="1") == dict.fromkeys(("0.weight", "0.bias"), "frozen") | dict.fromkeys(
        ("1.weight", "1.bias"), "head"
    )
    assert treatments(net, heads="1", overrides={"0.weight": "rows"})["0.weight"] == "rows"


def test_heads_by_module_parameter_and_pattern():
    net = nn.ModuleDict({"head": nn.Linear(2, 2), "head2": nn.Linear(2, 2), "pred_a": nn.Linear(2, 2)})
    assert [name for name, t in treatments(net, heads=["head"]).items() if t == "head"] == ["head.weight", "head.bias"]
    found = treatments(net, heads=["head2.bias", "pred_*"])
    assert [name for name, t in found.items() if t == "head"] == ["head2.bias", "pred_a.weight", "pred_a.bias"]
    with pytest.raises(AccordError, match="heads: 'heed' matches no parameter. Did you mean 'head'"):
        scope(net, heads="heed")


def test_overrides():
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    found = treatments(net, heads="2", overrides={"1": "whole", "0.bias": "frozen", "*.bias": "whole"})
    assert found == {"0.weight": "rows", "0.bias": "frozen", "1.weight": "whole", "1.bias": "whole"} | {
        "2.weight": "head", "2.bias": "whole",
    }  # fmt: skip
    with pytest.raises(AccordError, match="overrides: 'norm' matches no parameter"):
        scope(net, overrides={"norm": "whole"})
    with pytest.raises(AccordError, match="treatment 'frozn' is unknown. Did you mean 'frozen'"):
        scope(net, overrides={"0": "frozn"})
    with pytest.raises(AccordError, match=r"1.weight has no rows to select from \(shape \(4,\)\)"):
        scope(net, overrides={"1.weight": "rows"})
    with pytest.raises(AccordError, match="regime 'scrach' is unknown. Did you mean 'scratch'"):
        scope(net, regime="scrach")
    with pytest.raises(AccordError, match="no weight to select from"):
        select(net, PSN(k=1), heads=["0", "2"])


@pytest.mark.parametrize(
    ("model", "rule", "options", "message"),
    [
        (None, 5, {}, "the rule is of type int; expected a rule or its spelling"),
        (None, None, {}, "the rule is of type NoneType"),
        (None, PSN, {}, "the rule is the class PSN; expected"),
        (None, "PSN(k=1)", {"heads": None}, "heads holds NoneType; expected names"),
        (None, "PSN(k=1)", {"heads": nn.Linear(1, 1)}, "heads holds Linear; expected names"),
        (None, "PSN(k=1)", {"heads": [nn.Linear(1, 1)]}, "heads holds Linear; expected names"),
        (None, "PSN(k=1)", {"overrides": ["0"]}, "overrides is list; expected a dict"),
        ([1], "PSN(k=1)", {}, "model is of type list; expected a torch.nn.Module"),
    ],
)
def test_arguments_of_other_types_are_named(model, rule, options, message):
    for called in (select, count, SparseTraining):
        with pytest.raises(AccordError, match=message):
            called(nn.Sequential(nn.Linear(3, 2)) if model is None else model, rule, **options)


def test_tied_weights_have_one_selection():
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4, bias=False)})
    net["b"].weight = net["a"].weight
    mask = select(net, PSN(k=2))
    assert list(mask.selections) == ["a.weight"]
    assert mask.total == 20
    with pytest.raises(AccordError, match=r"a.weight \(rows\) and b.weight \(head\) are one tied parameter.*overrides"):
        select(net, PSN(k=2), heads="b")
    assert select(net, PSN(density=1.0), heads="b", overrides={"b.weight": "whole"}).whole == ("a.weight", "a.bias")
    twice = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    twice["b"].weight = nn.Parameter(twice["a"].weight.data)
    with pytest.raises(AccordError, match="a.weight and b.weight are two parameters in the same memory"):
        select(twice, PSN(k=2))
    twice["words"] = nn.Embedding(4, 4)
    twice["words"].weight = twice["b"].weight
    with pytest.raises(AccordError, match=r"b.weight \(rows\) and words.weight \(frozen\) are one tied"):
        select(twice, PSN(k=2))


def test_parametrised_weights_are_refused():
    for wrap in (parametrizations.weight_norm, parametrizations.orthogonal, weight_norm):
        net = nn.Sequential(wrap(nn.Linear(4, 4)), nn.Linear(4, 4))
        with pytest.raises(AccordError, match="is under a parametrisation"):
            select(net, PSN(k=2), overrides={"0.bias": "frozen"})
        names = [name for name, _ in net[0].named_parameters(prefix="0")]
        mask = select(net, PSN(k=2), overrides=dict.fromkeys(names, "frozen"))
        assert list(mask.selections) == ["1.weight"]


def test_our_own_parametrisation_is_seen_through():
    """A sparse model is selected from again under the plain names, with the values that are trained now."""
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
    mask = select(net, PSN(k=2), heads="1")
    weight = net[0].weight.requires_grad_(False)
    placed = Placed(weight, mask.selections["0.weight"])
    parametrize.register_parametrization(net[0], "weight", placed)
    again = select(net, PSN(k=2), heads="1")
    assert (again.hash, again.origin) == (mask.hash, mask.origin)
    with torch.no_grad():
        placed.values[0] = 0.0
    changed = select(net, PSN(k=2), heads="1")
    assert not set(changed.selections["0.weight"].index[0].tolist()) & set(
        mask.selections["0.weight"].index[0].tolist()
    )


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (nn.LazyLinear(3), "weight has no shape yet; run one batch"),
        (nn.Linear(3, 2, device="meta"), r"weight has no values \(device meta\)"),
        (nn.Linear(3, 2, dtype=torch.complex64), "weight is complex"),
        (Odd(weight=(2, 3)).to(torch.float8_e4m3fn), "weight is quantised"),
    ],
)
def test_weights_that_cannot_be_selected_from(module, match):
    with pytest.raises(AccordError, match=match):
        select(nn.Sequential(module), RandomNeuron(k=2))


def test_quantised_sparse_and_non_finite_weights():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    net[0].weight = nn.Parameter(torch.ones(2, 3, dtype=torch.int8), requires_grad=False)
    for options in ({}, {"overrides": {"0.weight": "rows"}}):
        with pytest.raises(AccordError, match="0.weight is quantised .torch.int8. and cannot be trained"):
            select(net, PSN(k=1), **options)
    assert select(net, PSN(k=1), overrides={"0.weight": "frozen"}).frozen == ("0.weight",)
    net[0].weight = nn.Parameter(torch.ones(2, 3).to_sparse())
    with pytest.raises(AccordError, match="0.weight is stored as torch.sparse_coo"):
        select(net, PSN(k=1))
    assert select(net, PSN(k=1), overrides={"0.weight": "frozen"}).frozen == ("0.weight",)
    for bad in (torch.nan, torch.inf):
        net[0].weight = nn.Parameter(torch.tensor([[1.0, bad, 1.0], [1.0, 1.0, 1.0]]))
        with pytest.raises(AccordError, match="0.weight holds NaN or infinity"):
            select(net, RandomNeuron(k=1))


def test_quantised_modules_are_refused():
    engines = torch.backends.quantized.supported_engines
    if "fbgemm" not in engines and "qnnpack" not in engines:
        pytest.skip("no quantised kernels here")
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(AccordError, match="0 is quantised .Linear. and cannot be trained; select before"):
        select(quantised, PSN(k=1))


@pytest.mark.parametrize(
    ("make", "forward"),
    [
        (lambda: nn.ConvTranspose2d(6, 4, 3, groups=2), lambda m, x: m(x)),
        (lambda: nn.ConvTranspose1d(3, 5, 2), lambda m, x: m(x)),
        (lambda: Conv1D(weight=(6, 4)), lambda m, x: x @ m.weight),
    ],
)
def test_rows_are_output_units_wherever_they_stand(make, forward):
    """The selected places of output unit r are those of weights that reach output r and no other."""
    module = make()
    mask = select(module, PSN(k=3))
    places = mask.selections["weight"].places(module.weight.shape)
    dims = module.weight.ndim - 2
    inputs = torch.randn(1, len(module.weight), *[4] * dims)
    out = forward(module, inputs)
    for unit in range(out.shape[1]):
        used = torch.autograd.grad(out[0, unit].sum(), module.weight, retain_graph=True)[0].reshape(-1) != 0
        mine = used[places].nonzero()[:, 0]
        assert len(mine) == 3
        largest = module.weight.detach().reshape(-1).abs().where(used, -1.0).topk(3).indices
        assert sorted(places[mine].tolist()) == sorted(largest.tolist())


def test_counts_of_grouped_and_depthwise_convolutions():
    assert count(nn.Conv2d(8, 8, 3, groups=8, bias=False), "PSN(k=9)").trainable == 72
    assert count(nn.Conv2d(8, 8, 3, groups=2, bias=False), "PSN(k=9)").trainable == 72
    assert count(nn.ConvTranspose2d(6, 4, 3, groups=2, bias=False), "PSN(k=9)").trainable == 36


def test_gpt2_linear_layers_are_turned():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=11, n_positions=5)
    model = transformers.GPT2Model(config)
    found = {part.name: part for part in scope(model)}
    attention = found["h.0.attn.c_attn.weight"]
    assert attention.layout.matrix(attention.parameter).shape == (24, 8)
    assert found["wte.weight"].treatment == "frozen"
    assert {part.block for part in found.values()} == {"", "h.0"}
