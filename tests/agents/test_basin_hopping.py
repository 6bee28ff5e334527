"""Agents that hop descend, jump away from their best point, and start afresh there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def path(tx, value_fn, x, steps):
    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(value_fn)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return (x + updates, state), x

    (_, state), xs = jax.jit(lambda: jax.lax.scan(step, (x, tx.init(x)), length=steps))()
    return np.asarray(xs), state


def bowl(x):
    return jnp.sum(x**2)


def test_between_jumps_it_is_the_optimizer_started_afresh():
    falling = optax.sgd(lambda count: 0.1 / (1 + count))
    xs, _ = path(jd.basin_hopping(falling, period=4, jump=0.5), bowl, jnp.array([3.0]), 12)
    for start in (0, 4, 8):
        alone, _ = path(falling_with_value(falling), bowl, jnp.asarray(xs[start]), 4)
        np.testing.assert_allclose(xs[start : start + 4], alone, rtol=1e-6)


def falling_with_value(tx):
    return optax.with_extra_args_support(tx)


def test_it_jumps_from_the_best_point_and_not_from_the_last():
    away = optax.sgd(-0.25)  # climbs: the best point of all is the start
    xs, state = path(jd.basin_hopping(away, period=5, jump=1e-3), bowl, jnp.array([2.0]), 20)
    landed = xs[5::5]
    np.testing.assert_allclose(landed, 2.0, atol=0.02)
    assert len(np.unique(landed)) == 3
    np.testing.assert_array_equal(state.best_params, xs[np.argmin(np.abs(xs))])
    assert state.best_value == np.min(xs**2)


def test_jumps_have_the_standard_deviation_asked_for():
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


def test_random_numbers_of_the_optimizer_go_on_over_a_jump():
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
    # Steps 0 and 2 are noise, from the same place; steps 1 and 3 jump back there.
    np.testing.assert_allclose(path[1::2], 2.0, atol=1e-5)
    assert len(np.unique(path[::2])) == 6


@pytest.mark.parametrize("key", [0, jax.random.PRNGKey(0), jax.random.split(jax.random.key(0))])
def test_a_key_that_agents_cannot_make_their_own_is_refused(key):
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
def test_any_precision_goes_under_strict_promotion(dtype):
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion("strict"):
        tx = jd.basin_hopping(optax.sgd(0.1), period=1, jump=0.5)
        x = jnp.ones(2, dtype)
        updates, state = tx.update(x, tx.init(x), x, value=jnp.sum(x))
    assert updates.dtype == dtype
    assert state.best_value.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)


def test_it_cannot_do_without_the_value():
    tx = jd.basin_hopping(optax.sgd(0.1), period=2, jump=1.0)
    x = jnp.ones(2)
    with pytest.raises(ValueError, match="params and value"):
        tx.update(x, tx.init(x), x)


def test_one_of_several_is_that_one():
    several = [optax.sgd(0.1), optax.adam(0.01), optax.sgd(0.1, momentum=0.9)]
    for index, alone in enumerate(several):
        chosen, _ = path(
            jd.select_optimizer(several, jnp.asarray(index)), bowl, jnp.array([3.0, -1.0]), 5
        )
        expected, _ = path(falling_with_value(alone), bowl, jnp.array([3.0, -1.0]), 5)
        np.testing.assert_allclose(chosen, expected, rtol=1e-6)


def test_groups_of_a_population_have_their_own_optimizers():
    several = lambda index: jd.select_optimizer([optax.sgd(0.1), optax.sgd(0.2)], index)
    groups = {"index": jnp.array([0, 1, 1, 0])}
    result = jd.minimize(
        bowl,
        several,
        init_params=jnp.ones((4, 1)),
        hyperparams=groups,
        steps=1,
        steps_per_rung=1,
        rule=jd.pruning.no_pruning(),
    )
    np.testing.assert_allclose(result.population.params[:, 0], [0.8, 0.6, 0.6, 0.8], rtol=1e-6)


def test_an_index_out_of_range_and_no_optimizers_are_named():
    with pytest.raises(ValueError, match=r"index must be a number in \[0, 1\], got 2"):
        jd.select_optimizer([optax.sgd(0.1), optax.sgd(0.2)], 2)
    with pytest.raises(ValueError, match=r"index must be an integer in \[0, 1\], got 0.5"):
        jd.select_optimizer([optax.sgd(0.1), optax.sgd(0.2)], 0.5)
    with pytest.raises(ValueError, match="optimizers must be at least one"):
        jd.select_optimizer([], 0)
