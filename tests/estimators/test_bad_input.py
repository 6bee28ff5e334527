"""Errors name the argument, the value and the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescent import estimators
from tests.estimators.registry import ESTIMATORS, SAMPLED

MAKERS = ("smoothed", "spsa", "evolution_strategies", "guided_es", "low_rank_es")
every_maker = pytest.mark.parametrize("make", [getattr(estimators, name) for name in MAKERS])
every_sampled_estimator = pytest.mark.parametrize("name", SAMPLED)
KEY = jax.random.key(0)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan"), [0.1, 0.2]])
@every_maker
def test_sigma_is_one_positive_number(make, sigma):
    with pytest.raises(ValueError, match=r"sigma must be a number in \(0, inf\), got"):
        make(sigma)
    with pytest.raises(ValueError, match=r"sigma must be a number in \(0, inf\), got"):
        make().estimate(jnp.sum, jnp.ones(2), key=KEY, sigma=sigma)


@every_maker
def test_sigma_is_a_number(make):
    with pytest.raises(TypeError, match="sigma must be a real number or an array of them, got"):
        make("wide")


@pytest.mark.parametrize("num_samples", [0, -2, 2.0, True, None])
@every_maker
def test_the_number_of_samples_is_a_positive_integer(make, num_samples):
    with pytest.raises(ValueError, match="num_samples must be an integer at least 2, got"):
        make(0.1, num_samples)


@every_maker
def test_the_number_of_samples_is_even(make):
    with pytest.raises(ValueError, match="num_samples must be an even integer, got 7; samples are"):
        make(0.1, 7)


def test_use_gradients_is_a_bool():
    with pytest.raises(ValueError, match="use_gradients must be True or False, got 'yes'"):
        estimators.smoothed(use_gradients="yes")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"alpha": 1.5}, r"alpha must be a number in \[0, 1\], got 1.5"),
        ({"alpha": -0.1}, r"alpha must be a number in \[0, 1\], got -0.1"),
        ({"beta": 0.0}, r"beta must be a number in \(0, inf\), got 0.0"),
    ],
)
def test_numbers_of_guided_es_are_in_their_ranges(argument, message):
    with pytest.raises(ValueError, match=message):
        estimators.guided_es(**argument)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"rank": 0}, "rank must be an integer at least 1, got 0"),
        ({"rank": 1.5}, "rank must be an integer at least 1, got 1.5"),
        ({"use_ranks": 1}, "use_ranks must be True or False, got 1"),
        ({"chunk_size": 0}, "chunk_size must be an integer at least 2, got 0"),
        ({"chunk_size": 5}, "chunk_size must be an even integer, got 5; samples are antithetic"),
    ],
)
def test_settings_of_low_rank_es_are_in_their_ranges(argument, message):
    with pytest.raises(ValueError, match=message):
        estimators.low_rank_es(**argument)


def test_the_surrogate_is_a_function():
    with pytest.raises(TypeError, match="surrogate must be a function or None, got 3"):
        estimators.guided_es(surrogate=3)


@pytest.mark.parametrize("subspace", [jnp.ones(3), jnp.ones((2, 4)), jnp.ones(()), (), {"w": 1.0}])
def test_directions_have_the_shapes_of_the_parameters(subspace):
    with pytest.raises(ValueError, match="subspace must"):
        estimators.guided_es().estimate(jnp.sum, jnp.ones(3), key=KEY, subspace=subspace)


@every_sampled_estimator
@pytest.mark.parametrize(
    ("function", "params", "error", "message"),
    [
        (jnp.sum, jnp.arange(3), ValueError, "params must have real floating-point leaves, got"),
        (jnp.sum, {"w": "weights"}, TypeError, "params must be a tree of arrays, got 'weights'"),
        (jnp.sum, {}, ValueError, r"params must hold at least one array, got \{\}"),
        (jnp.sin, jnp.ones(3), ValueError, "function must return a real scalar, got float32"),
        (lambda x: 3, jnp.ones(3), ValueError, "function must return a real scalar, got 3"),
    ],
)
def test_functions_and_parameters_are_checked(name, function, params, error, message):
    estimator = ESTIMATORS[name].make(0.1, 2)
    with pytest.raises(error, match=message):
        estimator.estimate(function, params, key=KEY)


@every_sampled_estimator
def test_the_scale_has_the_shapes_of_the_parameters(name):
    with pytest.raises(ValueError, match="scale must have the shapes of the parameters, got"):
        ESTIMATORS[name].make(0.1, 2).estimate(jnp.sum, jnp.ones(3), key=KEY, scale=jnp.ones(2))


def test_a_function_in_place_of_its_name_is_refused():
    with pytest.raises(TypeError, match="function must be callable, got 3"):
        estimators.exact().value_and_grad(3)


def test_numpy_functions_are_refused_with_the_remedy():
    def function(x):
        return jnp.asarray(np.sum(np.asarray(x)))

    grad_fn = jax.jit(estimators.smoothed().value_and_grad(function))
    with pytest.raises(TypeError, match=r"function must compute with jax\.numpy"):
        grad_fn(jnp.ones(3), key=KEY)
