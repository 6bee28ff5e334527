"""ADWIN's alarms and windows are river's."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from river import drift

from jaxdescent.streaming import adwin
from tests.streaming.detectors.streams import alarms, documented, drawn, river_alarms

STREAMS = np.stack([drawn(seed) for seed in range(100)])


@pytest.fixture(scope="module")
def peers():
    """River's detectors after the streams, and their alarms."""
    detectors = [drift.ADWIN() for _ in STREAMS]
    return detectors, [
        river_alarms(detector, values)[0]
        for detector, values in zip(detectors, STREAMS, strict=True)
    ]


def scanned(detector, streams):
    """Returns the states and the detections of many streams."""
    scan = jax.jit(jax.vmap(lambda values: detector.scan(detector.init(), values)))
    return scan(jnp.asarray(streams))


@pytest.mark.parametrize("x64", [False, True])
def test_indices_and_widths_are_rivers_on_100_drawn_streams(peers, x64):
    detectors, expected = peers
    with jax.enable_x64(x64):
        states, found = scanned(adwin(), STREAMS)
        widths, means, variances = states.width, states.mean, states.variance
    assert [np.flatnonzero(row).tolist() for row in found.drift] == expected
    assert sum(map(len, expected)) > 150
    assert widths.tolist() == [peer.width for peer in detectors]
    rtol = 1e-9 if x64 else 1e-6
    np.testing.assert_allclose(means, [peer.estimation for peer in detectors], rtol=rtol)
    np.testing.assert_allclose(variances, [p.variance / p.width for p in detectors], rtol=rtol)


def test_widths_are_rivers_after_each_value():
    values = STREAMS[4]
    detector, peer = adwin(), drift.ADWIN()

    def step(state, value):
        state, _ = detector.update(state, value)
        return state, (state.width, state.mean)

    widths, means = jax.jit(lambda x: jax.lax.scan(step, detector.init(), x)[1])(values)
    expected = []
    for value in values:
        peer.update(float(value))
        expected.append((peer.width, peer.estimation))
    assert widths.tolist() == [width for width, _ in expected]
    assert np.any(np.diff(widths) < 0)
    np.testing.assert_allclose(means, [mean for _, mean in expected], rtol=1e-6, atol=1e-7)


def test_rivers_own_constants():
    _, found = scanned(adwin(), documented()[None])
    assert np.flatnonzero(found.drift).tolist() == [1023]
    rng = random.Random(42)  # noqa: S311  river's stream
    segments = [rng.choices(range(*bounds), k=1000) for bounds in [(2,), (4, 8)] * 2]
    _, found = scanned(adwin(), np.concatenate(segments).astype(np.float32)[None])
    assert np.flatnonzero(found.drift).tolist() == [1023, 2015, 3007]


@pytest.mark.parametrize(
    "options",
    [
        {"delta": 0.2, "clock": 1, "max_buckets": 2, "min_window_length": 1, "grace_period": 0},
        {"clock": 20, "max_buckets": 4, "min_window_length": 17},
        {"clock": 64, "max_buckets": 7, "grace_period": 300},
    ],
    ids=str,
)
def test_other_options_give_rivers_alarms_and_widths(options):
    streams = STREAMS[:6, :1000]
    states, found = scanned(adwin(**options), streams)
    for row, width, values in zip(found.drift, states.width, streams, strict=True):
        peer = drift.ADWIN(**options)
        assert (np.flatnonzero(row).tolist(), width) == (river_alarms(peer, values)[0], peer.width)


def test_a_small_change_far_from_zero_is_found_in_float32_when_river_finds_it():
    """The values have steps of 2**-7, the spacing of float32 at the offset of 2**16."""
    values = np.random.default_rng(0).normal(size=2**16)
    values[2**15 :] += 0.05
    values = (np.round(values * 128) / 128 + 2**16).astype(np.float32)
    detector = adwin(max_width=2**16)
    _, found = jax.jit(detector.scan)(detector.init(), values)
    expected = river_alarms(drift.ADWIN(), values)
    assert alarms(found) == expected
    assert expected[0][0] > 2**15


def test_the_moments_of_a_long_window_are_exact_in_float32():
    values = np.random.default_rng(0).normal(1000, 1, 2**17).astype(np.float32)
    detector = adwin(max_width=2**17)
    state, found = jax.jit(detector.scan)(detector.init(), values)
    assert int(state.width) == 2**17
    assert alarms(found) == ([], [])
    wide = values.astype(np.float64)
    np.testing.assert_allclose(state.mean, wide.mean(), rtol=1e-7)
    np.testing.assert_allclose(state.variance, wide.var(), rtol=2e-6)


def test_a_window_longer_than_the_memory_loses_its_oldest_values():
    detector = adwin(1e-9, clock=2, max_buckets=2, max_width=30)
    values = np.tile(np.array([0.0, 1.0, 2.0, 3.0], np.float32), 200)

    def step(state, value):
        state, found = detector.update(state, value)
        return state, (state.width, state.mean, state.variance, found.drift)

    run = jax.jit(lambda x: jax.lax.scan(step, detector.init(), x))
    state, (widths, means, variances, found) = run(values)
    assert int(state.inserted) < 128  # so that it never overflows
    assert not np.any(found)
    assert np.all(widths[30:] >= 30)
    assert np.all(widths < 64)
    assert np.any(np.diff(widths) < 0)
    for i, (width, mean, variance) in enumerate(zip(widths, means, variances, strict=True)):
        window = values[i + 1 - width : i + 1].astype(np.float64)
        np.testing.assert_allclose((mean, variance), (window.mean(), window.var()), atol=1e-5)


def test_many_values_of_delta_in_one_program():
    deltas, values = jnp.array([1e-8, 0.002, 0.3]), STREAMS[4, :1000]

    def widths(delta):
        detector = adwin(delta)
        state, found = detector.scan(detector.init(), jnp.asarray(values))
        return found.drift, state.width

    drifts, found = jax.jit(jax.vmap(widths))(deltas)
    for row, width, delta in zip(drifts, found, deltas, strict=True):
        peer = drift.ADWIN(delta=float(delta))
        assert (np.flatnonzero(row).tolist(), width) == (river_alarms(peer, values)[0], peer.width)
