"""Laws of all detectors of the registry."""

import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxdescent import streaming
from tests.streaming.detectors.registry import DETECTORS, errors

every_detector = pytest.mark.parametrize("name", DETECTORS)
seeds = st.integers(0, 999)
settings = hypothesis.settings(max_examples=15, deadline=None)


@functools.cache
def detector(name):
    return DETECTORS[name].make()


@functools.cache
def program(name, by_update=False, lanes=False):
    """Returns a compiled function of a state and values to the last state and the detections."""
    made = detector(name)
    scan = functools.partial(jax.lax.scan, made.update) if by_update else made.scan
    return jax.jit(jax.vmap(scan) if lanes else scan)


def watch(name, values, state=None, **kind):
    state = detector(name).init() if state is None else state
    return program(name, **kind)(state, values)


def numbers(state):
    """Returns a state with the data of random keys in their place."""

    def data(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(data, state)


def drifts(found):
    return np.flatnonzero(found.drift).tolist()


@every_detector
def test_a_rise_of_the_rate_is_detected_after_it_happens(name):
    _, found = watch(name, errors(3))
    assert drifts(found)
    assert 192 <= drifts(found)[0] < 300


@settings
@hypothesis.given(seed=seeds)
@every_detector
def test_scan_equals_updates_to_the_bit_in_any_chunks(name, seed):
    values = errors(seed)
    whole = watch(name, values)
    chex.assert_trees_all_equal(watch(name, values, by_update=True), whole)
    state, parts = detector(name).init(), []
    for part in np.split(values, [50, 100, 150, 200, 250, 300, 350]):
        leaves, structure = jax.tree.flatten(state)
        state, found = watch(name, part, structure.unflatten(leaves))
        parts.append(found)
    together = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    chex.assert_trees_all_equal((state, together), whole)


@every_detector
def test_lanes_equal_single_streams_also_where_values_are_ignored_in_one_of_them(name):
    streams = np.stack([errors(seed) for seed in range(3)])
    streams[1, 5:70:3] = np.nan
    start = detector(name).init()
    starts = jax.tree.map(lambda x: jnp.stack([x] * 3), start)
    states, found = watch(name, streams, starts, lanes=True)
    for i in range(3):
        state, alone = watch(name, streams[i])
        chex.assert_trees_all_equal(jax.tree.map(lambda x, i=i: x[i], found), alone)
        lane = jax.tree.map(lambda x, i=i: x[i], states)
        chex.assert_trees_all_close(numbers(lane), numbers(state), rtol=1e-6)


@every_detector
def test_a_jitted_update_equals_an_eager_one(name):
    values = errors(0)[:3]
    state, found = watch(name, values)
    eager = detector(name).init()
    for value in values:
        eager, each = detector(name).update(eager, value)
    chex.assert_trees_all_equal(eager, state)
    assert (bool(each.drift), bool(each.warning)) == (
        bool(found.drift[-1]),
        bool(found.warning[-1]),
    )


@settings
@hypothesis.given(seed=seeds, where=st.sets(st.integers(0, 383), min_size=1, max_size=60))
@every_detector
def test_unusable_values_are_ignored_and_counted(name, seed, where):
    values, where = errors(seed), sorted(where)
    clean = np.delete(values, where)
    filled = np.pad(clean, (0, len(where)), constant_values=np.nan)  # of the same length
    values[where] = np.resize([np.nan, np.inf, -np.inf, 1e30], len(where))
    state, found = watch(name, values)
    expected, alarms = watch(name, filled)
    chex.assert_trees_all_equal(state, expected)
    assert int(state.ignored) == len(where)
    np.testing.assert_array_equal(np.delete(found.drift, where), alarms.drift[: len(clean)])
    assert not np.any(np.asarray(found.drift)[where])


@every_detector
def test_half_precision_and_float64_have_the_same_drifts(name):
    values = errors(3)
    expected = drifts(watch(name, values)[1])
    assert drifts(watch(name, jnp.asarray(values, jnp.bfloat16))[1]) == expected
    with jax.enable_x64(True):
        wide = DETECTORS[name].make()
        state, found = jax.jit(wide.scan)(wide.init(), values.astype(np.float64))
        assert {x.dtype for x in jax.tree.leaves(state)} >= {np.dtype("float64")}
        assert drifts(found) == expected


@settings
@hypothesis.given(value=st.sampled_from([0.0, 0.1, 0.3, 1.0]))
@every_detector
def test_a_constant_stream_does_not_drift(name, value):
    state, found = watch(name, np.full(384, value, np.float32))
    assert not drifts(found)
    assert int(state.alarms) == 0


@settings
@hypothesis.given(seed=seeds)
@pytest.mark.parametrize("name", [name for name, row in DETECTORS.items() if row.forgets])
def test_after_an_alarm_a_detector_equals_a_new_one(name, seed):
    values = errors(seed)
    found = drifts(watch(name, values)[1])
    hypothesis.assume(found)
    values[found[-1] + 1 :] = np.nan  # ignored
    state, again = watch(name, values)
    assert len(drifts(again)) == int(state.alarms) == len(found)
    following = errors(seed + 1)
    new, expected = watch(name, following)
    continued, detections = watch(name, following, state)
    chex.assert_trees_all_equal(detections, expected)
    np.testing.assert_allclose(continued.mean, new.mean, rtol=1e-6)


@every_detector
def test_the_state_of_an_update_has_the_structure_and_dtypes_of_the_first(name):
    start = detector(name).init()
    after, found = detector(name).update(start, 1.0)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, start)
    chex.assert_trees_all_equal(detector(name).update(start, True)[0], after)
    assert (found.drift.dtype, found.warning.dtype, found.drift.shape) == (bool, bool, ())


@pytest.mark.parametrize("name", ["adwin", "page_hinkley", "ddm"])
def test_the_state_has_the_mean_of_the_values_since_the_last_alarm(name):
    values = np.linspace(0.2, 0, 100, dtype=np.float32)
    state, _ = watch(name, values)
    np.testing.assert_allclose(state.mean, values.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: streaming.adwin(0.0), "delta must be in (0, 1), got 0.0"),
        (lambda: streaming.adwin(clock=0), "clock must be an integer in [1, 1048576], got 0"),
        (lambda: streaming.adwin(max_width=8), "max_width must be an integer in [128, "),
        (lambda: streaming.page_hinkley(alpha=1.5), "alpha must be in (0, 1], got 1.5"),
        (lambda: streaming.page_hinkley(direction="left"), "direction must be one of"),
        (lambda: streaming.ddm(min_spread=-1.0), "min_spread must be a number in [0, inf), got -1"),
        (lambda: streaming.kswin(sample_size=60), "sample_size must be an integer in [1, 50]"),
        (lambda: streaming.kswin(sample_size=3), "alpha must be at least 0.1 with sample_size=3"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is compared below
        make()
    assert message in str(caught.value)


@every_detector
def test_values_of_another_shape_are_refused(name):
    made = detector(name)
    state = made.init()
    for values in (1.0, jnp.ones((3, 2))):
        with pytest.raises(ValueError, match=r"values must have shape \[n\], got"):
            made.scan(state, values)
    for value, found in ((jnp.ones(3), r"float32\[3\]"), (1j, r"complex64\[\]")):
        with pytest.raises(ValueError, match=f"value must be one real number, got {found}"):
            made.update(state, value)


@every_detector
def test_no_values_change_nothing(name):
    state, found = detector(name).scan(detector(name).init(), [])
    chex.assert_trees_all_equal(numbers(state), numbers(detector(name).init()))
    assert found.drift.shape == found.warning.shape == (0,)


def test_the_registry_has_all_detectors():
    made = {name for name, kind in vars(streaming).items() if name in NAMES and callable(kind)}
    assert made == {name.partition(",")[0] for name in DETECTORS}


NAMES = {"adwin", "page_hinkley", "ddm", "kswin"}
