"""Event encodings against the table of their definition."""

from __future__ import annotations

import math

import pytest
import torch

from accord.tpp.encodings import ENCODINGS, EventEncoding, sinusoid

M = 5
WITH_LABELS = [name for name, (_, place) in ENCODINGS.items() if place]


def plainly(encoding: EventEncoding, tau: float, mark: int | None) -> list[float]:
    """One token, by the table of the class."""
    one_hot = torch.zeros(M, dtype=torch.float64)
    if mark is not None:
        one_hot[mark] = 1
    label = (encoding.label.weight.T @ one_hot).tolist() if encoding.place else []
    frequencies = [10 ** (-4 * j / (encoding.emb // 2 - 1)) for j in range(encoding.emb // 2)]
    s = [math.sin(w * tau) for w in frequencies] + [math.cos(w * tau) for w in frequencies]
    if encoding.feature == "linear":
        s = (encoding.time.weight[:, 0] * tau + encoding.time.bias).tolist()
    added = [math.sqrt(encoding.emb) * a + b for a, b in zip(label, s, strict=False)]
    above = max(tau, encoding.floor)
    return {
        "times_only": [above],
        "log_times_only": [math.log(above)],
        "marks_only": label,
        "concatenate": [*label, above],
        "log_concatenate": [*label, math.log(above)],
        "temporal": s,
        "learnable": s,
        "temporal_with_labels": added,
        "learnable_with_labels": added,
    }[next(name for name, kind in ENCODINGS.items() if kind == (encoding.feature, encoding.place))]


@pytest.mark.parametrize("time", ["relative", "absolute"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_are_the_table(name: str, time: str) -> None:
    encoding = EventEncoding(name, M, 6, floor=1e-3, time=time).double()
    gap, age = torch.tensor([[0.0, 1e-4, 2.5], [0.7, 1e-5, 40.0]], dtype=torch.float64)
    mark = torch.tensor([0, 4, 2])
    tau = (gap if time == "relative" else age).tolist()
    expected = torch.tensor([plainly(encoding, t, int(k)) for t, k in zip(tau, mark, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(encoding(gap, mark, age), expected, rtol=1e-10, atol=1e-12)
    assert expected.shape[1] == encoding.size


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_window_start_has_no_mark_and_no_time(name: str) -> None:
    encoding = EventEncoding(name, M, 6, time="absolute").double()
    times = torch.tensor([3.0, 0.0], dtype=torch.float64)
    expected = torch.tensor([plainly(encoding, 0.0, None)] * 2, dtype=torch.float64)
    torch.testing.assert_close(encoding(times, None, times + 1), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", WITH_LABELS)
def test_vectors_of_marks_are_looked_up_without_bias(name: str) -> None:
    encoding = EventEncoding(name, 50, 8)
    counts = {"label.weight": 400} | ({"time.weight": 8, "time.bias": 8} if encoding.feature == "linear" else {})
    assert {n: p.numel() for n, p in encoding.named_parameters()} == counts
    weight = encoding.label.weight
    assert 0.9 * 50**-0.5 < weight.abs().max() <= 50**-0.5
    assert (weight < 0).any()


def test_sinusoids_of_odd_size_lose_their_last_cosine() -> None:
    position = torch.arange(4.0)
    assert torch.equal(sinusoid(position, 9), sinusoid(position, 10)[:, :9])
