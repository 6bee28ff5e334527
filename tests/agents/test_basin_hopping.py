"""Tests of `basin_hopping`: agents descend, jump from their best point, and restart there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.agents.paths import bowl, path, with_extra_args


def test_between_jumps_it_is_the_restarted_optimizer():
    decaying = optax.sgd(lambda count: 0.1 / (1 + count))
    xs, _ = path(jd.basin_hopping(decaying, period=4, jump=0.5), bowl, jnp.array([3.0]), 12)
    for start in (0, 4, 8):
        alone, _ = path(with_extra_args(decaying), bowl, jnp.asarray(xs[start]), 4)
        np.testing.assert_allclose(xs[start : start + 4], alone, rtol=1e-6)


def test_it_jumps_from_the_best_point_and_not_from_the_last_point():
    ascent = optax.sgd(-0.25)  # so that the start is the best point
    xs, state = path(jd.basin_hopping(ascent, period=5, jump=1e-3), bowl, jnp.array([2.0]), 20)
    landed = xs[5::5]
    np.testing.assert_allclose(landed, 2.0, atol=0.02)
    assert len(np.unique(landed)) == 3
    np.testing.assert_array_equal(state.best_params, xs[np.argmin(np.abs(xs))])
    assert state.best_value == np.min(xs**2)


def test_jumps_have_the_given_standard_deviation():
    xs, _ = path(
        jd.basin_hopping(optax.sgd(0.0), period=1, jump=0.3),
        lambda x: 0.0 * x.sum(),
        jnp.zeros(500),
        21,
    )
    np.testing.assert_allclose(np.std(xs[1:]), 0.3, rtol=0.03)


def test_agents_of_a_population_jump_differently():
    tx = jd.basin_hopping(optax.sgd(0.1), period=2, jump=1.0)
    result = jd.minimize(bowl, tx, init_params=jnp.ones((8, 2)), steps=2, steps_per_rung=2)
    assert len(np.unique(np.asarray(result.population.params))) == 16


def test_random_numbers_of_the_optimizer_continue_after_a_jump():
    noisy = optax.add_noise(1.0, 0.0, key=0)
    tx = jd.basin_hopping(noisy, period=2, jump=1e-6)
    starts = jnp.full((3, 1), 2.0)
    result = jd.minimize(
        lambda x: 0.0 * x.sum(),
        tx,
        init_params=starts,
        steps=4,
        steps_per_rung=1,
        record_params=True,
        rule=jd.pruning.no_pruning(),
    )
    path = np.asarray(result.history.params)[:, :, 0]
    # Steps 0 and 2 add noise to the same point; steps 1 and 3 jump back to it.
    np.testing.assert_allclose(path[1::2], 2.0, atol=1e-5)
    assert len(np.unique(path[::2])) == 6


def test_raw_keys_of_the_inner_optimizer_continue_after_a_jump():
    inner = optax.GradientTransformation(
        lambda _: {"rng": jax.random.PRNGKey(0)},
        lambda updates, state, params=None: (
            updates,
            {"rng": jax.random.split(state["rng"])[0]},
        ),
    )
    tx = jd.basin_hopping(inner, period=1, jump=1.0)
    x = jnp.ones(2)
    state, seen = tx.init(x), set()
    for _ in range(3):
        _, state = tx.update(x, state, x, value=jnp.sum(x))
        seen.add(tuple(state.inner_state["rng"].tolist()))
    assert len(seen) == 3


@pytest.mark.parametrize("key", [0, jax.random.PRNGKey(0), jax.random.split(jax.random.key(0))])
def test_the_key_must_be_one_typed_random_key(key):
    with pytest.raises(TypeError, match="key must be one typed random key"):
        jd.basin_hopping(optax.sgd(0.1), period=2, jump=1.0, key=key)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 0, "jump": 1.0}, "period must be a number in \\[1, inf\\], got 0"),
        ({"period": 2, "jump": 0.0}, "jump must be a number in \\(0, inf\\), got 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        jd.basin_hopping(optax.sgd(0.1), **options)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_it_runs_in_any_precision_under_strict_promotion(dtype):
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion("strict"):
        tx = jd.basin_hopping(optax.sgd(0.1), period=1, jump=0.5)
        x = jnp.ones(2, dtype)
        updates, state = tx.update(x, tx.init(x), x, value=jnp.sum(x))
    assert updates.dtype == dtype
    assert state.best_value.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)


def test_the_value_is_required():
    tx = jd.basin_hopping(optax.sgd(0.1), period=2, jump=1.0)
    x = jnp.ones(2)
    with pytest.raises(ValueError, match="needs value="):
        tx.update(x, tx.init(x), x)
