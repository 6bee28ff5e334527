"""Tests of `magd`, a population as one transformation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

HALVING = jd.pruning.successive_halving()
STARTS = {"x": jnp.linspace(-2.0, 2.0, 8)[:, None], "y": jnp.linspace(1.0, 0.0, 8)}


def loss(agent):
    return jnp.sum(agent["x"] ** 4 - 3 * agent["x"] ** 2 + agent["x"]) + agent["y"] ** 2


def train(tx, steps, change_values=lambda i, values: values):
    agents, state = STARTS, tx.init(STARTS)
    path = []

    @jax.jit
    def step(agents, state, i):
        values, grads = jax.vmap(jax.value_and_grad(loss))(agents)
        updates, state = tx.update(grads, state, agents, value=change_values(i, values))
        return optax.apply_updates(agents, updates), state

    for i in range(steps):
        agents, state = step(agents, state, i)
        path.append(agents)
    return path, state


def row(tree, agent):
    return jax.tree.map(lambda x: x[agent], tree)


@pytest.fixture(scope="module")
def halved():
    return train(jd.magd(optax.adam(0.05), HALVING, steps_per_rung=3), 10)


def test_alive_agents_descend_as_if_alone(halved):
    path, state = halved
    best = int(jnp.flatnonzero(state.alive)[0])
    adam = optax.adam(0.05)
    agent = row(STARTS, best)
    inner = adam.init(agent)
    for _ in range(10):
        updates, inner = adam.update(jax.grad(loss)(agent), inner)
        agent = optax.apply_updates(agent, updates)
    chex.assert_trees_all_close(row(path[-1], best), agent, rtol=1e-5)
    chex.assert_trees_all_close(row(state.opt_state, best), inner, rtol=1e-5)


def test_the_rule_acts_after_every_rung_and_pruned_agents_do_not_move(halved):
    path, state = halved
    # The rule acts before updates 3, 6 and 9, counted from 0.
    assert sorted(state.age.tolist()) == [3, 3, 3, 3, 6, 6, 9, 10]
    for agent, age in enumerate(state.age.tolist()):
        chex.assert_trees_all_equal(row(path[age - 1], agent), row(path[-1], agent))
    assert state.alive.sum() == 1


def test_it_agrees_with_minimize(halved):
    path, state = halved
    result = jd.minimize(
        loss,
        optax.adam(0.05),
        init_params=STARTS,
        steps=10,
        steps_per_rung=3,
        rule=HALVING,
        chunk_size=8,
    )
    np.testing.assert_array_equal(state.alive, result.population.alive)
    alive = state.alive
    chex.assert_trees_all_close(
        row(path[-1], alive), row(result.population.params, alive), rtol=1e-5
    )


def test_a_value_that_is_not_finite_is_counted_and_the_rule_sees_the_last_finite_one():
    """At the rung before update 3, the agent with the least value so far has a value of NaN."""
    best = 1

    def nan_at_3(i, values):
        return values.at[best].set(jnp.where(i == 3, jnp.nan, values[best]))

    tx = jd.magd(optax.sgd(0.01), jd.pruning.successive_halving(8), steps_per_rung=3)
    path, state = train(tx, 5, nan_at_3)
    assert jnp.flatnonzero(state.alive).tolist() == [best]
    assert state.nonfinite_losses.tolist() == [0, 1, *[0] * 6]
    assert (state.not_finite, state.nonfinite_streak[best]) == (0, 0)
    assert np.isfinite(path[-1]["x"]).all()


@pytest.mark.parametrize(("steps_per_rung", "limit"), [(1, 10), (12, 12)])
def test_agents_live_through_bad_batches_unless_every_value_of_a_stretch_is_bad(
    steps_per_rung, limit
):
    """All agents have bad values up to update `limit - 1`, and agent 2 beyond it."""
    guarded = optax.apply_if_finite(optax.sgd(0.01), 99)
    tx = jd.magd(guarded, jd.pruning.no_pruning(), steps_per_rung=steps_per_rung)
    agents = jnp.ones((4, 2))
    state = tx.init(agents)

    @jax.jit
    def step(state, values):
        return tx.update(jnp.full((4, 2), jnp.nan), state, agents, value=values)[1]

    for _ in range(limit - 1):
        state = step(state, jnp.full(4, jnp.nan))
    assert state.alive.tolist() == [True] * 4
    state = step(state, jnp.ones(4).at[2].set(jnp.inf))
    assert state.alive.tolist() == [True, True, False, True]
    assert state.not_finite == 1
    assert state.nonfinite_losses.tolist() == [limit - 1, limit - 1, limit, limit - 1]


def test_an_agent_that_starts_at_parameters_that_are_not_finite_is_pruned_at_once():
    tx = jd.magd(optax.apply_if_finite(optax.sgd(0.1), 9), jd.pruning.no_pruning())
    agents = jnp.ones((4, 2)).at[3, 1].set(jnp.nan)
    _, state = tx.update(agents, tx.init(agents), agents, value=jnp.sum(agents, 1))
    assert state.alive.tolist() == [True, True, True, False]


def test_a_gradient_that_is_not_finite_moves_no_agent_to_nan():
    tx = jd.magd(optax.sgd(0.1), jd.pruning.no_pruning())
    grads = {"x": jnp.ones((8, 1)).at[3].set(jnp.inf), "y": jnp.ones(8)}
    updates, state = tx.update(grads, tx.init(STARTS), STARTS, value=jnp.ones(8))
    np.testing.assert_array_equal(updates["y"], np.where(np.arange(8) == 3, 0, np.float32(-0.1)))
    assert updates["x"][3] == 0
    assert (state.not_finite, state.alive.sum()) == (1, 7)


def test_each_agent_has_its_own_hyperparameters():
    tx = jd.magd(optax.sgd, jd.pruning.no_pruning(), hyperparams={"learning_rate": jnp.arange(8.0)})
    ones = jax.tree.map(jnp.ones_like, STARTS)
    updates, _ = tx.update(ones, tx.init(STARTS), STARTS, value=jnp.ones(8))
    np.testing.assert_array_equal(updates["y"], -np.arange(8.0))


def test_a_line_search_gets_the_gradient_of_its_agent():
    alone = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5))
    tx = jd.magd(alone, jd.pruning.no_pruning())
    value, grads = jax.vmap(jax.value_and_grad(loss))(STARTS)
    updates, _ = tx.update(grads, tx.init(STARTS), STARTS, value=value, grad=grads, value_fn=loss)
    agent = row(STARTS, 2)
    expected, _ = alone.update(
        row(grads, 2), alone.init(agent), agent, value=value[2], grad=row(grads, 2), value_fn=loss
    )
    chex.assert_trees_all_close(row(updates, 2), expected, rtol=1e-5)


def test_it_runs_under_strict_promotion_in_double_precision():
    tx = jd.magd(optax.sgd(0.1), jd.pruning.chain(jd.pruning.adaptive(), HALVING), steps_per_rung=1)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        agents = jnp.arange(4.0)
        state = tx.init(agents)
        for _ in range(3):
            _, state = tx.update(agents, state, agents, value=agents**2)
    assert state.alive.tolist() == [True, False, False, False]


def test_the_state_keeps_its_shapes_and_dtypes():
    tx = jd.magd(optax.adam(0.05))
    state = tx.init(STARTS)
    _, after = tx.update(STARTS, state, STARTS, value=jnp.ones(8))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)


@pytest.mark.parametrize("value", [None, 1.0, jnp.ones(7), jnp.ones((8, 1))])
def test_there_must_be_one_value_for_each_agent(value):
    tx = jd.magd(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"value must be the losses of the agents, of shape \(8,"):
        tx.update(STARTS, tx.init(STARTS), STARTS, value=value)


def test_a_rule_that_moves_agents_is_refused():
    swap = jd.Rule(
        lambda *_: None,
        lambda key, population, problem, state: (
            jd.copy_agents(population, jnp.zeros(8, jnp.int32)),
            state,
            None,
        ),
    )
    tx = jd.magd(optax.sgd(0.1), swap)
    with pytest.raises(ValueError, match="rule must only prune agents in"):
        tx.update(STARTS, tx.init(STARTS), STARTS, value=jnp.ones(8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: jd.magd(optax.sgd(0.1), steps_per_rung=0),
            "steps_per_rung must be an integer at least 1, got 0",
        ),
        (lambda: jd.magd(optax.sgd(0.1), seed=-1), "seed must be an integer at least 0"),
        (
            lambda: (tx := jd.magd(optax.sgd(0.1))).update(
                jnp.ones(7), tx.init(jnp.ones(8)), jnp.ones(8), value=jnp.ones(8)
            ),
            r"updates must have a leading axis of num_agents = 8 .* \(7,\)",
        ),
        (lambda: jd.magd(optax.sgd(0.1)).init(jnp.ones(())), "leading axis of agents, got shape"),
        (lambda: jd.magd(optax.sgd(0.1)).init([jnp.ones(2), jnp.ones(3)]), "leading axis of num"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
