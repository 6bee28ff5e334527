"""Consensus-based optimization moves agents toward a weighted mean of the population."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.agents.populations import a_problem, with_values

BOX = jnp.full(2, 5.0)
NO_DESCENT = optax.sgd(0.0)


def moved(agents, problem=None, seed=1, **options):
    """Returns the agents after one action of the rule, and its info."""
    problem = a_problem() if problem is None else problem
    rule = jd.evolution.consensus(**options)
    before = agents._replace(alive=jnp.ones_like(agents.alive))
    state = rule.init(jax.random.key(0), before, problem)
    agents, _, info = rule.update(jax.random.key(seed), agents, problem, state)
    return agents, info


def test_the_consensus_point_is_the_mean_weighted_by_exponentials_of_values():
    values = np.array([7.0, 1.0, 4.0, 19.0, 10.0])  # the median is 6 above the least
    weights = np.exp(-1.5 * (values - 1) / 6)
    center = np.sum(weights * np.arange(5)) / weights.sum()
    agents, info = moved(with_values(values), alpha=1.5, drift=1.0, noise=0.0)
    np.testing.assert_allclose(agents.params[:, 0], center, rtol=1e-5)
    size = weights.sum() ** 2 / (weights**2).sum()
    np.testing.assert_allclose(info.effective_size, size, rtol=1e-5)
    distance = np.sqrt(np.mean((np.arange(5) - center) ** 2)) / 2  # the box has width 2
    np.testing.assert_allclose(info.distance, distance, rtol=1e-5)


def test_a_part_of_the_way_is_gone():
    agents, _ = moved(with_values([0.0, 1.0, 1.0]), alpha=100.0, drift=0.25, noise=0.0)
    np.testing.assert_allclose(agents.params[:, 0], [0, 0.75, 1.5], atol=1e-6)


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**20])
def test_weights_do_not_depend_on_the_units_of_values(factor):
    values = np.array([3.0, 1.0, 2.0, 7.0])
    (plain, _), (scaled, _) = (
        moved(with_values(each), drift=1.0, noise=0.0) for each in (values, factor * (values + 64))
    )
    np.testing.assert_allclose(plain.params, scaled.params, rtol=1e-3)


def test_values_near_the_largest_number_do_not_overflow():
    agents, info = moved(with_values([3e38, -3e38, 1e38]), drift=1.0, noise=0.0)
    np.testing.assert_allclose(agents.params[:, 0], 1, atol=1e-3)
    assert jnp.isfinite(info.effective_size)


def test_equal_values_have_equal_weights():
    agents, info = moved(with_values([2.0, 2.0, 2.0]), drift=1.0, noise=0.0)
    np.testing.assert_allclose(agents.params[:, 0], 1, rtol=1e-6)
    np.testing.assert_allclose(info.effective_size, 3, rtol=1e-6)


def test_the_noise_of_a_coordinate_is_relative_to_the_distance_in_it():
    with_two = with_values(jnp.where(jnp.arange(4_001) == 0, 0.0, 1.0))
    points = jnp.tile(jnp.array([3.0, 0.5]), (4_001, 1)).at[0].set(0)
    agents = with_two._replace(params=points, best_params=points, grads=jnp.zeros_like(points))
    two = jd.Problem(
        lambda x: jnp.sum(x**2), -BOX, BOX, optimizer=a_problem().optimizer, bounds=None
    )
    options = {"alpha": 1e4, "drift": 0.0, "noise": 0.2}
    separate, _ = moved(agents, two, **options)
    np.testing.assert_allclose(jnp.std(separate.params[1:], axis=0), [0.6, 0.1], rtol=0.05)
    together, _ = moved(agents, two, anisotropic=False, **options)
    length = 0.2 * np.hypot(3, 0.5)
    np.testing.assert_allclose(jnp.std(together.params[1:], axis=0), length, rtol=0.05)


def test_isotropic_noise_measures_distances_in_widths_of_the_box():
    points = jnp.tile(jnp.array([3.0, 50.0]), (4_001, 1)).at[0].set(0)
    agents = with_values(jnp.where(jnp.arange(4_001) == 0, 0.0, 1.0))
    agents = agents._replace(params=points, best_params=points, grads=jnp.zeros_like(points))
    sides = jnp.array([5.0, 500.0])
    long = jd.Problem(
        lambda x: jnp.sum(x), -sides, sides, optimizer=a_problem().optimizer, bounds=None
    )
    placed, _ = moved(agents, long, alpha=1e4, drift=0.0, noise=0.2, anisotropic=False)
    length = 0.2 * np.hypot(0.3, 0.05)
    np.testing.assert_allclose(
        jnp.std(placed.params[1:], axis=0), length * 2 * np.asarray(sides), rtol=0.05
    )


def test_agents_without_finite_values_have_no_weight_and_move_like_the_others():
    agents = with_values([jnp.nan, 1.0, 2.0, jnp.inf])
    agents = agents._replace(
        alive=jnp.array([False, True, True, False]), params=agents.params.at[3].set(jnp.nan)
    )
    placed, info = moved(agents, alpha=0.0, drift=0.5, noise=0.0)
    np.testing.assert_allclose(placed.params[:, 0], [0.75, 1.25, 1.75, 1.5], rtol=1e-6)
    assert placed.alive.all()
    np.testing.assert_allclose(info.effective_size, 2, rtol=1e-6)


def test_agents_stay_where_no_value_is_finite():
    agents = with_values([jnp.nan, jnp.nan], alive=[False, False])
    placed, _ = moved(agents)
    assert not placed.alive.any()
    np.testing.assert_array_equal(placed.params, agents.params)


def test_pruned_agents_neither_count_nor_move():
    agents = with_values([0.0, 1.0, 2.0, 3.0], alive=[False, True, True, True])
    placed, _ = moved(agents, alpha=1e4, drift=1.0, noise=0.0)
    np.testing.assert_allclose(placed.params[:, 0], [0, 1, 1, 1], rtol=1e-6)
    assert placed.alive.tolist() == [False, True, True, True]


def test_it_finds_a_minimum_among_many_without_gradients_and_within_the_bounds():
    problem = jd.problems.rastrigin(2, key=jax.random.key(0))
    result = jd.minimize(
        problem, NO_DESCENT, num_agents=64, steps=300, steps_per_rung=1, record_params=True,
        rule=jd.evolution.consensus(),
    )  # fmt: skip
    assert result.value - problem.minimum < 1e-2
    assert jnp.all(result.history.params >= problem.lower)
    assert jnp.all(result.history.params <= problem.upper)
    assert result.history.rule_info.distance[-1] < 1e-3


def test_the_gradient_term_is_the_descent_of_the_rung():
    def bowl(x):
        return jnp.sum(x**2)

    starts = jnp.array([[1.0], [2.0]])
    result = jd.minimize(
        bowl, optax.sgd(0.1), init_params=starts, steps=1, num_rungs=1,
        rule=jd.evolution.consensus(alpha=0.0, drift=0.5, noise=0.0),
    )  # fmt: skip
    # Gradient steps lead to .8 and 1.6, whose mean is 1.2.
    np.testing.assert_allclose(result.population.params[:, 0], [1.0, 1.4], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, r"alpha must be a number in \[0, inf\], got -1"),
        ({"drift": 1.5}, r"drift must be a number in \[0, 1\], got 1.5"),
        ({"noise": float("nan")}, "noise"),
        ({"anisotropic": 1}, "anisotropic must be True or False, got 1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jd.evolution.consensus(**options)


def test_one_agent_is_refused():
    with pytest.raises(ValueError, match="num_agents must be at least 2 for a consensus, got 1"):
        moved(with_values([1.0]))
