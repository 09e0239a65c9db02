"""Hawkes processes against brute force, quadrature, linear differential equations and a second, thinning simulator.

Seeds are fixed. Statistical tests use a level of 1e-6 in all, so that a failure is a bug and not bad luck.
"""

import itertools

import numpy as np
import pytest
from scipy import integrate, linalg, stats

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.hawkes.likelihood import intensities, log_likelihood
from accord.tpp.hawkes.presets import LARGE_END, RANDOM_END, hawkes_large, hawkes_random, hawkes_splits
from accord.tpp.hawkes.process import HawkesProcess
from accord.tpp.hawkes.simulate import simulate

LEVEL = 1e-6
SMALL = HawkesProcess(
    [0.3, 0.7, 0.1], [[0.3, 0.1, 0.0], [0.0, 0.2, 0.4], [0.5, 0.0, 0.1]], [[2, 1, 3], [1, 4, 0.2], [5, 1, 9]]
)


def rates_by_hand(process: HawkesProcess, history: list[tuple[float, int]], t: float) -> np.ndarray:
    """(M,) intensities at t, given all of `history`: the definition, one event after the other."""
    found = process.base.copy()
    for s, j in history:
        for i in range(found.size):
            found[i] += process.adjacency[i, j] * process.decay[i, j] * np.exp(-process.decay[i, j] * (t - s))
    return found


def passed_by_hand(process: HawkesProcess, history: list[tuple[float, int]], a: float, b: float) -> np.ndarray:
    """(M,) integral of the intensities from a to b without events between."""
    found = process.base * (b - a)
    for s, j in history:
        fall = np.exp(-process.decay[:, j] * (a - s)) - np.exp(-process.decay[:, j] * (b - s))
        found = found + process.adjacency[:, j] * fall
    return found


def sequences_of(events: Events) -> list[list[tuple[float, int]]]:
    return [
        list(zip(events.time[a:b].tolist(), events.mark[a:b].tolist(), strict=True))
        for a, b in itertools.pairwise(events.offsets)
    ]


def awkward() -> Events:
    """Different lengths, an empty sequence, ties, an event at the start and one at the end, unknown windows."""
    times = [[0.5, 0.7, 0.7, 0.7, 2.0], [], [0.0, 3.0], [1.5], [1.0, 1.0, 4.0]]
    marks = [[0, 2, 1, 1, 0], [], [2, 0], [1], [2, 2, 1]]
    return Events.of(times, marks, start=[0, 0, 0, -2.0, np.nan], end=[2.5, 4.0, 3.0, np.nan, 4.5], names="abc")


@pytest.mark.parametrize("chunk", [1, 2**16])
def test_likelihood_equals_the_double_sum_over_events(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accord.tpp.hawkes.likelihood._CHUNK", chunk)
    events = awkward()
    found = log_likelihood(SMALL, events)
    time, mark, compensator, window, totals = [], [], [], [], []
    for n, sequence in enumerate(sequences_of(events)):
        before, total = float(events.origin[n]), np.zeros(3)
        for i, (t, k) in enumerate(sequence):
            rates, passed = (
                rates_by_hand(SMALL, sequence[:i], t),
                passed_by_hand(SMALL, sequence[:i], before, t),
            )
            if i or not np.isnan(events.start[n]):
                time.append(np.log(rates.sum()) - passed.sum())
                mark.append(np.log(rates[k] / rates.sum()))
                compensator.append(passed.sum())
            before, total = t, total + passed
        tail = passed_by_hand(SMALL, sequence, before, before if np.isnan(events.end[n]) else events.end[n])
        window.append(tail.sum())
        totals.append(total + tail)
    np.testing.assert_allclose(found.time, time, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.mark, mark, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.compensator, compensator, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.window, window, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.mark_totals, totals, rtol=0, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 2**16])
def test_intensities_equal_the_definition_and_are_left_limits(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accord.tpp.hawkes.likelihood._CHUNK", chunk)
    events = awkward()
    grid = np.random.default_rng(0).permuted(np.tile([0.0, 0.5, 0.6, 0.7, 0.71, 1.0, 3.0, 3.1, 99.0], (5, 1)), axis=1)
    grid[4] += 1.0  # the last sequence starts at 1
    found = intensities(SMALL, events, grid)
    for n, sequence in enumerate(sequences_of(events)):
        for g, t in enumerate(grid[n]):
            expected = rates_by_hand(SMALL, [(s, j) for s, j in sequence if s < t], t)
            np.testing.assert_allclose(found[n, g], expected, rtol=1e-12)


def test_compensators_are_integrals_of_the_intensities() -> None:
    events = simulate(SMALL, 3, 5.0, seed=1)
    totals = log_likelihood(SMALL, events).mark_totals
    for n in range(3):
        one = events.subset([n])
        edges = np.array([0.0, *one.time, 5.0])
        pieces = [
            integrate.quad_vec(lambda t, one=one: intensities(SMALL, one, [t])[0, 0], a, b, epsabs=1e-12)[0]
            for a, b in itertools.pairwise(edges)
        ]
        np.testing.assert_allclose(totals[n], np.sum(pieces, 0), rtol=0, atol=1e-9)


def test_shared_grid_serves_every_sequence() -> None:
    events, grid = simulate(SMALL, 4, 5.0), np.linspace(0, 5, 7)
    np.testing.assert_array_equal(intensities(SMALL, events, grid), intensities(SMALL, events, np.tile(grid, (4, 1))))


def test_likelihood_scales_with_the_unit_of_time() -> None:
    events = simulate(SMALL, 5, 5.0)
    slow = HawkesProcess(SMALL.base / 7, SMALL.adjacency, SMALL.decay / 7)
    one, other = log_likelihood(SMALL, events), log_likelihood(slow, events.rescaled(7.0))
    np.testing.assert_allclose(other.time, one.time - np.log(7), atol=1e-12)
    np.testing.assert_allclose(other.mark, one.mark, atol=1e-12)
    np.testing.assert_allclose(other.window, one.window, atol=1e-12)


def test_impossible_event_has_likelihood_zero() -> None:
    process = HawkesProcess([1.0, 0.0], np.zeros((2, 2)), np.ones((2, 2)))
    found = log_likelihood(process, Events.of([[0.5]], [[1]], start=0.0))
    assert found.time[0] == -0.5
    assert found.mark[0] == -np.inf


@pytest.mark.parametrize(
    ("process", "n", "end"),
    [(SMALL, 2000, 10.0), (hawkes_large(), 500, LARGE_END), (hawkes_random(), 50, RANDOM_END)],
    ids=["small", "large", "random"],
)
def test_time_rescaling_gives_exponential_residuals(process: HawkesProcess, n: int, end: float) -> None:
    # The ground compensator runs on over sequences laid end to end, so no residual is cut off but the last one.
    events = simulate(process, n, end, seed=3)
    found = log_likelihood(process, events)
    reached = np.cumsum(found.compensator)
    reached += np.concatenate([[0], np.cumsum(found.window)])[events.sequence]  # windows of the sequences before
    residuals = np.diff(reached, prepend=0.0)
    assert len(residuals) > 3000
    assert stats.kstest(residuals, "expon").pvalue > LEVEL
    # independent of one another, too
    assert abs(np.corrcoef(residuals[1:], residuals[:-1])[0, 1]) < stats.norm.isf(LEVEL / 2) / np.sqrt(len(residuals))


def test_marks_have_the_probabilities_of_their_intensities() -> None:
    events = simulate(hawkes_large(), 200, LARGE_END, seed=4)
    rates = intensities(hawkes_large(), events, padded_times(events))  # (N, L, M)
    rates = rates[np.arange(rates.shape[1]) < events.lengths[:, None]]  # (E, M)
    p = rates / rates.sum(1, keepdims=True)
    own = p[np.arange(len(p)), events.mark]
    np.testing.assert_allclose(log_likelihood(hawkes_large(), events).mark, np.log(own), atol=1e-12)
    below = np.cumsum(p, 1)[np.arange(len(p)), events.mark] - own
    uniform = below + own * np.random.default_rng(4).uniform(size=len(p))  # randomised probability integral transform
    assert stats.kstest(uniform, "uniform").pvalue > LEVEL


def padded_times(events: Events) -> np.ndarray:
    found = np.zeros((len(events), events.lengths.max()))
    found[np.arange(found.shape[1]) < events.lengths[:, None]] = events.time
    return found


@pytest.mark.parametrize(
    ("process", "n", "end"),
    [(SMALL, 4000, 10.0), (hawkes_large(), 4000, LARGE_END), (hawkes_random(), 200, RANDOM_END)],
    ids=["small", "large", "random"],
)
def test_counts_have_their_compensator_as_expectation(process: HawkesProcess, n: int, end: float) -> None:
    events = simulate(process, n, end, seed=5)
    excess = counts_of(events) - log_likelihood(process, events).mark_totals  # (N, M), a martingale at its end
    z = excess.mean(0) / (excess.std(0, ddof=1) / np.sqrt(n))
    assert np.abs(z).max() < stats.norm.isf(LEVEL / 2 / z.size)


def counts_of(events: Events) -> np.ndarray:
    marks = len(events.marks)
    return np.bincount(events.sequence * marks + events.mark, minlength=len(events) * marks).reshape(-1, marks)


def expected_counts(process: HawkesProcess, end: float) -> np.ndarray:
    """(M,) from ``dN_i = m_i dt``, ``dX_ij = decay_ij (adjacency_ij m_j - X_ij) dt``, ``m_i = base_i + sum_j X_ij``."""
    marks = process.base.size
    rates = np.kron(np.eye(marks), np.ones(marks))  # (M, M²), X -> m - base
    effect = (process.decay * process.adjacency).ravel()[:, None] * np.tile(np.eye(marks), (marks, 1))  # (M², M)
    size = marks**2
    system = np.zeros((size + marks + 1,) * 2)  # state: X, N, 1
    system[:size, :size] = effect @ rates - np.diag(process.decay.ravel())
    system[:size, -1] = effect @ process.base
    system[size:-1, :size] = rates
    system[size:-1, -1] = process.base
    return linalg.expm(system * end)[size:-1, -1]


@pytest.mark.parametrize("process", [SMALL, hawkes_large()], ids=["small", "large"])
def test_mean_counts_follow_the_linear_differential_equation(process: HawkesProcess) -> None:
    counts = counts_of(simulate(process, 20_000, 10.0, seed=6))
    z = (counts.mean(0) - expected_counts(process, 10.0)) / (counts.std(0, ddof=1) / np.sqrt(len(counts)))
    assert np.abs(z).max() < stats.norm.isf(LEVEL / 2 / z.size)


def test_stationary_rate_is_the_long_run_of_the_differential_equation() -> None:
    for process in (SMALL, hawkes_large()):
        late = expected_counts(process, 401.0) - expected_counts(process, 400.0)
        np.testing.assert_allclose(process.stationary_rate(), late, rtol=1e-8)


def thinned(process: HawkesProcess, end: float, rng: np.random.Generator) -> list[tuple[float, int]]:
    """One sequence by Ogata's thinning: intensities fall between events, so their present sum bounds them."""
    history: list[tuple[float, int]] = []
    t = 0.0
    while True:
        bound = rates_by_hand(process, history, t).sum()
        t += rng.exponential(1 / bound)
        if t >= end:
            return history
        rates = rates_by_hand(process, history, t)
        if rng.uniform() * bound < rates.sum():
            history.append((t, int(rng.choice(rates.size, p=rates / rates.sum()))))


def test_families_and_thinning_draw_from_one_law() -> None:
    rng = np.random.default_rng(7)
    slow = [thinned(SMALL, 4.0, rng) for _ in range(600)]
    fast = sequences_of(simulate(SMALL, 6000, 4.0, seed=8))
    statistics = {
        "events": len,
        "of mark 2": lambda s: sum(k == 2 for _, k in s),
        "last event": lambda s: max((t for t, _ in s), default=-1.0),
        "repeats": lambda s: sum(a[1] == b[1] for a, b in itertools.pairwise(s)),
        "smallest gap": lambda s: min((b[0] - a[0] for a, b in itertools.pairwise(s)), default=9.0),
    }
    for name, of in statistics.items():
        found = stats.ks_2samp([of(s) for s in slow], [of(s) for s in fast]).pvalue
        assert found > LEVEL, name


def test_simulation_repeats_and_has_its_window() -> None:
    one, other, third = (simulate(SMALL, 50, 3.0, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.time, other.time)
    np.testing.assert_array_equal(one.mark, other.mark)
    assert one.time.size != third.time.size or (one.time != third.time).any()
    assert (one.start == 0).all()
    assert (one.end == 3).all()
    assert one.scored.all()
    assert (one.lengths == 0).any()  # quiet sequences stay, as the likelihood of the window needs them


def test_presets() -> None:
    large, random = hawkes_large(), hawkes_random()
    np.testing.assert_allclose(large.adjacency.sum(), 1.35 + 20 * 0.13)
    np.testing.assert_allclose(large.decay.sum(), 21.8 + 20 * 0.5)
    assert random.spectral_radius == pytest.approx(0.99)
    assert hawkes_random(1, seed=0).spectral_radius < 0.99  # one mark: below the cap, left as drawn
    parts = hawkes_splits(large, LARGE_END, seed=1, sizes=(4, 3, 2))
    np.testing.assert_array_equal(
        np.concatenate([parts.train.time, parts.validation.time, parts.test.time]),
        simulate(large, 9, LARGE_END, 1).time,
    )


def test_a_supercritical_process_is_legal_in_a_window_and_has_no_stationary_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = HawkesProcess([1.0], [[1.5]], [[1.0]])
    counts = counts_of(simulate(process, 4000, 3.0, seed=9))
    z = (counts.mean(0) - expected_counts(process, 3.0)) / (counts.std(0, ddof=1) / np.sqrt(len(counts)))
    assert np.abs(z).max() < stats.norm.isf(LEVEL / 2)
    with pytest.raises(TPPError, match="spectral radius of adjacency is 1.5"):
        process.stationary_rate()
    monkeypatch.setattr("accord.tpp.hawkes.simulate._MOST", 10_000)
    for n in (10, 20_000):  # too many descendants, too many immigrants
        with pytest.raises(TPPError, match=r"more than 10,000 events .* \(spectral radius of adjacency: 1.5\)"):
            simulate(process, n, 1000.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [[0.5, 0.1]], [[1.0]]), "do not fit"),
        (([], [], []), "do not fit"),
        (([-1.0], [[0.5]], [[1.0]]), "base holds -1.0; expected finite numbers >= 0"),
        (([1.0], [[np.nan]], [[1.0]]), "adjacency holds nan"),
        (([1.0], [[0.5]], [[0.0]]), "decay holds 0.0; expected finite numbers > 0"),
    ],
)
def test_wrong_parameters_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(TPPError, match=message):
        HawkesProcess(*arguments)


def test_wrong_questions_are_refused() -> None:
    events = Events.of([[1.0], [2.0]], [[0], [2]], start=0.5)
    with pytest.raises(TPPError, match="the process has 5 marks and the events have 3"):
        log_likelihood(hawkes_large(), events)
    with pytest.raises(TPPError, match=r"shape \(3, 1\); expected \(G,\) or \(2, G\)"):
        intensities(SMALL, events, np.ones((3, 1)))
    for wrong in (0.4, np.nan):
        with pytest.raises(TPPError, match="before the origin"):
            intensities(SMALL, events, [wrong])
    for n, end in ((0, 1.0), (1, 0.0), (1, np.inf), (1, np.nan)):
        with pytest.raises(TPPError, match="at least one sequence and a finite window"):
            simulate(SMALL, n, end)
