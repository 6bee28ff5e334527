"""Dropout keeps the mean, drops at its rate and shares draws along given axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models.dropout import Dropout, split


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_numbers_are_zero_at_the_rate_and_scaled_otherwise(rate):
    y = np.asarray(Dropout(rate)(jnp.ones(20_000), jax.random.key(0)))
    # Four standard deviations of a binomial fraction.
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / y.size)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_a_draw_is_shared_along_broadcast_dims():
    y = np.asarray(Dropout(0.5, broadcast_dims=(-2,))(jnp.ones((4, 6, 8)), jax.random.key(0)))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert len({tuple(row) for row in y[:, 0]}) > 1


def test_a_rate_of_zero_needs_no_key():
    layer = Dropout(0.0)
    assert not layer.active
    np.testing.assert_array_equal(layer(jnp.ones(3), None), np.ones(3))


def test_train_and_eval_switch_dropout():
    layer = Dropout(0.5)
    assert layer.active
    layer.eval()
    assert not layer.active
    layer.train()
    assert layer.active


def test_a_key_is_split_into_different_keys_and_none_into_nones():
    keys = split(jax.random.key(0), 3)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3
    assert split(None, 3) == [None] * 3
