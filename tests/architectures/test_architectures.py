"""Every architecture around every encoder: outputs, what reaches which parameter, states, seeds, padding, spelling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from accord.architectures import (
    ARCHITECTURES,
    CGC,
    ENCODERS,
    GRU,
    MLP,
    MTAN,
    PLE,
    Architecture,
    Bottleneck,
    Conv,
    CrossStitch,
    DSelectK,
    EncoderSpec,
    Form,
    Head,
    MMoE,
    SegNet,
    dense,
    parse_architecture,
    parse_encoder,
    per_token,
    vector,
)
from accord.errors import AccordError
from accord.sharing import discover

# small ones of their kind; an encoder that is not listed is tried with its defaults
SMALL = {
    "bottleneck": "bottleneck(width=4, layers=2)",
    "conv": "conv(channels=4, layers=3)",
    "gru": "gru(width=6, embedding=4)",
    "mlp": "mlp(width=6, layers=3)",
    "resnet18": "resnet18(width=4)",
    "segnet": "segnet(width=2)",
    "swin": "swin(width=6, blocks=(2, 2), heads=(1, 2), window=2)",
    "transformer": "transformer(width=8, layers=2, attending=2)",
    "vit": "vit(width=8, blocks=2, heads=2, patch=8)",
    "vit-tiny": "vit-tiny(width=8, blocks=2, heads=2)",
}
INPUTS = {
    "vector": Form("vector", 6),
    "map": Form("map", 3, (32, 32)),
    "sequence": Form("sequence", 5, (7,)),
    "tokens": Form("tokens", 11, (7,)),
}
PAIRS = [(architecture, encoder) for architecture in ARCHITECTURES for encoder in ENCODERS]
IDS = [f"{architecture.name}-{encoder.name}" for architecture, encoder in PAIRS]
FEW = [(architecture, encoder) for architecture, encoder in PAIRS if encoder in (MLP, Bottleneck, Conv, GRU)]
FEW_IDS = [f"{architecture.name}-{encoder.name}" for architecture, encoder in FEW]
TEXTS = [encoder for encoder in ENCODERS if "tokens" in encoder.accepts]


def small(kind: type[EncoderSpec]) -> EncoderSpec:
    return parse_encoder(SMALL.get(kind.name, kind.name))


def fitting(kind: type[Architecture], stages: int) -> Architecture:
    """The default, on fewer levels where the encoder has too few stages."""
    return PLE(levels=min(2, stages)) if kind is PLE else kind()


def heads(output: Form) -> dict[str, Head]:
    """Two for the whole example, one for each place in it."""
    local = {"map": dense(2, INPUTS["map"].size), "sequence": per_token(2)}.get(output.kind, vector(2))
    return {"class": vector(3), "value": vector(1), "place": local}


def batch(form: Form, count: int = 4) -> tuple[Tensor, Tensor | None]:
    """Inputs of a form, and which positions are valid."""
    generator = torch.Generator().manual_seed(1)
    if form.kind == "tokens":
        x = torch.randint(1, form.width, (count, *form.size), generator=generator)
        valid = torch.arange(form.size[0]) < torch.arange(2, 2 + count)[:, None]  # (N, L)
        return torch.where(valid, x, 0), valid
    if form.kind == "map":
        return torch.randn(count, form.width, *form.size, generator=generator), None
    return torch.randn(count, *form.size, form.width, generator=generator), None


def built(kind: type[Architecture], encoder: type[EncoderSpec], seed: int = 0) -> nn.Module:
    spec, inputs = small(encoder), INPUTS[encoder.accepts[0]]
    try:
        probe = spec.build(inputs)
    except AccordError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))
    torch.manual_seed(seed)
    return fitting(kind, len(probe.forms)).build(spec, inputs, heads(probe.output))


def losses(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {task: (y + 1).square().mean() for task, y in outputs.items()}


def owner(model: nn.Module, name: str) -> str | None:
    """The task that alone reaches a parameter, according to the formulas; None: all do."""
    tasks = list(model.heads)
    part, *rest = name.split(".")
    if part == "heads" or part in ("masks", "down_masks", "up_masks"):
        return rest[0]
    if part == "gates" and rest[0] in tasks:
        return rest[0]
    if part == "gates":  # of PLE: the first of three levels feeds own experts of the second, which others mix
        return None if int(rest[0]) < len(model.groups) - 2 and len(model.own[rest[1]]) else rest[1]
    if part == "own":
        return rest[0] if int(rest[3]) in model.groups[-1] else None
    if part == "units":
        return tasks[int(rest[2])] if int(rest[0]) == len(model.units) - 1 else None
    return None


def check_sharing(model: nn.Module, outputs: dict[str, Tensor]) -> None:
    sharing = discover(model, losses(outputs))
    reach = {id(p): set(tasks) for p, tasks in zip(sharing.shared, sharing.reach, strict=True)}
    reach |= {id(p): {task} for task, own in enumerate(sharing.heads) for p in own}
    tasks = list(model.heads)
    for name, p in model.named_parameters():
        alone = owner(model, name)
        assert reach.get(id(p)) == (set(range(len(tasks))) if alone is None else {tasks.index(alone)}), name


@pytest.mark.parametrize(("architecture", "encoder"), PAIRS, ids=IDS)
def test_outputs_gradients_and_sharing(architecture, encoder):
    """One pass for all three, because building and running seventy models is what takes the time."""
    model = built(architecture, encoder)
    x, valid = batch(INPUTS[encoder.accepts[0]])
    outputs = model(x, valid)
    assert list(outputs) == ["class", "value", "place"]
    assert outputs["class"].shape == (4, 3)
    assert outputs["value"].shape == (4, 1)
    assert outputs["place"].shape in {(4, 2), (4, 7, 2), (4, 2, 32, 32)}
    assert all(y.isfinite().all() for y in outputs.values())

    check_sharing(model, outputs)

    sum(losses(outputs).values()).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert sum(bool(g.any()) for g in gradients) > 0.9 * len(gradients)  # some units of ReLUs this narrow are dead


@pytest.mark.parametrize(("architecture", "encoder"), FEW, ids=FEW_IDS)
def test_the_state_is_all_that_a_model_is(architecture, encoder):
    x, valid = batch(INPUTS[encoder.accepts[0]])
    model, same, other = (built(architecture, encoder, seed).eval() for seed in (0, 0, 1))
    state = model.state_dict()
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in state.items())
    before, expected = other(x, valid), model(x, valid)
    other.load_state_dict(state)
    for task, y in other(x, valid).items():
        assert torch.equal(y, expected[task])
        assert not torch.equal(y, before[task])


@pytest.mark.parametrize(("architecture", "encoder"), FEW, ids=FEW_IDS)
def test_examples_do_not_see_each_other(architecture, encoder):
    model = built(architecture, encoder).double().eval()
    x, valid = batch(INPUTS[encoder.accepts[0]])
    x = x.double() if x.is_floating_point() else x
    alone = model(x[1:2], None if valid is None else valid[1:2])
    for task, y in model(x, valid).items():
        torch.testing.assert_close(y[1:2], alone[task])


@pytest.mark.parametrize("encoder", TEXTS, ids=lambda encoder: encoder.name)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_padding_changes_nothing(architecture, encoder):
    model = built(architecture, encoder).double().eval()
    x, valid = batch(INPUTS["tokens"])
    longer = torch.cat([x, x.new_zeros(4, 3)], 1)
    also = torch.cat([valid, valid.new_zeros(4, 3)], 1)
    expected, found = model(x, valid), model(longer, also)
    for task in ("class", "value"):
        torch.testing.assert_close(found[task], expected[task])
    torch.testing.assert_close(found["place"][:, :7][valid], expected["place"][valid])


SPELLINGS = [
    CrossStitch(same=0.5, channels=False),
    MTAN(),
    MMoE(experts=8),
    CGC(shared=3, specific=0),
    PLE(shared=1, specific=2, levels=3),
    DSelectK(experts=8, k=3, static=True),
]


@pytest.mark.parametrize("spec", [*(kind() for kind in ARCHITECTURES), *SPELLINGS], ids=repr)
def test_the_spelling_says_it_all(spec):
    assert parse_architecture(repr(spec)) == spec


def test_the_spelling_is_what_people_type():
    expected = ["cross-stitch(same=0.5, channels=False)", "mtan", "mmoe(experts=8)", "cgc(shared=3, specific=0)"]
    assert [repr(spec) for spec in SPELLINGS[:4]] == expected
    names = [kind.name for kind in ARCHITECTURES]
    assert len(set(names)) == len(names) >= 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mmo", "architecture 'mmo' is unknown.*mmoe"),
        ("mmoe(expert=2)", "mmoe has no setting 'expert'.*experts"),
        ("mmoe(experts=0)", "experts=0, expected a whole number greater than 0"),
        ("mmoe(experts=2.5)", "experts=2.5, expected a whole number"),
        ("cgc(shared=0)", "cgc: shared=0, expected a whole number from 1"),
        ("cgc(specific=-1)", "specific=-1, expected a whole number from 0"),
        ("ple(levels=True)", "ple: levels=True, expected a whole number from 1"),
        ("cross-stitch(same=1.5)", "same=1.5, expected a share"),
        ("cross-stitch(channels=1)", "channels=1, expected True or False"),
        ("dselect-k(experts=6)", "experts=6, expected a power of 2"),
        ("dselect-k(experts=1, k=1)", "experts=1, expected a power of 2"),
        ("dselect-k(k=5)", "k=5, expected at most the number of experts, 4"),
        ("mtan(levels=2)", "mtan has no setting 'levels'. It takes none."),
    ],
)
def test_a_wrong_setting_is_named(text, words):
    with pytest.raises(AccordError, match=words) as found:
        parse_architecture(text)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_inputs_that_the_encoder_cannot_take_are_refused(architecture):
    with pytest.raises(AccordError, match="the encoder mlp takes inputs of the form vector, and these are map"):
        architecture().build(MLP(), INPUTS["map"], {"a": vector(1)})
    with pytest.raises(AccordError, match="a vector for each token needs an encoder that gives a sequence"):
        architecture().build(MLP(), INPUTS["vector"], {"a": per_token(1)})


def test_more_levels_than_stages_are_refused():
    with pytest.raises(AccordError, match=r"levels=3, but the encoder conv has 2 stage\(s\).*choose levels=2"):
        PLE(levels=3).build(Conv(layers=2), INPUTS["map"], {"a": vector(1)})
    with pytest.raises(AccordError, match=r"the encoder segnet has 1 stage\(s\)"):
        PLE().build(SegNet(width=2), INPUTS["map"], {"a": vector(1)})


@pytest.mark.parametrize("spec", [PLE(levels=3, specific=2), PLE(levels=3, specific=0), CGC(specific=0)], ids=repr)
def test_sharing_follows_the_settings(spec):
    model = spec.build(MLP(width=6, layers=4), INPUTS["vector"], {"a": vector(2), "b": vector(1)})
    check_sharing(model, model(batch(INPUTS["vector"])[0]))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_one_task_is_enough(architecture):
    model = architecture().build(MLP(width=6), INPUTS["vector"], {"a": vector(2)})
    assert model(batch(INPUTS["vector"])[0])["a"].shape == (4, 2)
