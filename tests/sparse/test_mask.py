"""Masks: counts, fingerprints, states and files; what is damaged is refused in one line."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

from accord.errors import AccordError
from accord.sparse import PSN, RULES, Columns, Mask, load, save, select
from accord.sparse.origin import origin
from accord.sparse.store import KEY

SPELLED = [rule() if rule.name == "BitFit" else rule(density=0.4) for rule in RULES]


def model(width: int = 6) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 8), nn.LayerNorm(8), nn.ConvTranspose1d(8, 4, 2), nn.Linear(8, 3))


def mask_of(rule, net: nn.Module | None = None) -> Mask:
    net = model() if net is None else net
    losses = {"a": sum((p * p).sum() for p in net.parameters()), "b": sum(p.exp().sum() for p in net.parameters())}
    return select(net, rule, heads="3", losses=[losses] if rule.needs_evidence else None)


def test_numbers():
    mask = mask_of(PSN(k=2))
    assert mask.whole == ("0.bias", "2.bias")
    assert mask.frozen == ("1.weight", "1.bias")
    assert mask.heads == ("3.weight", "3.bias")
    selected = 8 * 2 + 8 + 4 * 2 + 4
    assert (mask.selected, mask.trainable) == (selected, selected + 27)
    shared = 48 + 8 + 16 + 64 + 4
    assert (mask.shared, mask.total, mask.density) == (shared, shared + 27, selected / shared)
    assert repr(mask) == "Mask(PSN(k=2): 63 of 167 trained, 36 of 140 shared)"


def test_the_table():
    lines = mask_of(PSN(k=2)).describe().splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["parameter", "treatment", "rows", "fan_in", "k", "trained", "share"],
        ["0.weight", "selected", "8", "6", "2", "16", "0.333"],
        ["0.bias", "whole", "8", "1", "1", "8", "1.000"],
        ["1.weight", "frozen", "8", "1", "0", "0", "0.000"],
    ]
    assert lines[-1].split() == ["(all)", "63", "0.377"]
    assert lines[-3].split()[:2] == ["3.weight", "head"]


@pytest.mark.parametrize("rule", SPELLED, ids=repr)
class TestEveryRule:
    def test_state_and_file_give_the_same_mask(self, rule, tmp_path):
        mask = mask_of(rule)
        save(mask, tmp_path / "deep" / "mask.safetensors")
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mask.safetensors"]
        for again in (Mask.from_state(mask.state_dict()), load(tmp_path / "deep" / "mask.safetensors")):
            assert (again.hash, again.origin, again.rule) == (mask.hash, mask.origin, mask.rule)
            assert (again.trainable, again.total, again.heads) == (mask.trainable, mask.total, mask.heads)
            assert again.describe() == mask.describe()
            for name, selection in mask.selections.items():
                assert type(again.selections[name]) is type(selection)
                assert again.selections[name].index.dtype == selection.index.dtype
                assert torch.equal(again.selections[name].index, selection.index)

    def test_neither_index_type_nor_device_enter_the_hash(self, rule):
        mask = mask_of(rule)
        long = {name: replace(s, index=s.index.long()) for name, s in mask.selections.items()}
        assert replace(mask, selections=long).hash == mask.hash
        assert mask.to("cpu").hash == mask.hash
        assert all(s.index.is_meta for s in mask.to("meta").selections.values())
        assert replace(mask, rule="by hand", origin="").hash == mask.hash

    def test_the_hash_sees_every_place_and_treatment(self, rule):
        mask = mask_of(rule)
        hashes = {mask.hash, replace(mask, whole=mask.whole[1:], frozen=(*mask.frozen, mask.whole[0])).hash}
        hashes.add(replace(mask, shapes={**mask.shapes, "1.bias": torch.Size([9])}).hash)
        for name, s in mask.selections.items():
            index = s.index.clone().reshape(-1)
            index[-1] -= 1
            moved = {**mask.selections, name: replace(s, index=index.view(s.index.shape))}
            hashes.add(replace(mask, selections=moved).hash)
        assert len(hashes) == 3 + len(mask.selections)


def test_groups_of_columns_enter_the_hash():
    net = model()
    assert mask_of(Columns(k=2, group=4), net).hash != mask_of(Columns(k=2, group=3), net).hash


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("rule", [r for r in SPELLED if not r.needs_evidence], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_devices_agree(rule, dtype):
    net = model(width=96).to(dtype)
    here = mask_of(rule, net)
    there = mask_of(rule, net.cuda())
    assert (here.hash, here.origin) == (there.hash, there.origin)
    assert all(s.index.is_cuda for s in there.selections.values())
    assert there.to("cpu").hash == here.hash


def test_origin_is_of_values_and_not_of_order_or_heads():
    net = model()
    first = mask_of(PSN(k=2), net).origin
    with torch.no_grad():
        net[3].weight.add_(1)
    assert mask_of(PSN(k=2), net).origin == first
    with torch.no_grad():
        net[1].bias[0] += 1e-6
    assert mask_of(PSN(k=2), net).origin != first
    wide = {"w": torch.randn(4, 4)}
    assert origin({"w": wide["w"].t().contiguous().t()}) == origin(wide)
    assert origin({"w": wide["w"].double()}) != origin(wide)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("whole"), "lacks whole"),
        (lambda s: s["indices"].pop("0.weight"), "do not have the same names"),
        (lambda s: s["forms"].update({"0.weight": ["Rings", 1]}), "selection 'Rings'.*Rows"),
        (lambda s: s["indices"].update({"0.weight": s["indices"]["0.weight"] + 5}), "places of 0.weight .* do not fit"),
        (lambda s: s["indices"].update({"0.weight": s["indices"]["0.weight"].flip(1)}), "places of 0.weight"),
        (lambda s: s["indices"].update({"0.weight": s["indices"]["0.weight"][1:]}), "places of 0.weight"),
        (lambda s: s["shapes"].pop("0.weight"), "places of 0.weight .* shape None"),
        (lambda s: s["frozen"].pop(), "hash differs"),
        (lambda s: s.update(hash="0"), "hash differs"),
    ],
)
def test_damaged_states(change, match):
    state = mask_of(PSN(k=2)).state_dict()
    change(state)
    with pytest.raises(AccordError, match=match):
        Mask.from_state(state)


def test_damaged_files(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "mask.safetensors"
    with pytest.raises(AccordError, match="there is no mask"):
        load(path)
    save(mask_of(PSN(k=2)), path)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-1], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(AccordError, match="is no mask, or damaged"):
            load(path)
    changed = bytearray(whole)
    changed[-1] ^= 1  # a place moved
    path.write_bytes(bytes(changed))
    with pytest.raises(AccordError, match=r"mask.safetensors: .*damaged"):
        load(path)
    save_file({"x": torch.zeros(1)}, path, metadata={"of": "another program"})
    with pytest.raises(AccordError, match="is no mask, or damaged"):
        load(path)
    for about in ("[]", "{}", json.dumps({"rule": "PSN"})):
        save_file({"x": torch.zeros(1)}, path, metadata={KEY: about})
        with pytest.raises(AccordError, match="mask.safetensors"):
            load(path)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "mask.safetensors"
    first = mask_of(PSN(k=2))
    save(first, path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(AccordError, match="cannot be written .No space left"):
        save(mask_of(PSN(k=3)), path)
    assert load(path).hash == first.hash
    assert len(list(tmp_path.iterdir())) == 1
