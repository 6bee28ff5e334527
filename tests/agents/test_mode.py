"""Tests of `mode="max"`: a higher value is better, and is reported with its own sign."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.agents.population import worst_values
from tests.agents.networks import DATA, VALIDATION, loss, starts
from tests.agents.populations import with_values

OPTIONS = {
    "init_params": starts(8),
    "key": jax.random.key(0),
    "batch_size": 11,
    "validation_data": VALIDATION,
}


def score(params, validation_data):
    return 1.0 - loss(params, validation_data)


def score_to_minimize(params, validation_data):
    return -score(params, validation_data)


def fit(value_fn, mode, rule, **options):
    options = {"steps": 20, "steps_per_rung": 4, **OPTIONS, **options}
    return jd.fit(loss, optax.sgd(0.03), DATA, value_fn=value_fn, mode=mode, rule=rule, **options)


@pytest.mark.parametrize(
    "rule",
    [
        jd.pruning.chain(
            jd.pruning.adaptive(by="best"),
            jd.pruning.gap_to_best(2.0),
            jd.pruning.stalled(2, horizon=3.0),
            jd.pruning.predicted_to_lose(5, deviations=0.1),
        ),
        jd.pruning.successive_halving(1.5),
    ],
)
def test_maximizing_a_value_is_minimizing_its_negative_and_the_sign_is_the_users(rule):
    most, least = fit(score, "max", rule), fit(score_to_minimize, "min", rule)
    np.testing.assert_array_equal(most.history.alive, least.history.alive)
    assert most.history.survivors[-1] < 8
    chex.assert_trees_all_equal(most.params, least.params)
    assert most.id == least.id
    for of in (
        lambda result: result.value,
        lambda result: result.history.values,
        lambda result: result.history.best_value,
        lambda result: result.population.values,
        lambda result: result.population.best_values,
        lambda result: result.state.best_value,
    ):
        np.testing.assert_array_equal(of(most), -of(least))
    np.testing.assert_allclose(most.value, score(most.params, VALIDATION), rtol=1e-6)
    assert most.value == np.nanmax(most.history.values)


def test_a_target_is_a_value_from_below_where_a_higher_value_is_better():
    options = {"validation_data": DATA}
    best = fit(score, "max", jd.pruning.no_pruning(), **options).history.best_value
    target = float(best[1] + best[2]) / 2
    found = fit(score, "max", jd.pruning.until(target), **options)
    assert found.history.survivors.tolist() == [8, 8, 0, 0, 0]


def test_the_problem_of_a_rule_is_minimized():
    def update(_key, population, problem, _state):
        return population, (), jax.vmap(problem.value)(population.params) - population.costs

    rule = jd.Rule(lambda *_: (), update)
    found = fit(score, "max", rule)
    np.testing.assert_allclose(found.history.rule_info, 0, atol=1e-6)


def test_without_a_value_the_best_is_minus_infinity():
    found = fit(score, "max", jd.pruning.no_pruning(), steps=0, steps_per_rung=None)
    assert (found.value, found.id) == (-np.inf, -1)
    assert np.isneginf(found.population.best_values).all()
    assert worst_values(jnp.array([True, False]), jnp.float32).tolist() == [-np.inf, np.inf]


def test_soups_keep_the_agents_of_high_value():
    def height(x):
        return 3.0 - (x[0] ** 2 - 1) ** 2

    points = jnp.array([[-1.2], [0.9], [1.1], [1.5]])
    agents = with_values([1.0] * 4)._replace(params=points)
    uniform = jd.uniform_soup(agents, height, mode="max")
    assert uniform.members.tolist() == [False, True, True, True]
    greedy = jd.greedy_soup(agents, height, mode="max")
    assert greedy.members.tolist() == [False, True, True, False]
    np.testing.assert_allclose(greedy.params, [1.0], rtol=1e-6)
    np.testing.assert_allclose([greedy.value, uniform.value], [3.0, height(uniform.params)])


@pytest.mark.parametrize(
    ("value_fn", "mode", "message"),
    [
        (score, "maximum", "mode must be 'min' or 'max', according to which .*, got 'maximum'"),
        (score, None, "mode must be 'min' or 'max', according to which .*, got None"),
        (None, "max", "mode must be 'min' without value_fn, since a loss is minimized, got 'max'"),
    ],
)
def test_bad_modes_are_named(value_fn, mode, message):
    with pytest.raises(ValueError, match=message):
        fit(value_fn, mode, jd.pruning.no_pruning())
    if value_fn is not None:
        with pytest.raises(ValueError, match=message):
            jd.greedy_soup(with_values([1.0]), jnp.sum, mode=mode)
