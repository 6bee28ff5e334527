"""Tests of what rules do to agents."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from tests.agents.populations import a_problem, with_values

COUNTERS = ("ids", "evaluations", "gradients")


def aged():
    """Four agents with a past."""
    population = with_values([3.0, 1.0, 2.0, 0.0], [True, False, True, True])
    return population._replace(
        opt_state=jax.tree.map(
            lambda x: x + jnp.arange(4, dtype=x.dtype).reshape(4, *[1] * (x.ndim - 1)),
            population.opt_state,
        ),
        age=jnp.arange(4),
        gradients=jnp.arange(4) * 10,
        evaluations=jnp.arange(4) * 20,
        hyperparams={},
    )


def test_a_copy_takes_everything_along_but_its_number_and_its_bill():
    population, source = aged(), jnp.array([3, 3, 2, 0])
    copied = jd.copy_agents(population, source)
    for name in population._fields:
        expected = getattr(population, name)
        if name not in COUNTERS:
            expected = jax.tree.map(lambda x: x[source], expected)
        chex.assert_trees_all_equal(getattr(copied, name), expected)
    assert copied.ancestors.tolist() == [3, 3, 2, 0]


def test_a_placed_agent_starts_afresh_and_the_others_do_not_notice():
    population, mask = aged(), jnp.array([False, True, False, True])
    params = population.params + 100
    placed = jd.place_agents(population, mask, params, a_problem())
    for name in population._fields:
        for new, old in zip(
            jax.tree.leaves(getattr(placed, name)), jax.tree.leaves(getattr(population, name)),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_array_equal(new[~mask], old[~mask])
    at = lambda tree: jax.tree.map(lambda x: x[mask], tree)
    fresh = a_problem().optimizer().init(jnp.zeros(1))
    for leaf, expected in zip(*map(jax.tree.leaves, (at(placed.opt_state), fresh)), strict=True):
        np.testing.assert_array_equal(leaf, np.broadcast_to(expected, leaf.shape))
    np.testing.assert_array_equal(at(placed.params), at(params))
    assert at(placed.alive).all()
    assert not at(placed.fresh).any()
    assert at(placed.age).tolist() == [0, 0]
    assert np.isinf(at(placed.best_values)).all()
    assert placed.ancestors.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(placed.gradients, population.gradients)


def test_a_placed_agent_is_evaluated_before_it_descends():
    """A driver computes what is stale, once, and counts it."""
    move_one = jd.Rule(
        lambda *_: jnp.zeros((), jnp.int32),
        lambda key, population, problem, seen: (
            jd.place_agents(
                population, (jnp.arange(2) == 1) & (seen == 0), population.params * 0 + 5, problem
            ),
            seen + 1,
            None,
        ),
    )
    result = jd.minimize(
        lambda x: jnp.sum(x**2), optax.sgd(0.1), starts=jnp.ones((2, 1)), steps=3, rung=1,
        rule=move_one,
    )  # fmt: skip
    np.testing.assert_allclose(result.population.params, [[0.8**3], [5 * 0.8**2]], rtol=1e-6)
    assert result.population.gradients.tolist() == [4, 5]
    assert result.population.age.tolist() == [3, 2]


def test_places_need_an_optimizer_and_the_right_shapes():
    bare = jd.Problem(jnp.sum, -jnp.ones(1), jnp.ones(1))
    with pytest.raises(ValueError, match="problem must have an optimizer"):
        jd.place_agents(aged(), jnp.ones(4, bool), aged().params, bare)
    with pytest.raises(ValueError, match="params must have the shapes of population"):
        jd.place_agents(aged(), jnp.ones(4, bool), jnp.ones((4, 2)), a_problem())
