"""The running standard scaler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd


def scaled(x):
    """Returns each row, scaled by the statistics before it and after it."""
    scaler = jd.streaming.standard_scaler()

    def step(state, row):
        new = scaler.update(state, row)
        return new, (scaler.transform(state, row), scaler.transform(new, row))

    return jax.jit(lambda x: jax.lax.scan(step, scaler.init(x[0]), x))(jnp.asarray(x))


def test_statistics_are_the_mean_and_the_deviation_of_numpy():
    x = np.random.default_rng(0).normal([3, -1e3], [2, 0.5], (200, 2)).astype(np.float32)
    x = np.column_stack([x, np.full(200, 7, np.float32)])  # a constant feature becomes 0
    state, (before, after) = scaled(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(state.mean, wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state.variance, wide.var(0), rtol=1e-4)
    for t in (1, 2, 10, 199):
        for found, rows in ((before, wide[:t]), (after, wide[: t + 1])):
            deviation = rows.std(0)
            wanted = np.where(
                deviation > 0, (wide[t] - rows.mean(0)) / np.maximum(deviation, 1e-9), 0
            )
            np.testing.assert_allclose(found[t], wanted, rtol=2e-3, atol=1e-3)
    assert not before[0].any()
    assert int(state.count) == 200


def test_features_are_scaled_as_by_river():
    preprocessing = pytest.importorskip("river.preprocessing")
    x = np.random.default_rng(1).normal(2, 3, (50, 3)).astype(np.float32)
    theirs = preprocessing.StandardScaler()
    _, (before, after) = scaled(x)
    for row, ours_before, ours_after in zip(x, before, after, strict=True):
        features = dict(enumerate(row.tolist()))
        for ours in (ours_before, ours_after):
            wanted = [*theirs.transform_one(features).values()]
            np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)
            if ours is ours_before:
                theirs.learn_one(features)


def test_a_value_whose_square_overflows_leaves_its_feature_as_it_was():
    scaler = jd.streaming.standard_scaler()
    state = scaler.init(jnp.zeros(2))
    for x in ([1.0, 1.0], [3.0, 3.0], [1e25, 5.0]):
        state = scaler.update(state, jnp.array(x))
    assert state.mean.tolist() == [2.0, 3.0]
    assert state.variance[0] == 1.0
