"""Swarm-based gradient descent moves mass to the best agent, and light agents explore."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments.benchmarks.swarm import shifted_ackley
from jaxdescent.evolution.swarm import _meetings, _transferred
from tests.agents.populations import a_problem, with_values


def swarm_of(values, alive=None, masses=None, params=None, seen=None, **options):
    """Returns the population, the state and the info after one action of the rule."""
    agents = with_values(values)
    if params is not None:
        agents = agents._replace(params=jnp.asarray(params, jnp.float32)[:, None])
    agents = agents._replace(hyperparams={"relative_mass": jnp.ones(len(values))})
    rule = jd.evolution.swarm(**{"tolerance": None, "merge_distance": 0.0} | options)
    state = rule.init(jax.random.key(0), agents, a_problem())
    if masses is not None:
        state = state._replace(masses=jnp.asarray(masses, jnp.float32))
    if seen is not None:
        state = state._replace(params=jnp.asarray(seen, jnp.float32)[:, None])
    if alive is not None:
        agents = agents._replace(alive=jnp.asarray(alive))
    return rule.update(jax.random.key(1), agents, a_problem(), state)


def test_each_agent_gives_the_part_of_its_relative_height_to_the_best():
    agents, state, info = swarm_of([3.0, 1.0, 5.0, 2.0])
    # Heights above the least, relative to the highest: 1/2, 0, 1, 1/4.
    masses = np.array([0.5, 1 + 0.5 + 1 + 0.25, 0.0, 0.75]) / 4
    np.testing.assert_allclose(state.masses, masses, rtol=1e-6)
    np.testing.assert_allclose(info.masses, masses, rtol=1e-6)
    relative = agents.hyperparams["relative_mass"]
    np.testing.assert_allclose(relative, masses / masses.max(), rtol=1e-6)
    assert agents.alive.tolist() == [True, True, False, True]
    assert (info.removed, info.merged) == (1, 0)


def test_the_power_of_the_transfer_applies_to_the_relative_height():
    masses = _transferred(jnp.full(3, 1 / 3), jnp.array([1.0, 2.0, 3.0]), 2.0)
    np.testing.assert_allclose(masses, [(1 + 1 / 4 + 1) / 3, 3 / 12, 0], rtol=1e-6)


@pytest.mark.parametrize(
    "values",
    [[1.0, 1.0, 1.0], [3e38, -3e38, 0.0], [jnp.nan, 2.0, jnp.inf], [jnp.nan, jnp.nan, jnp.nan]],
)
def test_mass_is_preserved(values):
    _, state, _ = swarm_of(values, masses=[0.2, 0.3, 0.5])
    assert jnp.sum(state.masses) == pytest.approx(1, rel=1e-6)
    assert jnp.all(state.masses >= 0)


def test_agents_without_finite_values_lose_their_mass_and_are_removed():
    agents, state, _ = swarm_of([jnp.nan, 2.0, 3.0, 2.5], alive=[False, True, True, True])
    assert state.masses[0] == 0
    assert agents.alive.tolist() == [False, True, False, True]


def test_the_best_agent_stays_however_light_it_is():
    agents, state, _ = swarm_of([1.0, 1.1, 2.0], masses=[1e-9, 1e-9, 1 - 2e-9], min_mass=0.5)
    assert agents.alive.tolist() == [True, False, False]
    np.testing.assert_allclose(state.masses, [1, 0, 0], atol=1e-6)


def test_agents_that_meet_merge_into_the_better_one():
    _, _, info = swarm_of([2.0, 1.0, 5.0], params=[0.0, 0.1, 1.0], merge_distance=0.1)
    assert info.merged == 1  # .1 is .05 widths of the box
    np.testing.assert_allclose(info.masses, [0, 1, 0], atol=1e-6)


def test_an_agent_waits_where_the_agent_that_it_would_join_joins_another():
    rows = jnp.array([[0.0], [1.0], [2.0], [9.0]])
    target, joins = _meetings(rows, jnp.array([3.0, 2.0, 1.0, 0.0]), 1.5)
    assert joins.tolist() == [False, True, False, False]
    assert target[1] == 2


def test_a_run_ends_when_no_agent_moves():
    values, still = [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]
    agents, *_ = swarm_of(values, seen=still, tolerance=1e-3)
    assert not agents.alive.any()
    agents, *_ = swarm_of(values, seen=[0.0, 1.1, 2.0], tolerance=1e-3)
    assert agents.alive.tolist() == [True, True, False]


def backtracked(x, mass, **options):
    """Returns the step from x on x^2, and the number of values."""
    tx = jd.evolution.backtracking_descent(mass, **options)
    x = jnp.asarray([x])

    def value_fn(x):
        return jnp.sum(x**2)

    updates, state = tx.update(
        2 * x, tx.init(x), x, value=value_fn(x), value_fn=value_fn, grad=2 * x
    )
    return float(updates[0]), int(state.evaluations)


@pytest.mark.parametrize(("mass", "power"), [(1.0, 1.0), (0.5, 1.0), (0.5, 2.0), (0.25, 0.5)])
def test_the_step_is_the_first_that_decreases_the_value_in_proportion_to_the_mass(mass, power):
    step, values = backtracked(3.0, mass, step_size=4.0, decrease=0.8, shrink=0.9, mass_power=power)
    # On x^2 a step h decreases the value by 4 h (1 - h) x^2, of 4 h x^2 that the slope predicts.
    lengths = 4.0 * 0.9 ** np.arange(100)
    first = int(np.argmax(1 - lengths >= 0.8 * mass**power))
    assert step == pytest.approx(-2 * 3 * lengths[first], rel=1e-4)
    assert values == first + 1


def test_an_agent_stays_where_no_step_decreases_the_value_and_moves_later():
    tx = jd.evolution.backtracking_descent(max_backtracking_steps=5)
    x = jnp.asarray([3.0])
    state = tx.init(x)

    def undefined(x):
        return jnp.nan * jnp.sum(x)

    updates, state = tx.update(2 * x, state, x, value=jnp.asarray(9.0), value_fn=undefined)
    assert updates.tolist() == [0]
    assert state.evaluations == 6
    updates, state = tx.update(
        2 * x, state, x, value=jnp.asarray(9.0), value_fn=lambda x: jnp.sum(x**2)
    )
    assert updates[0] < 0


def test_the_heaviest_agent_descends_and_light_agents_cross_barriers():
    starts = jnp.linspace(-3, 3, 20)[:, None]
    optimizer = functools.partial(jd.evolution.backtracking_descent, step_size=2.0)
    options = {
        "hyperparams": {"relative_mass": 1.0},
        "init_params": starts,
        "steps": 100,
        "steps_per_rung": 1,
    }
    swarm = jd.minimize(shifted_ackley, optimizer, rule=jd.evolution.swarm(), **options)
    alone = jd.minimize(shifted_ackley, optimizer, rule=jd.pruning.no_pruning(), **options)
    assert swarm.value < 1e-2
    assert alone.value > 1
    assert swarm.history.survivors[-1] == 0  # it ended
    assert swarm.gradients < 20 * 50
    assert swarm.population.opt_state.evaluations.sum() > swarm.gradients


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transfer_power": 0.0}, "transfer_power must be"),
        ({"min_mass": 1.0}, r"min_mass must be in \(0, 1\), got 1"),
        ({"merge_distance": -1.0}, "merge_distance must be"),
        ({"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_arguments_of_the_rule_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jd.evolution.swarm(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relative_mass": 1.5}, r"relative_mass must be a number in \[0, 1\], got 1.5"),
        ({"step_size": 0.0}, "step_size must be"),
        ({"decrease": 1.0}, r"decrease must be in \[0, 1\), got 1"),
        ({"shrink": 1.0}, r"shrink must be in \(0, 1\), got 1"),
        ({"mass_power": -1.0}, "mass_power must be"),
        ({"max_backtracking_steps": -1}, "max_backtracking_steps must be"),
    ],
)
def test_arguments_of_the_optimizer_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jd.evolution.backtracking_descent(**options)


def test_a_swarm_needs_agents_with_masses():
    def bowl(x):
        return jnp.sum(x**2)

    rule, starts = jd.evolution.swarm(), jnp.ones((3, 1))
    with pytest.raises(ValueError, match=r"hyperparams must have 'relative_mass'.*got \[\]"):
        jd.minimize(bowl, optax.sgd(0.1), init_params=starts, steps=1, rule=rule)
    descent = jd.evolution.backtracking_descent
    with pytest.raises(ValueError, match="'relative_mass' as floats, got int32"):
        jd.minimize(
            bowl, descent, hyperparams={"relative_mass": 1}, init_params=starts, steps=1, rule=rule
        )
    with pytest.raises(ValueError, match="num_agents must be at least 2 for a swarm, got 1"):
        jd.minimize(
            bowl, descent, hyperparams={"relative_mass": 1.0}, init_params=starts[:1], steps=1,
            rule=rule,
        )  # fmt: skip


def test_backtracking_needs_the_function():
    tx = jd.evolution.backtracking_descent()
    x = jnp.ones(1)
    with pytest.raises(ValueError, match="value_fn must be given to update"):
        tx.update(x, tx.init(x), x, value=jnp.ones(()))
