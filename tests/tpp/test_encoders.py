"""Encoders: what they may see, against plain implementations, one event at a time, and their parameter counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord.tpp.batch import Batch, collate
from accord.tpp.encoders.attention import AttentionEncoder
from accord.tpp.encoders.constant import ConstantEncoder
from accord.tpp.encoders.encoder import Encoder
from accord.tpp.encoders.gru import GRUEncoder
from accord.tpp.encoders.mlp import mlp, summary
from accord.tpp.encodings import sinusoid
from accord.tpp.errors import TPPError
from accord.tpp.events import Events

M = 5
LENGTHS = (7, 0, 3, 1, 6, 2)  # one empty window, and lengths that attention pads in three groups


def some_events(lengths: tuple[int, ...] = LENGTHS, seed: int = 0, marks: int = M) -> Events:
    rng = np.random.default_rng(seed)
    times = [np.cumsum(rng.exponential(size=length)) for length in lengths]
    times = [np.where(np.arange(t.size) == 2, t[1] if t.size > 2 else 0, t) for t in times]  # ties
    kinds = [rng.integers(marks, size=length) for length in lengths]
    return Events.of(times, kinds, start=0.0, end=100.0, names=[str(k) for k in range(marks)])


def some_batch(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Batch:
    return collate(some_events(lengths, seed), dtype=torch.float64)


def gru_encoder(**options: object) -> Encoder:
    return GRUEncoder(M, rnn=6, mid=5, dim=4, **options).double()  # type: ignore[arg-type]


def attention_encoder(**options: object) -> Encoder:
    encoder = AttentionEncoder(M, heads=2, ffn=7, mid=5, dim=4, **options).double()  # type: ignore[arg-type]
    for layer in encoder.history:  # biases and scales of which some are zeros or ones at the start
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
    return encoder


MAKERS = {
    "gru": gru_encoder,
    "gru_log": lambda: gru_encoder(encoding="log_concatenate", time_encoding="absolute"),
    "attention": attention_encoder,
    "attention_absolute": lambda: attention_encoder(time_encoding="absolute", position="none"),
    "constant": lambda: ConstantEncoder(4),
}
every_encoder = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
with_history = pytest.mark.parametrize("make", [MAKERS["gru"], MAKERS["attention"]], ids=["gru", "attention"])


def by_sequence(batch: Batch, rows: Tensor) -> dict[int, Tensor]:
    """The rows of each sequence in order of time, by its number in the data set."""
    return {int(number): rows[batch.rank == rank] for rank, number in enumerate(batch.order)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "temporal_with_label"}, "Did you mean 'temporal_with_labels'"),
        ({"time_encoding": "absolut"}, "Did you mean 'absolute'"),
        ({"emb": 7}, "even"),
        ({"emb": 2}, "at least 4"),
        ({"position": "indx"}, "Did you mean 'index'"),
        ({"heads": 3}, "divide 8"),
        ({"encoding": "times_only"}, "position='none'"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(TPPError, match=message):
        AttentionEncoder(M, mid=4, dim=3, **options)  # type: ignore[arg-type]


def test_nonneg_holds_at_the_start_and_after_projection() -> None:
    encoder = GRUEncoder(M, rnn=3, mid=3, dim=2, nonneg=True)
    weight = encoder.embedding.label.weight
    assert (weight >= 0).all()
    weight.data -= 0.1
    kept = weight.clone()
    encoder.project_()
    assert torch.equal(weight, kept.clamp(min=0))
    free = GRUEncoder(M, rnn=3, mid=3, dim=2)
    before = free.embedding.label.weight.clone()
    free.project_()
    assert torch.equal(free.embedding.label.weight, before)
    assert (before < 0).any()


# ---------------------------------------------------------------- laws of every encoder


@every_encoder
def test_the_future_changes_nothing(make) -> None:  # type: ignore[no-untyped-def]
    encoder, events = make(), some_events()
    batch = collate(events, dtype=torch.float64)
    h = encoder(batch)
    assert h.shape == (len(batch.mark), 4)
    for i in range(1, max(LENGTHS) + 1):  # events from step i on become other events, at other times
        late = batch.step >= i
        changed = {"mark": (batch.mark + 1) % M, "gap": 3 * batch.gap + 1, "age": 5 * batch.age + 2}
        parts = {name: torch.where(late, value, getattr(batch, name)) for name, value in changed.items()}
        other = Batch(**(vars(batch) | parts))
        assert torch.equal(encoder(other)[~late], h[~late])


@with_history
def test_the_past_changes_everything_after(make) -> None:  # type: ignore[no-untyped-def]
    encoder, batch = make(), some_batch((4, 6))
    mark = batch.mark.clone()
    mark[batch.step == 2] = (mark[batch.step == 2] + 1) % M
    changed = (encoder(Batch(**(vars(batch) | {"mark": mark}))) != encoder(batch)).any(1)
    assert torch.equal(changed, batch.step >= 2)


@with_history
def test_no_gradient_flows_to_later_events_or_other_sequences(make) -> None:  # type: ignore[no-untyped-def]
    encoder, batch = make(encoding="learnable_with_labels"), some_batch()
    gap = batch.gap.clone().requires_grad_()
    h = encoder(Batch(**(vars(batch) | {"gap": gap})))
    for row in range(len(h)):
        (found,) = torch.autograd.grad(h[row].sum(), gap, retain_graph=True)
        mine = (batch.rank == batch.rank[row]) & (batch.step <= batch.step[row]) & (batch.step > 0)
        assert torch.equal(found != 0, mine)


@every_encoder
def test_companions_in_a_batch_change_nothing(make) -> None:  # type: ignore[no-untyped-def]
    encoder, events = make(), some_events()
    batch = collate(events, dtype=torch.float64)
    together = by_sequence(batch, encoder(batch))
    for number, expected in together.items():
        alone = collate(events, [number], dtype=torch.float64)
        torch.testing.assert_close(encoder(alone), expected, rtol=1e-10, atol=1e-10)


@every_encoder
def test_one_event_at_a_time_is_the_same(make) -> None:  # type: ignore[no-untyped-def]
    encoder, batch = make(), some_batch((6, 6, 4, 6, 1))
    h = encoder(batch)
    like = batch.gap
    state, found = encoder.start(len(batch), like)
    torch.testing.assert_close(found, h[: len(batch)], rtol=1e-10, atol=1e-10)
    for i, size in enumerate(batch.sizes[1:], 1):
        state = encoder.select(state, torch.arange(size))
        rows = batch.step == i
        state, found = encoder.advance(state, batch.gap[rows], batch.mark[rows], batch.age[rows])
        torch.testing.assert_close(found, h[rows], rtol=1e-10, atol=1e-10)


@every_encoder
def test_selected_states_go_on_alike_and_the_old_one_stays(make) -> None:  # type: ignore[no-untyped-def]
    encoder, count = make(), 3
    gap, mark = torch.rand(count).double(), torch.tensor([0, 3, 1])
    state, _ = encoder.advance(encoder.start(count, gap)[0], gap, mark, gap)
    rows = torch.tensor([2, 0, 0])
    chosen = encoder.select(state, rows)
    _, expected = encoder.advance(state, gap, mark, 2 * gap)
    _, found = encoder.advance(chosen, gap[rows], mark[rows], 2 * gap[rows])
    torch.testing.assert_close(found, expected[rows], rtol=1e-12, atol=1e-12)
    _, again = encoder.advance(state, gap, mark, 2 * gap)
    assert torch.equal(again, expected)


@with_history
def test_every_window_start_is_the_same_token(make) -> None:  # type: ignore[no-untyped-def]
    encoder = make()
    h = encoder(some_batch())[: len(LENGTHS)]
    torch.testing.assert_close(h, h[:1].expand_as(h), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(h[:2], encoder(some_batch((1, 1), seed=9))[:2], rtol=1e-12, atol=1e-12)


@every_encoder
def test_windows_without_any_event(make) -> None:  # type: ignore[no-untyped-def]
    encoder = make()
    expected = encoder.start(2, torch.zeros((), dtype=torch.float64))[1]
    torch.testing.assert_close(encoder(some_batch((0, 0))), expected, rtol=1e-10, atol=1e-10)


@with_history
def test_both_task_gradients_at_once(make) -> None:  # type: ignore[no-untyped-def]
    encoder, batch = make(), some_batch()
    h = encoder(batch)
    cotangents = torch.randn(2, *h.shape, dtype=torch.float64)
    wanted = list(encoder.parameters())
    found = torch.autograd.grad(h, wanted, cotangents, is_grads_batched=True, retain_graph=True)
    for i in range(2):
        expected = torch.autograd.grad(h, wanted, cotangents[i], retain_graph=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-10, atol=1e-12)


@with_history
def test_gradients_against_finite_differences(make) -> None:  # type: ignore[no-untyped-def]
    encoder, batch = make(), some_batch((3, 1, 0))
    names, values = zip(*encoder.named_parameters(), strict=True)

    def h(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(encoder, dict(zip(names, parameters, strict=True)), (batch,))

    values = tuple(v.detach().requires_grad_() for v in values)
    assert torch.autograd.gradcheck(h, values, fast_mode=True)


@with_history
def test_float32_is_close(make) -> None:  # type: ignore[no-untyped-def]
    encoder, batch = make(), some_batch()
    expected = encoder(batch)
    found = encoder.float()(batch.to(dtype=torch.float32))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@with_history
def test_every_parameter_belongs_to_a_block(make) -> None:  # type: ignore[no-untyped-def]
    blocks = make().blocks()
    assert set(blocks.values()) == {"embedding", "history", "mlp"}
    assert blocks["mlp.2.bias"] == "mlp"


def test_unit_length_has_finite_gradients_at_zero() -> None:
    network = mlp(3, 4, 2).double()
    state = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    summary(network, state).sum().backward()
    assert state.grad is not None
    assert torch.isfinite(state.grad).all()
    long = torch.randn(5, 3, dtype=torch.float64)
    expected = network(long / long.square().sum(1, keepdim=True).sqrt())
    torch.testing.assert_close(summary(network, long), expected, rtol=1e-12, atol=1e-12)


def test_constant_is_one_without_parameters() -> None:
    encoder = ConstantEncoder(3)
    assert torch.equal(encoder(some_batch()), torch.ones(sum(LENGTHS) + len(LENGTHS), 3, dtype=torch.float64))
    assert not list(encoder.parameters())


# ---------------------------------------------------------------- against PyTorch's own layers


def test_gru_against_one_sequence_at_a_time() -> None:
    encoder, batch = gru_encoder(), some_batch()
    found = by_sequence(batch, encoder(batch))
    zero = torch.zeros(1, dtype=torch.float64)
    for number, rows in by_sequence(batch, torch.arange(len(batch.mark))).items():
        rows = rows[1:]
        events = encoder.embedding(batch.gap[rows], batch.mark[rows], batch.age[rows])
        states, _ = encoder.history(torch.cat([encoder.embedding(zero, None, zero), events]))
        expected = encoder.mlp(states / states.norm(dim=1, keepdim=True))
        torch.testing.assert_close(found[number], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("position", ["index", "none"])
def test_attention_against_transformer_layers(position: str) -> None:
    encoder, batch = attention_encoder(position=position), some_batch()
    h = encoder(batch)
    zero = torch.zeros(1, dtype=torch.float64)

    def history(x: Tensor, steps: Tensor) -> Tensor:
        """One sequence through the layers as they are, with an explicit mask."""
        if position == "index":
            x = x + sinusoid(steps.to(x.dtype), x.shape[1])
        mask = torch.full((len(x), len(x)), -torch.inf, dtype=x.dtype).triu(1)
        for layer in encoder.history:
            x = layer(x.unsqueeze(0), src_mask=mask).squeeze(0)
        return encoder.mlp(x / x.norm(dim=1, keepdim=True))

    start = history(encoder.embedding(zero, None, zero), zero)
    found = by_sequence(batch, h)
    for number, rows in by_sequence(batch, torch.arange(len(batch.mark))).items():
        rows = rows[1:]  # without the window start: nothing attends to it
        events = encoder.embedding(batch.gap[rows], batch.mark[rows], batch.age[rows])
        expected = torch.cat([start, history(events, batch.step[rows])])
        torch.testing.assert_close(found[number], expected, rtol=1e-9, atol=1e-9)


def test_position_tells_equal_events_apart() -> None:
    events = Events.of([[1.0, 2.0, 3.0]], [[1, 1, 1]], start=0.0, names=list("abcde"))
    batch = collate(events, dtype=torch.float64)
    blind, seeing = attention_encoder(position="none")(batch), attention_encoder(position="index")(batch)
    torch.testing.assert_close(blind[1], blind[3], rtol=1e-12, atol=1e-12)
    assert (seeing[1] - seeing[3]).abs().max() > 1e-3


@pytest.mark.parametrize(("encoding", "emb"), [("log_concatenate", 8), ("marks_only", 5)])
def test_attention_takes_encodings_of_odd_size(encoding: str, emb: int) -> None:
    encoder = AttentionEncoder(M, encoding=encoding, emb=emb, mid=3, dim=2).double()
    assert torch.isfinite(encoder(some_batch())).all()


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize("marks", [50, 22, 8])
@pytest.mark.parametrize(("rnn", "mid", "dim"), [(36, 32, 96), (42, 32, 32), (28, 16, 32)])
def test_gru_parameter_count(marks: int, rnn: int, mid: int, dim: int) -> None:
    emb = 8
    expected = emb * marks + 3 * rnn * (emb + rnn) + 6 * rnn + rnn * mid + mid + mid * dim + dim
    encoder = GRUEncoder(marks, rnn=rnn, mid=mid, dim=dim)
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_attention_parameter_count() -> None:
    emb, ffn, mid, dim, layers = 8, 48, 32, 16, 2
    attention = 3 * (emb * emb + emb) + emb * emb + emb
    network = emb * ffn + ffn + ffn * emb + emb
    norms = 2 * 2 * emb
    expected = emb * 50 + layers * (attention + network + norms) + emb * mid + mid + mid * dim + dim
    encoder = AttentionEncoder(50, emb=emb, ffn=ffn, mid=mid, dim=dim, layers=layers)
    assert sum(p.numel() for p in encoder.parameters()) == expected
