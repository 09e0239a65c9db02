"""SegNet and MTAN: the published sizes, second implementations written from the formulas, limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from accord.architectures import GRU, MLP, MTAN, Bottleneck, Conv, Form, HardSharing, SegNet, dense, vector
from accord.errors import AccordError

SIZE = (45, 70)  # odd at several levels
MAP = Form("map", 3, SIZE)
HEADS = {"segmentation": dense(4, SIZE), "depth": dense(1, SIZE)}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"segmentation": 13, "depth": 1, "normal": 3}, 44_229_073),  # NYUv2
        ({"segmentation": 7, "depth": 1}, 41_206_984),  # CityScapes
    ],
)
def test_segnet_mtan_has_the_published_number_of_parameters(outputs, expected):
    size = (288, 384)
    heads = {task: dense(channels, size) for task, channels in outputs.items()}
    with torch.device("meta"):
        model = MTAN().build(SegNet(), Form("map", 3, size), heads)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_segnet_alone_is_the_trunk_of_the_specification():
    f = [64, 128, 256, 512, 512]
    pairs = [(3, 64), (64, 64), (64, 64), (64, 64), (128, 128), (64, 64)]
    for i in range(4):
        pairs += [(f[i], f[i + 1]), (f[i + 1], f[i])]
        if i > 0:
            pairs += [(f[i + 1], f[i + 1])] * 2 + [(f[i], f[i])] * 2
    with torch.device("meta"):
        model = SegNet().build(Form("map", 3, (288, 384)))
    weights = sorted((m.in_channels, m.out_channels) for m in model.modules() if isinstance(m, nn.Conv2d))
    assert weights == sorted(pairs)
    assert sum(p.numel() for p in model.parameters()) == sum(9 * a * b + 3 * b for a, b in pairs)


def built(architecture=None, encoder=None, inputs=MAP, heads=HEADS):
    torch.manual_seed(0)
    return (architecture or MTAN()).build(encoder or SegNet(width=4), inputs, heads).double()


def layer(block, x):
    """3 x 3 convolution, batch normalisation of this batch, ReLU."""
    conv, norm, _ = block
    y = F.conv2d(x, conv.weight, conv.bias, padding=1)
    return F.relu(F.batch_norm(y, None, None, norm.weight, norm.bias, training=True))


def layers(blocks, x):
    for block in blocks:
        x = layer(block, x)
    return x


def unpool(x, where, size):
    """Every value to the place of the maximum that it was, zeros elsewhere."""
    n, d = x.shape[:2]
    rows = []
    for places, values in zip(where.view(n * d, -1), x.reshape(n * d, -1), strict=True):
        rows.append(torch.zeros(size[0] * size[1], dtype=x.dtype).index_put((places,), values))
    return torch.stack(rows).view(n, d, *size)


def trunk(stage, x):
    """(before, after) of the five levels down, then of the five up, as in the paper's figure of SegNet."""
    down, up, sizes, places = [], [], [], []
    for level in range(5):
        before = layer(stage.enter[level], x)
        after = layers(stage.down[level], before)
        x, where = F.max_pool2d(after, 2, return_indices=True)
        down.append((before, after))
        sizes.append(after.shape[2:])
        places.append(where)
    for level in reversed(range(5)):
        before = unpool(x, places[level], sizes[level])
        x = layers(stage.up[level], layer(stage.leave[level], before))
        up.append((before, x))
    return down, up


def mask(block, x):
    conv1, norm1, _, conv2, norm2, _ = block
    y = F.batch_norm(F.conv2d(x, conv1.weight, conv1.bias), None, None, norm1.weight, norm1.bias, training=True)
    y = F.conv2d(y.clamp(min=0), conv2.weight, conv2.bias)
    y = F.batch_norm(y, None, None, norm2.weight, norm2.bias, training=True)
    return 1 / (1 + torch.exp(-y))


def images():
    return torch.randn(2, 3, *SIZE, dtype=torch.float64)


def test_segnet_is_its_formula_for_sizes_of_every_parity():
    model, x = built(HardSharing()), images()
    down, up = trunk(model.encoder.stages[0], x)
    assert [tuple(after.shape[1:]) for _, after in down] == [
        (4, 45, 70),
        (8, 22, 35),
        (16, 11, 17),
        (32, 5, 8),
        (32, 2, 4),
    ]
    torch.testing.assert_close(model.encoder(x), up[-1][1])


def test_segnet_mtan_is_its_formula():
    model, x = built(), images()
    down, up = trunk(model.encoder.stages[0], x)
    for task, y in model(x).items():
        before, after = down[0]
        a = mask(model.down_masks[task][0], before) * after
        for level in range(1, 5):
            c = F.max_pool2d(layer(model.down[level - 1], a), 2)
            before, after = down[level]
            a = mask(model.down_masks[task][level], torch.cat([before, c], 1)) * after
        a = F.max_pool2d(layer(model.down[4], a), 2)
        for index, (before, after) in enumerate(up):
            a = F.interpolate(a, before.shape[2:], mode="bilinear", align_corners=True)
            c = layer(model.up[index], a)
            a = mask(model.up_masks[task][index], torch.cat([before, c], 1)) * after
        head = model.heads[task]
        expected = F.conv2d(
            F.conv2d(a, head.inner.weight, head.inner.bias, padding=1), head.outer.weight, head.outer.bias
        )
        torch.testing.assert_close(y, expected)


def test_convolutions_start_xavier_normal():
    torch.manual_seed(0)
    model = MTAN().build(SegNet(width=16), MAP, HEADS)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert not any(m.bias.any() for m in convolutions)
    for m in convolutions:
        if m.weight.numel() > 10_000:  # for these one standard error of the spread is below 0.8 %
            field = m.weight[0, 0].numel()
            expected = math.sqrt(2 / (field * (m.in_channels + m.out_channels)))
            assert m.weight.std().item() == pytest.approx(expected, rel=0.04)


def test_maps_that_are_too_small_are_refused():
    with pytest.raises(AccordError, match="needs at least 32 x 32 pixels; these have 31 x 64"):
        SegNet().build(Form("map", 3, (31, 64)))
    assert SegNet(width=1).build(Form("map", 3, (32, 32)))(torch.randn(2, 3, 32, 32)).shape == (2, 1, 32, 32)


CASES = [
    (SegNet(width=4), MAP, HEADS),
    (Conv(channels=4, layers=3), MAP, HEADS),
    (MLP(width=4, layers=3), Form("vector", 5), {"a": vector(2), "b": vector(1)}),
    (Bottleneck(width=3, layers=2), Form("map", 3, (12, 16)), {"a": vector(2), "b": vector(1)}),
    (GRU(width=4, embedding=3), Form("tokens", 9, (6,)), {"a": vector(2), "b": vector(1)}),
]


def sample(form):
    if form.kind == "tokens":
        return torch.randint(1, form.width, (3, *form.size)), torch.arange(6) < torch.tensor([[6], [3], [5]])
    return torch.randn(3, form.width, *form.size, dtype=torch.float64), None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].name)
def test_with_masks_of_1_it_is_hard_sharing(case):
    form = case[1]
    model, hard = built(None, *case), built(HardSharing(), *case)
    hard.encoder.load_state_dict(model.encoder.state_dict())
    hard.heads.load_state_dict(model.heads.state_dict())
    last = [m for name, m in model.named_modules() if "masks" in name and isinstance(m, nn.BatchNorm2d | nn.LayerNorm)]
    with torch.no_grad():
        for norm in last[1::2]:  # the second of each mask; its sigmoid is then 1 to the last digit
            norm.weight.zero_()
            norm.bias.fill_(50)
    x, valid = sample(form)
    expected = hard(x, valid)
    for task, y in model(x, valid).items():
        torch.testing.assert_close(y, expected[task])


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case[0].name)
def test_attention_to_the_stages_of_any_encoder_is_its_formula(case):
    form = case[1]
    model = built(None, *case)
    x, valid = sample(form)
    features = []
    for index in range(len(model.encoder.stages)):
        features.append(model.encoder.stage(index, features[-1] if features else x, valid))

    def attend(layers, seen, p):
        """One example and place at a time."""
        flat = seen.movedim(1, -1) if p.ndim == 4 else seen
        mask = torch.stack([layers(row) for row in flat.reshape(-1, flat.shape[-1])]).view(*flat.shape[:-1], -1)
        return (mask.movedim(-1, 1) if p.ndim == 4 else mask) * p

    for task, y in model(x, valid).items():
        a = attend(model.masks[task][0].layers, features[0], features[0])
        for index, p in enumerate(features[1:]):
            f = model.carry[index].layer
            if a.ndim == p.ndim == 4:
                c = F.relu(F.conv2d(F.adaptive_max_pool2d(a, p.shape[2:]), f.weight, f.bias, padding=1))
            else:
                c = F.relu((a.mean((2, 3)) if a.ndim == 4 else a) @ f.weight.T + f.bias)
            channels = 1 if p.ndim == 4 else -1
            a = attend(model.masks[task][index + 1].layers, torch.cat([p, c], channels), p)
        torch.testing.assert_close(y, model.heads[task](a, valid))
