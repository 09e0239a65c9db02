"""Encoders of texts: padding and the rest of a batch change nothing, and each against a second implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from accord.architectures import GRU, Form, Transformer, parse_encoder
from accord.architectures.encoders.transformer import positions
from accord.errors import AccordError

SPECS = [
    GRU(width=12, layers=1, embedding=6),
    GRU(width=8, layers=3, embedding=5),
    Transformer(width=12, layers=1, attending=2),
    Transformer(width=8, layers=3, attending=4, expansion=2),
]
VOCABULARY, LONGEST = 20, 9
EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(params=SPECS, ids=repr)
def encoder(request):
    torch.manual_seed(0)
    return request.param.build(Form("tokens", VOCABULARY, (LONGEST,))).double()


def texts(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    words = torch.randint(1, VOCABULARY, valid.shape, generator=generator)
    return torch.where(valid, words, 0), valid


def padded(words, valid, count: int):
    return nn.functional.pad(words, (0, count)), nn.functional.pad(valid, (0, count))


def test_forms_are_what_comes_out(encoder):
    words, valid = texts(4, 2)
    x = words
    for index, form in enumerate(encoder.forms):
        x = encoder.stage(index, x, valid)
        assert form.kind == "sequence"
        assert form.size == (LONGEST,)
        assert x.shape == (2, 4, form.width)


def test_padding_and_companions_change_nothing(encoder):
    words, valid = texts(9, 1, 4, 4, 2)
    together = encoder(words, valid)
    wider = encoder(*padded(words, valid, 5))
    for i, length in enumerate((9, 1, 4, 4, 2)):
        alone = encoder(words[i : i + 1, :length])  # without a mask: all of it is valid
        torch.testing.assert_close(together[i, :length], alone[0], **EXACT)
        torch.testing.assert_close(wider[i, :length], alone[0], **EXACT)


def test_what_stands_at_padding_is_never_read(encoder):
    words, valid = texts(5, 3)
    other = torch.where(valid, words, 7)
    torch.testing.assert_close(encoder(words, valid)[valid], encoder(other, valid)[valid], **EXACT)


def test_gradients_do_not_depend_on_padding_and_reach_every_parameter(encoder):
    found = []
    for given in (texts(5, 1, 3), padded(*texts(5, 1, 3), 4)):
        out = encoder(*given)[given[1]]
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.double).view_as(out)
        found.append(torch.autograd.grad((out * weights).sum(), list(encoder.parameters())))
    for narrow, wide in zip(*found, strict=True):
        assert narrow.any()
        torch.testing.assert_close(narrow, wide, **EXACT)


def test_the_order_of_words_matters(encoder):
    words = torch.tensor([[3, 4, 5, 6]])
    forwards, backwards = encoder(words), encoder(words.flip(1)).flip(1)
    assert (forwards - backwards).abs().max() > 1e-3


def test_several_gradients_at_once(encoder):
    words, valid = texts(5, 1, 3)
    out, parameters = encoder(words, valid), list(encoder.parameters())
    directions = torch.randn(2, *out.shape, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    both = torch.autograd.grad(out, parameters, directions, is_grads_batched=True, retain_graph=True)
    for k in range(2):
        for one, rows in zip(torch.autograd.grad(out, parameters, directions[k], retain_graph=True), both, strict=True):
            torch.testing.assert_close(rows[k], one, **EXACT)


def test_gru_as_packed_and_bidirectional():
    torch.manual_seed(0)
    encoder = GRU(width=10, layers=2, embedding=6).build(Form("tokens", VOCABULARY, (LONGEST,))).double()
    words, valid = texts(2, 7, 1, 4)
    x = encoder.stages[0](words)
    for layer in list(encoder.stages)[1:]:
        both = nn.GRU(x.shape[2], 5, batch_first=True, bidirectional=True).double()
        both.load_state_dict(
            layer.ahead.state_dict() | {f"{name}_reverse": value for name, value in layer.back.state_dict().items()}
        )
        packed = pack_padded_sequence(x, valid.sum(1), batch_first=True, enforce_sorted=False)
        x = pad_packed_sequence(both(packed)[0], batch_first=True)[0]
    torch.testing.assert_close(encoder(words, valid), x, **EXACT)


def test_transformer_one_word_and_one_head_at_a_time():
    torch.manual_seed(0)
    encoder = Transformer(width=8, layers=1, attending=2).build(Form("tokens", VOCABULARY, (LONGEST,))).double()
    (words, _), layer = texts(5), encoder.stages[1]
    x = encoder.stages[0].table(words)[0] + positions(5, 8).double()
    normed = layer.norms[0](x)
    query, key, value = (normed @ part.T for part in layer.mixed.weight.chunk(3))
    rows = []
    for i in range(5):
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            scores = torch.stack([query[i, h] @ key[j, h] / math.sqrt(4) for j in range(5)])
            heads.append(sum(p * value[j, h] for j, p in enumerate(scores.softmax(0))))
        rows.append(torch.cat(heads))
    x = x + layer.out(torch.stack(rows))
    x = x + layer.narrow(nn.functional.gelu(layer.wide(layer.norms[1](x))))
    torch.testing.assert_close(encoder(words)[0], layer.norms[2](x), **EXACT)


def test_positions_as_published():
    found = positions(7, 6)
    for place in range(7):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            assert found[place, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[place, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("kind", [GRU, Transformer])
def test_dropout_acts_while_training_only(kind):
    torch.manual_seed(0)
    encoder = kind(width=8, dropout=0.5).build(Form("tokens", VOCABULARY, (LONGEST,)))
    words, valid = texts(6, 3)
    assert not torch.equal(encoder(words, valid), encoder(words, valid))
    encoder.eval()
    assert torch.equal(encoder(words, valid), encoder(words, valid))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gru(width=7)", "gru: width=7, expected an even number"),
        ("gru(layers=0)", "layers=0, expected a whole number greater than 0"),
        ("gru(dropout=1.0)", "dropout=1.0, expected a share"),
        ("transformer(attending=3)", "width=128, expected an even multiple of attending=3"),
        ("transformer(width=9, attending=3)", "width=9, expected an even multiple"),
        ("transformer(heads=3)", "has no setting 'heads'"),
    ],
)
def test_wrong_settings(text, message):
    with pytest.raises(AccordError) as error:
        parse_encoder(text)
    assert message in str(error.value)


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_spelling_and_inputs(spec):
    assert parse_encoder(repr(spec)) == spec
    with pytest.raises(AccordError, match="takes inputs of the form tokens, and these are map"):
        spec.build(Form("map", 3, (8, 8)))
