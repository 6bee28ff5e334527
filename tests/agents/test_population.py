"""Tests of `copy_agents` and `place_agents`, by which rules move agents."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.agents.population import initial_opt_states, initial_population
from tests.agents.populations import a_problem, with_values

COUNTERS = ("ids", "evaluations", "gradients")


def trained_agents():
    """Returns four agents whose ages, counts and optimizer states differ."""
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


def test_a_copy_keeps_its_own_id_and_counts_only():
    population, source = trained_agents(), jnp.array([3, 3, 2, 0])
    copied = jd.copy_agents(population, source)
    for name in population._fields:
        expected = getattr(population, name)
        if name not in COUNTERS:
            expected = jax.tree.map(lambda x: x[source], expected)
        chex.assert_trees_all_equal(getattr(copied, name), expected)
    assert copied.ancestors.tolist() == [3, 3, 2, 0]


def test_a_copy_draws_other_random_numbers_than_its_source():
    noisy = optax.with_extra_args_support(optax.add_noise(1.0, 0.5, key=0))
    problem = jd.Problem(jnp.sum, -jnp.ones(1), jnp.ones(1), optimizer=lambda: noisy)
    population = initial_population(problem, jnp.zeros((3, 1)), {}, jnp.float32)

    def keys(population):
        return jax.random.key_data(population.opt_state.rng_key)[:, 0]

    copied = jd.copy_agents(population, jnp.array([1, 1, 1]))
    assert keys(copied)[1] == keys(population)[1]
    assert len(np.unique(np.concatenate([keys(copied), keys(population)]))) == 5
    chex.assert_trees_all_equal(jd.copy_agents(population, jnp.arange(3)), population)


def test_a_placed_agent_draws_other_random_numbers_than_before():
    noisy = optax.with_extra_args_support(optax.add_noise(1.0, 0.5, key=0))
    problem = jd.Problem(jnp.sum, -jnp.ones(1), jnp.ones(1), optimizer=lambda: noisy)
    agents = initial_population(problem, jnp.zeros((2, 1)), {}, jnp.float32)
    drawn = []
    for spent in (3, 5):
        agents = agents._replace(evaluations=jnp.full(2, spent))
        agents = jd.place_agents(agents, jnp.ones(2, bool), agents.params, problem)
        drawn.append(jax.random.key_data(agents.opt_state.rng_key)[:, 0])
    assert len(np.unique(np.concatenate(drawn))) == 4


def test_several_keys_of_an_optimizer_differ_between_agents():
    several = optax.GradientTransformation(
        lambda _: jax.random.split(jax.random.key(0), 2), lambda updates, keys, _: (updates, keys)
    )
    keys = jax.random.key_data(initial_opt_states(lambda: several, jnp.zeros(3), {}, jnp.arange(3)))
    assert keys.shape[:2] == (3, 2)
    assert len(np.unique(keys[..., 0])) == 6


def test_placed_parameters_are_cast_to_the_dtype_of_the_population():
    population = trained_agents()._replace(params=trained_agents().params.astype(jnp.bfloat16))
    placed = jd.place_agents(population, jnp.ones(4, bool), jnp.ones((4, 1)), a_problem())
    assert placed.params.dtype == jnp.bfloat16


def test_a_placed_agent_restarts_and_the_others_do_not_change():
    population, mask = trained_agents(), jnp.array([False, True, False, True])
    params = population.params + 100
    placed = jd.place_agents(population, mask, params, a_problem())
    for name in population._fields:
        for new, old in zip(
            jax.tree.leaves(getattr(placed, name)),
            jax.tree.leaves(getattr(population, name)),
            strict=True,
        ):
            np.testing.assert_array_equal(new[~mask], old[~mask])

    def at(tree):
        return jax.tree.map(lambda x: x[mask], tree)

    initial = a_problem().optimizer().init(jnp.zeros(1))
    for leaf, expected in zip(*map(jax.tree.leaves, (at(placed.opt_state), initial)), strict=True):
        np.testing.assert_array_equal(leaf, np.broadcast_to(expected, leaf.shape))
    np.testing.assert_array_equal(at(placed.params), at(params))
    assert at(placed.alive).all()
    assert not at(placed.evaluated).any()
    assert at(placed.age).tolist() == [0, 0]
    assert np.isinf(at(placed.best_values)).all()
    assert placed.ancestors.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(placed.gradients, population.gradients)


def test_a_placed_agent_is_evaluated_before_it_descends():
    """It is evaluated once before its next step, and that is counted."""
    place_agent_1_once = jd.Rule(
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
        lambda x: jnp.sum(x**2),
        optax.sgd(0.1),
        init_params=jnp.ones((2, 1)),
        steps=3,
        steps_per_rung=1,
        rule=place_agent_1_once,
    )
    np.testing.assert_allclose(result.population.params, [[0.8**3], [5 * 0.8**2]], rtol=1e-6)
    assert result.population.gradients.tolist() == [4, 5]
    assert result.population.age.tolist() == [3, 2]


def test_sources_and_masks_must_have_one_entry_for_each_agent():
    for source in (jnp.zeros(3, int), jnp.zeros(4)):
        with pytest.raises(ValueError, match="source must be 4 integers, one for each agent"):
            jd.copy_agents(trained_agents(), source)
    for mask in (jnp.ones(3, bool), jnp.ones(4, int)):
        with pytest.raises(ValueError, match="mask must be 4 booleans, one for each agent"):
            jd.place_agents(trained_agents(), mask, trained_agents().params, a_problem())


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (lambda p, s: (p, s), r"rule must return \(population, rule_state, info\)"),
        (
            lambda p, s: (p._replace(alive=p.alive * 1), s, 0),
            r"got int32\(4,\) for bool\(4,\) at pop",
        ),
        (lambda p, s: (p._replace(model_state=s), s, 0), "population of the structure"),
        (
            lambda p, s: (p, s + 1.0, 0),
            r"rule_state of the shapes and dtypes .* got float32\(\) for int32\(\)",
        ),
    ],
)
def test_a_rule_must_keep_structure_shapes_and_dtypes(update, message):
    rule = jd.Rule(lambda *_: jnp.zeros((), jnp.int32), lambda key, p, problem, s: update(p, s))
    with pytest.raises(ValueError, match=message):
        jd.minimize(a_problem(), optax.sgd(0.1), num_agents=4, steps=2, steps_per_rung=1, rule=rule)


def test_placing_agents_needs_an_optimizer_and_equal_shapes():
    problem = jd.Problem(jnp.sum, -jnp.ones(1), jnp.ones(1))
    with pytest.raises(ValueError, match="problem must have an optimizer"):
        jd.place_agents(trained_agents(), jnp.ones(4, bool), trained_agents().params, problem)
    with pytest.raises(ValueError, match="params must have the shapes of population"):
        jd.place_agents(trained_agents(), jnp.ones(4, bool), jnp.ones((4, 2)), a_problem())


def stochastic(**fields):
    """Returns three agents whose model state has the same keys, and with these fields."""
    key = jax.random.key(0)
    state = {"key": jnp.broadcast_to(key, (3,)), "count": jnp.zeros(3, jnp.uint32)}
    adam = optax.with_extra_args_support(optax.adam(0.1))
    problem = jd.Problem(jnp.sum, -jnp.ones(1), jnp.ones(1), optimizer=lambda **_: adam)
    population = initial_population(problem, jnp.zeros((3, 1)), {}, jnp.float32, model_state=state)
    return population._replace(**fields)


def distinct(*keys):
    """Returns the number of different keys."""
    data = [jax.random.key_data(each).reshape(-1, 2) for each in keys]
    return len(np.unique(np.concatenate(data), axis=0))


def test_agents_draw_different_numbers_where_one_model_state_is_repeated_for_all():
    assert distinct(stochastic().model_state["key"]) == 3


def test_copies_have_their_own_keys_in_model_state_and_hyperparameters():
    keys = jax.random.split(jax.random.key(1), 3)
    population = stochastic(hyperparams={"noise_key": keys, "scale": jnp.arange(3.0)})
    copied = jd.copy_agents(population, jnp.array([1, 1, 1]))
    assert distinct(copied.model_state["key"], population.model_state["key"]) == 5
    assert distinct(copied.hyperparams["noise_key"], keys) == 5
    assert copied.hyperparams["scale"].tolist() == [1.0] * 3
    assert copied.model_state["key"][1] == population.model_state["key"][1]
    again = jd.copy_agents(population, jnp.array([1, 1, 1]))
    chex.assert_trees_all_equal(copied, again)


def test_raw_keys_are_found_by_a_name_on_their_path():
    """Sophia's state has a raw key in `key`; the same array under other names is left as it is."""
    raw = jnp.broadcast_to(jax.random.PRNGKey(3), (3, 2))
    state = optax.contrib.HutchinsonState(raw)
    names = {"rng": raw, "dropout_key": raw, "rngs": {"dropout": raw}, "bits": raw}
    population = stochastic(opt_state=state, model_state=names)
    copied = jd.copy_agents(population, jnp.array([1, 1, 1]))
    bits = copied.model_state.pop("bits")
    for found in (copied.opt_state.key, *jax.tree.leaves(copied.model_state)):
        assert len(np.unique(found, axis=0)) == 3
        np.testing.assert_array_equal(found[1], raw[1])
        assert (found[0] == jax.random.fold_in(raw[1], 0)).all()
    np.testing.assert_array_equal(bits, raw)


def test_a_model_state_that_is_a_raw_key_differs_between_agents():
    raw = jnp.broadcast_to(jax.random.PRNGKey(3), (3, 2))
    problem = jd.Problem(jnp.sum, -jnp.ones(1), jnp.ones(1), optimizer=lambda **_: optax.sgd(0.1))
    agents = initial_population(problem, jnp.zeros((3, 1)), {}, jnp.float32, model_state=raw)
    assert len(np.unique(agents.model_state, axis=0)) == 3


def test_a_key_that_is_one_hyperparameter_of_all_agents_differs_between_them():
    def noisy(key):
        def update(updates, state, params=None):
            return jax.random.normal(key, updates.shape), state

        return optax.GradientTransformation(optax.init_empty_state, update)

    result = jd.minimize(
        lambda x: jnp.sum(x**2),
        noisy,
        init_params=jnp.zeros((3, 1)),
        steps=1,
        hyperparams={"key": jax.random.key(0)},
        rule=jd.pruning.no_pruning(),
    )
    assert len(np.unique(result.population.params)) == 3
