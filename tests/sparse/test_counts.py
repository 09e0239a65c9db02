"""How many scalars are trained: every integer of the paper's models, from shapes on the device meta."""

from __future__ import annotations

import pytest
import shapes
import torch
from torch import nn

from accord.architectures import MTAN, Form, SegNet, dense
from accord.sparse import PSN, RULES, count, select

VIT_B, SWIN_B = (768, 12), (128, (2, 2, 18, 2), (4, 8, 16, 32))
NYU, CITY = (13, 1, 3), (7, 1)

# name -> model, names of its heads, k, trainable, total
TABLE = {
    "ViT-B/16": (lambda: shapes.ViT(*VIT_B), (), 300, 25_197_312, 85_798_656),
    "ViT-B/16 Clevr": (lambda: shapes.ViT(*VIT_B, heads=(8, 6)), "heads", 300, 25_208_078, 85_809_422),
    "ViT-B/16 SmallNORB": (lambda: shapes.ViT(*VIT_B, heads=(18, 9)), "heads", 300, 25_218_075, 85_819_419),
    "ViT-B/16 SmallNORB 200": (lambda: shapes.ViT(*VIT_B, heads=(18, 9)), "heads", 200, 16_846_875, 85_819_419),
    "Swin-B CelebA 300": (lambda: shapes.Swin(*SWIN_B, out=10), "head", 300, 32_616_330, 86_753_474),
    "Swin-B CelebA 400": (lambda: shapes.Swin(*SWIN_B, out=10), "head", 400, 43_009_930, 86_753_474),
    "Swin-B CelebA 800": (lambda: shapes.Swin(*SWIN_B, out=10), "head", 800, 63_203_210, 86_753_474),
    "MTAN NYUv2": (lambda: shapes.MTAN(NYU), "pred", 2000, 27_505_105, 44_229_073),
    "MTAN CityScapes 2000": (lambda: shapes.MTAN(CITY), "pred", 2000, 24_483_016, 41_206_984),
    "MTAN CityScapes 3000": (lambda: shapes.MTAN(CITY), "pred", 3000, 31_327_432, 41_206_984),
    "MTAN CityScapes 3500": (lambda: shapes.MTAN(CITY), "pred", 3500, 34_399_432, 41_206_984),
    "SAM ViT-B": (lambda: shapes.SAM(768, 12, 12, (2, 5, 8, 11)), (), 300, 25_350_912, 89_670_912),
    "SAM ViT-H": (lambda: shapes.SAM(1280, 32, 16, (7, 15, 23, 31)), (), 300, 111_499_520, 637_026_048),
    "ViT-Ti/16": (lambda: shapes.ViT(192, 12), (), 300, 4_308_672, 5_524_416),
    "ViT-S/16": (lambda: shapes.ViT(384, 12), (), 300, 12_598_656, 21_665_664),
    "ViT-L/16": (lambda: shapes.ViT(1024, 24), (), 300, 66_884_608, 303_301_632),
    "ViT-H/14": (lambda: shapes.ViT(1280, 32, patch=14, tokens=257), (), 300, 111_345_920, 630_764_800),
    "Swin-T": (lambda: shapes.Swin(96, (2, 2, 6, 2), (3, 6, 12, 24)), (), 300, 11_725_728, 27_519_354),
    "Swin-L": (lambda: shapes.Swin(192, (2, 2, 18, 2), (6, 12, 24, 48)), (), 300, 49_376_064, 194_995_476),
    "LLaMA 1B": (lambda: shapes.LLaMA(2048, 5504, 24), (), 300, 152_985_600, 1_214_251_008),
    "LLaMA 7B": (lambda: shapes.LLaMA(4096, 11008, 32), (), 300, 407_961_600, 6_476_005_376),
}


@pytest.mark.parametrize("name", TABLE)
def test_integers_of_the_paper(name):
    build, heads, k, trainable, total = TABLE[name]
    with torch.device("meta"):
        model = build()
    found = count(model, PSN(k=k), heads=heads, regime="scratch" if "MTAN" in name else "pretrained")
    assert (found.trainable, found.total) == (trainable, total)


@pytest.mark.parametrize(("outputs", "k", "expected"), [(NYU, 2000, 27_505_105), (CITY, 3500, 34_399_432)])
def test_our_mtan_is_the_papers(outputs, k, expected):
    with torch.device("meta"):
        heads = {str(i): dense(out, (288, 384)) for i, out in enumerate(outputs)}
        model = MTAN().build(SegNet(), Form("map", 3, (288, 384)), heads)
    assert count(model, PSN(k=k), heads="heads", regime="scratch").trainable == expected


def test_transformers_models_have_the_same_counts():
    """The classes of transformers hold the same tensors under other names: the owning modules are recognised."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        vit = transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False)
        wide = transformers.SwinConfig(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32])
        swin = transformers.SwinModel(wide, add_pooling_layer=False)
    assert count(vit, PSN(k=300)).trainable == 25_197_312
    assert count(swin, PSN(k=300)).trainable == 32_616_330 - 10 * 1025


def small() -> nn.Module:
    """Some of every kind of tensor; called inside a test, so that its values are those of its seed."""
    model = shapes.ViT(16, 2, patch=2, tokens=5, heads=(3, 2))
    model.extra = nn.ModuleDict(
        {
            "turned": nn.ConvTranspose2d(6, 4, 3, groups=2),
            "deep": nn.Conv2d(4, 4, 3, groups=4),
            "norm": nn.BatchNorm2d(4),
            "words": nn.Embedding(11, 5),
            "rnn": nn.GRU(5, 7, bidirectional=True),
            "attention": nn.MultiheadAttention(8, 2),
        }
    )
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter)
    return model


def evidence(model: nn.Module):
    """Losses that reach every weight, for two tasks and two batches."""
    for batch in (1.0, 2.0):
        yield {
            "up": sum((p * p).sum() for p in model.parameters()) * batch,
            "down": sum((p - batch).pow(4).sum() for p in model.parameters()),
        }


@pytest.mark.parametrize("regime", ["pretrained", "scratch"])
@pytest.mark.parametrize("budget", [{"k": 5}, {"density": 0.4}, {}], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_count_is_what_select_selects(rule, budget, regime):
    if rule.name == "BitFit" and budget:
        pytest.skip("has no budget")
    model, rule = small(), rule(**budget)
    mask = select(model, rule, heads="heads", regime=regime, losses=evidence(model) if rule.needs_evidence else None)
    found = count(model, rule, heads="heads", regime=regime)
    assert (mask.trainable, mask.total) == (found.trainable, found.total)
    assert mask.total == sum(p.numel() for p in model.parameters())
    with torch.device("meta"):
        assert count(small(), rule, heads="heads", regime=regime) == found
