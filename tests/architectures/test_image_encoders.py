"""ResNet-18, ViT-Tiny, and the trunks of transformers: sizes, second implementations, mistakes."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from accord.architectures import (
    Conv,
    Encoder,
    Form,
    HardSharing,
    ResNet18,
    Swin,
    ViT,
    ViTTiny,
    dense,
    parse_encoder,
    vector,
)
from accord.errors import AccordError

IMAGENET = Form("map", 3, (224, 224))
SMALL = [
    ResNet18(width=4),
    ResNet18(stem="large", width=4),
    ViTTiny(width=12, blocks=2, heads=3),
    ViTTiny(width=12, blocks=2, heads=3, output="class"),
    ViTTiny(width=12, blocks=1, heads=1, output="sequence"),
    ViTTiny(width=12, blocks=1, heads=1, output="map"),
    ViT(width=12, blocks=2, heads=3, patch=8),
    ViT(width=12, blocks=2, heads=3, patch=8, output="mean"),
    ViT(width=12, blocks=2, heads=3, patch=8, output="sequence"),
    ViT(width=12, blocks=2, heads=3, patch=8, output="map"),
    Swin(width=6, blocks=(2, 2), heads=(1, 2), window=3),
]
THEIRS = (ViT, Swin)


def available(spec):
    if isinstance(spec, THEIRS):
        pytest.importorskip("transformers", reason="needs accord[transformers]")
    return spec


def parameters(spec, inputs=IMAGENET) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in spec.build(inputs).parameters())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ResNet18(stem="large"), 11_176_512),
        (ViTTiny(patch=16, output="class"), 5_524_416),
        (ViT(), 85_798_656),
        (ViT(width=192, heads=3), 5_524_416),
        (ViT(width=384, heads=6), 21_665_664),
        (Swin(), 27_519_354),
        (Swin(width=128, blocks=(2, 2, 18, 2), heads=(4, 8, 16, 32)), 86_753_474 - 10 * (1024 + 1)),
    ],
    ids=repr,
)
def test_published_sizes(spec, expected):
    assert parameters(available(spec)) == expected


@pytest.mark.parametrize("spec", SMALL, ids=repr)
def test_every_stage_has_the_form_that_it_promises(spec):
    inputs = Form("map", 2, (24, 40))
    encoder = available(spec).build(inputs)
    x = torch.randn(2, 2, 24, 40)
    for index, form in enumerate(encoder.forms):
        x = encoder.stage(index, x)
        shapes = {
            "map": (2, form.width, *form.size),
            "sequence": (2, *form.size, form.width),
            "vector": (2, form.width),
        }
        assert x.shape == shapes[form.kind], index


@pytest.mark.parametrize("spec", SMALL, ids=repr)
def test_every_parameter_gets_a_gradient_and_examples_do_not_mix(spec):
    encoder = available(spec).build(Form("map", 2, (24, 40)))
    x = torch.randn(3, 2, 24, 40)
    out = encoder(x)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    torch.testing.assert_close(encoder(x[1:2]), out[1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.eval()(x), out)  # training and evaluation are one function


@pytest.mark.parametrize("spec", [ResNet18(width=4), SMALL[5], SMALL[9], SMALL[10]], ids=repr)
def test_maps_serve_dense_tasks(spec):
    heads = {"depth": dense(1, (24, 40)), "scene": vector(5)}
    model = HardSharing().build(available(spec), Form("map", 3, (24, 40)), heads)
    out = model(torch.randn(2, 3, 24, 40))
    assert {task: tuple(y.shape) for task, y in out.items()} == {"depth": (2, 1, 24, 40), "scene": (2, 5)}


@pytest.mark.parametrize("spec", [*SMALL, ResNet18(), ViTTiny(), ViT(), Swin()], ids=repr)
def test_the_spelling_comes_back(spec):
    assert parse_encoder(repr(spec)) == spec


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, [1, 2, 4]), (3, [3, 3, 4]), (5, [1, 2, 4]), (6, [3, 4, 4]), (16, [4, 4, 4])]
)
def test_any_number_of_channels_falls_into_groups(channels, groups):
    encoder = Conv(channels, layers=3).build(Form("map", 3, (32, 32)))
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, 4 * channels, 4, 4)
    assert [m.num_groups for m in encoder.modules() if isinstance(m, nn.GroupNorm)] == groups


def test_resnet_is_the_sum_of_shortcuts_and_convolutions():
    encoder = ResNet18(stem="large", width=12).build(Form("map", 3, (33, 50)))
    groups = {12: 4, 24: 8, 48: 16, 96: 32}
    state = dict(encoder.state_dict())
    x = torch.randn(2, 3, 33, 50)

    def layer(y, conv, norm, stride):
        weight = state[f"{conv}.weight"]
        y = F.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2)
        return F.group_norm(y, groups[len(weight)], state[f"{norm}.weight"], state[f"{norm}.bias"])

    y = F.max_pool2d(layer(x, "stages.0.0", "stages.0.1", 2).relu(), 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            at, stride = f"stages.{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = layer(
                layer(y, f"{at}.inner.0", f"{at}.inner.1", stride).relu(), f"{at}.inner.3", f"{at}.inner.4", 1
            )
            there = f"{at}.shortcut.0.weight" in state
            y = (inner + (layer(y, f"{at}.shortcut.0", f"{at}.shortcut.1", stride) if there else y)).relu()
    torch.testing.assert_close(encoder(x), y)


def test_vit_tiny_is_the_transformer_of_pytorch():
    encoder = ViTTiny(width=12, blocks=3, heads=3, output="class").build(Form("map", 2, (16, 24)))
    x = torch.randn(2, 2, 16, 24)
    first = encoder.stages[0]
    cut = F.unfold(x, 8, stride=8).transpose(1, 2)  # (N, h·w, channels · 64)
    tokens = F.linear(cut, first.patches.weight.flatten(1), first.patches.bias)
    y = torch.cat([first.first.expand(2, 1, 12), tokens], 1) + first.positions
    for block in encoder.stages[1:-1]:
        layer = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
        names = {
            "self_attn.in_proj_": block.qkv, "self_attn.out_proj.": block.proj, "linear1.": block.mlp[0],
            "linear2.": block.mlp[2], "norm1.": block.norms[0], "norm2.": block.norms[1],
        }  # fmt: skip
        layer.load_state_dict({f"{at}{n}": p for at, part in names.items() for n, p in part.named_parameters()})
        y = layer(y)
    norm = encoder.stages[-1].norm
    torch.testing.assert_close(encoder(x), F.layer_norm(y, (12,), norm.weight, norm.bias, 1e-6)[:, 0])


def test_vit_is_the_model_of_transformers():
    transformers = pytest.importorskip("transformers", reason="needs accord[transformers]")
    torch.manual_seed(3)
    encoder = ViT(width=12, blocks=2, heads=3, patch=8, output="class").build(Form("map", 2, (16, 24)))
    torch.manual_seed(3)
    config = transformers.ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=(16, 24),
        patch_size=8, num_channels=2,
    )  # fmt: skip
    theirs = transformers.ViTModel(config, add_pooling_layer=False).eval()
    x = torch.randn(2, 2, 16, 24)
    torch.testing.assert_close(encoder(x), theirs(x).last_hidden_state[:, 0])


def test_swin_is_the_model_of_transformers():
    transformers = pytest.importorskip("transformers", reason="needs accord[transformers]")
    torch.manual_seed(3)
    encoder = Swin(width=6, blocks=(2, 2), heads=(1, 2), window=3).build(Form("map", 2, (24, 40)))
    torch.manual_seed(3)
    config = transformers.SwinConfig(
        embed_dim=6, depths=[2, 2], num_heads=[1, 2], window_size=3, image_size=(24, 40), patch_size=4, num_channels=2,
    )  # fmt: skip
    theirs = transformers.SwinModel(config).eval()
    x = torch.randn(2, 2, 24, 40)
    found = theirs(x)
    torch.testing.assert_close(encoder(x).flatten(2).transpose(1, 2), found.last_hidden_state)
    torch.testing.assert_close(encoder(x).mean((2, 3)), found.pooler_output)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("resnet18(stem='smal')", None, "Did you mean 'small'?"),
        ("resnet18(stem=3)", None, "stem=3 is unknown"),
        ("resnet18(width=0)", None, "expected a whole number greater than 0"),
        ("vit-tiny(output='token')", None, "output='token' is unknown"),
        ("vit-tiny(heads=5)", None, "width=192 is no multiple of heads=5"),
        ("vit-tiny", (36, 36), "patch=8 does not divide an image of 36 x 36 pixels; choose one of 2, 3, 4, 6"),
        ("vit-tiny", (31, 37), "choose one of 1."),
        ("vit(heads=7)", None, "768 features are no multiple of 7 heads"),
        ("vit", (40, 64), "patch=16 does not divide"),
        ("swin(blocks=(2, 2))", None, "2 stages of blocks and 4 of heads"),
        ("swin(blocks=2)", None, "blocks=2, expected whole numbers"),
        ("swin(heads=())", None, "heads=(), expected whole numbers"),
        ("swin(blocks=(2, 0), heads=(3, 3))", None, "blocks=(2, 0), expected whole numbers"),
        ("swin(heads=(3, 5, 12, 24))", None, "192 features are no multiple of 5 heads"),
        ("swin", (64, 64), "64 x 64 pixels comes to a map of 2 x 2, smaller than window=7; choose window=2"),
        ("swin", (30, 64), "patch=4 does not divide"),
        ("vit_tinny", None, "Did you mean 'vit-tiny'?"),
    ],
)  # fmt: skip
def test_mistakes_give_one_line(text, size, expected):
    with pytest.raises(AccordError) as caught:
        parse_encoder(text).build(Form("map", 3, size or (64, 64)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [ViT(), Swin()], ids=repr)
def test_a_missing_package_is_named(spec, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(AccordError, match=r"needs the package transformers .*pip install 'accord\[transformers\]'"):
        spec.build(IMAGENET)


def test_vectors_are_refused():
    for spec in (ResNet18(), ViTTiny(), ViT(), Swin()):
        with pytest.raises(AccordError, match="takes inputs of the form map"):
            spec.build(Form("vector", 5))


def test_an_encoder_is_a_function_of_the_seed():
    def built(spec) -> Encoder:
        torch.manual_seed(7)
        return spec.build(Form("map", 3, (32, 32)))

    for spec in (ResNet18(width=4), ViTTiny(width=12, blocks=1), Conv()):
        first, second = built(spec).state_dict(), built(spec).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)
