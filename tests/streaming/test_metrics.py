"""Prequential metrics against NumPy in float64, over any division of the stream into chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from jaxdescent.streaming import counts, metrics

S = jd.streaming
PADDED = 8


def outcomes(predictions, labels, losses):
    """Returns the outcomes as chunks of `PADDED` rows need them: padded with other values."""
    count = len(losses)

    def pad(x):
        return jnp.asarray(np.concatenate([x, np.ones((PADDED - count, *x.shape[1:]), x.dtype)]))

    return S.Outcomes(pad(predictions), pad(labels), pad(losses), jnp.int32(count))


def fed(metric, predictions, labels, losses, lengths):
    """Returns the metric's state after chunks of these lengths, repeated."""
    state, start, turn = metric.init(), 0, 0
    while start < len(losses):
        part = slice(start, start + lengths[turn % len(lengths)])
        state = metric.update(state, outcomes(predictions[part], labels[part], losses[part]))
        start, turn = part.stop, turn + 1
    return state


def expected(terms, window, fading):
    """Returns sums and number over terms f64[n, columns]."""
    n = len(terms)
    weights = np.ones(n)
    if window is not None:
        weights[: max(n - window, 0)] = 0
    if fading is not None:
        finite = np.isfinite(terms).all(1)
        later = finite[::-1].cumsum()[::-1] - finite  # finite terms after each
        weights = fading**later
    weights = np.where(np.isfinite(terms).all(1), weights, 0)
    return weights @ np.nan_to_num(terms, posinf=0, neginf=0), weights.sum()


MODES = st.sampled_from([{}, {"window": 1}, {"window": 7}, {"fading": 0.9}])
LENGTHS = st.lists(st.integers(1, PADDED), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([-2.0, 0.0, 1.5, np.nan]), st.integers(0, 1)), max_size=30
    ),
    mode=MODES,
    lengths=LENGTHS,
)
def test_accuracy_and_f1_are_those_of_numpy(rows, mode, lengths):
    predictions = np.array([p for p, _ in rows], np.float32)
    labels = np.array([y for _, y in rows], np.int32)
    losses = np.zeros(len(rows), np.float32)
    classes = np.where(np.isnan(predictions), -1, predictions > 0)
    mode = {"window": None, "fading": None} | mode
    hits = (classes == labels)[:, None].astype(float)
    found = S.accuracy(**mode)
    value = float(found.value(fed(found, predictions, labels, losses, lengths)))
    sums, number = expected(hits, **mode)
    np.testing.assert_allclose(value, sums[0] / number if len(rows) else np.nan, rtol=2e-6)
    kinds = [(classes == 1) & (labels == 1), (classes == 1) & (labels != 1)]
    kinds.append((classes != 1) & (labels == 1))
    sums, number = expected(np.stack(kinds, 1).astype(float), **mode)
    found = S.f1(**mode)
    value = float(found.value(fed(found, predictions, labels, losses, lengths)))
    score = 2 * sums[0] / (2 * sums[0] + sums[1] + sums[2]) if sums.sum() else 0.0
    np.testing.assert_allclose(value, score if len(rows) else np.nan, rtol=2e-6)


@settings(max_examples=25, deadline=None)
@given(
    losses=st.lists(
        st.floats(-1e3, 1e3, width=32) | st.sampled_from([np.nan, np.inf]), max_size=30
    ),
    mode=MODES,
    lengths=LENGTHS,
)
def test_the_mean_loss_is_that_of_numpy_without_losses_that_are_not_finite(losses, mode, lengths):
    losses = np.array(losses, np.float32)
    mode = {"window": None, "fading": None} | mode
    found = S.mean_loss(**mode)
    state = fed(found, losses, losses, losses, lengths)
    sums, number = expected(losses[:, None].astype(float), **mode)
    value = sums[0] / number if number else np.nan
    np.testing.assert_allclose(float(found.value(state)), value, rtol=1e-5, atol=1e-4)
    other = fed(found, losses, losses, losses, [3])
    jax.tree.map(np.testing.assert_array_equal, state, other)  # to the bit at any chunk length


def test_logits_of_many_classes_predict_the_largest():
    logits = np.array([[0.1, 0.2, 0.3], [0.5, 0.2, 0.3], [np.nan, 0.0, 1.0]], np.float32)
    labels = np.array([2, 1, 2], np.int32)
    metric = S.accuracy()
    state = metric.update(metric.init(), outcomes(logits, labels, np.zeros(3, np.float32)))
    assert [int(state.events[0]), int(state.examples)] == [1, 3]


def test_running_totals_are_exact_beyond_the_integers_of_float32():
    many = counts.Count(jnp.uint32(3), jnp.uint32(2**32 - 2))
    before = int(many)
    metric = S.accuracy()
    state = metrics.RunningCounts(many, (many,))
    ones = np.ones(4, np.float32)
    state = metric.update(state, outcomes(ones, ones.astype(np.int32), ones))
    assert int(state.examples) == int(state.events[0]) == before + 4
    loss = S.mean_loss()
    state = loss.init()._replace(sums=jnp.array([2.0**24]))
    for _ in range(4):  # each 0.25 would be lost
        state = loss.update(state, outcomes(ones, ones, 0.25 * ones))
    assert float(state.sums[0]) + float(state.errors[0]) == 2**24 + 4


@pytest.mark.parametrize("factory", [S.accuracy, S.mean_loss, S.f1])
def test_wrong_arguments_are_refused(factory):
    with pytest.raises(ValueError, match="window must be an integer at least 1, got 0"):
        factory(window=0)
    with pytest.raises(ValueError, match=r"fading must be in \(0, 1\), got 1.0"):
        factory(fading=1.0)
    with pytest.raises(ValueError, match="window must be None with a fading factor"):
        factory(window=3, fading=0.9)


def test_a_vector_of_one_logit_is_a_logit():
    metric = jd.streaming.accuracy()
    logits = jnp.array([[2.0], [-1.0], [3.0]])
    outcomes = jd.streaming.Outcomes(logits, jnp.array([1, 0, 0]), jnp.zeros(3), jnp.int32(3))
    value = metric.value(metric.update(metric.init(), outcomes))
    assert float(value) == pytest.approx(2 / 3)
