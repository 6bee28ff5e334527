"""The polynomial-weighted average of an optimizer's path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

X = jnp.array([0.5, -1.0, 2.0])


def path_of(tx, x, steps):
    """Returns the parameters before each step on a quadratic loss, and the last state."""
    state, path = tx.init(x), []
    update = jax.jit(tx.update)
    for _ in range(steps):
        path.append(x)
        updates, state = update(2 * (x - 1), state, x)
        x = optax.apply_updates(x, updates)
    return np.stack(path), state


@pytest.mark.parametrize("burn_in", [0, 4])
@pytest.mark.parametrize("power", [0, 1, 5])
def test_the_average_has_polynomial_weights(power, burn_in):
    tx = jd.with_average(optax.sgd(0.05), power=power, burn_in=burn_in)
    path, state = path_of(tx, X, 12)
    rows = path[burn_in:]
    weights = [np.prod(k + np.arange(power, dtype=float)) for k in range(1, len(rows) + 1)]
    expected = np.average(rows, axis=0, weights=weights)
    np.testing.assert_allclose(jd.averaged_params(state, X), expected, rtol=1e-5)


def test_during_the_burn_in_the_average_is_equal_to_the_initial_parameters():
    _, state = path_of(jd.with_average(optax.sgd(0.05), burn_in=4), X, 4)
    np.testing.assert_array_equal(jd.averaged_params(state, X), X)


@pytest.mark.parametrize(("power", "burn_in"), [(0, 1), (5, 6)])
def test_no_nan_is_computed_during_the_burn_in(power, burn_in):
    tx = jd.with_average(optax.sgd(0.05), power=power, burn_in=burn_in)
    state = tx.init(X)
    with jax.debug_nans(True):
        for _ in range(burn_in + 1):
            _, state = tx.update(X, state, X)


def test_parameters_may_be_python_numbers():
    tx = jd.with_average(optax.sgd(0.1))
    _, state = tx.update(1.0, tx.init(2.0), 2.0)
    assert float(jd.averaged_params(state, 2.0)) == 2.0


def test_the_updates_do_not_change():
    plain, _ = path_of(optax.adam(0.1), X, 5)
    averaged, _ = path_of(jd.with_average(optax.adam(0.1)), X, 5)
    np.testing.assert_allclose(plain, averaged, rtol=1e-6)


def test_extra_arguments_reach_the_transformation():
    def update(updates, state, params=None, *, scale):
        return scale * updates, state

    tx = jd.with_average(optax.GradientTransformationExtraArgs(lambda _: (), update))
    updates, _ = tx.update(X, tx.init(X), X, scale=3.0)
    np.testing.assert_array_equal(updates, 3 * X)


def test_the_average_of_narrow_parameters_is_kept_in_float32():
    x = X.astype(jnp.bfloat16)
    state = jd.with_average(optax.sgd(0.1)).init(x)
    assert state.average.dtype == jnp.float32
    assert jd.averaged_params(state, x).dtype == jnp.bfloat16


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="tx must be an optax gradient transformation"):
        jd.with_average(optax.adam)
    with pytest.raises(ValueError, match=r"power must be a number in \[0, inf\), got -1"):
        jd.with_average(optax.sgd(0.1), power=-1)
    with pytest.raises(
        ValueError, match=r"burn_in must be an integer in \[0, 2147483647\], got 1\.5"
    ):
        jd.with_average(optax.sgd(0.1), burn_in=1.5)
    tx = jd.with_average(optax.sgd(0.1))
    with pytest.raises(ValueError, match="needs params"):
        tx.update(X, tx.init(X))
    twice = jd.with_average(optax.sgd(0.1)).init(X), tx.init(X)
    with pytest.raises(
        ValueError, match=r"must hold one state of jd\.with_average.*got 2 of them$"
    ):
        jd.averaged_params(twice, X)
    tower = jd.hypergradient(optax.sgd, optax.adam(0.05), tune={"learning_rate": 0.1})
    with pytest.raises(
        ValueError, match=r"got 0 of them; .* wrap the optimizer in jd.with_average"
    ):
        jd.averaged_params(tower.init(X), X)
