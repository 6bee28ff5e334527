"""Differential evolution recombines agents between rungs and keeps the better of two."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from jaxdescent.evolution.differential_evolution import _draw_others, _trials
from tests.agents.populations import a_problem, with_values

BOX = jnp.full(2, 5.0)
NO_DESCENT = optax.sgd(0.0)


def bowl(x):
    return jnp.sum((x - 1) ** 2)


def run(problem, optimizer=NO_DESCENT, rule=None, num_agents=8, steps=20, **options):
    rule = jd.evolution.differential_evolution() if rule is None else rule
    return jd.minimize(
        problem, optimizer, num_agents=num_agents, steps=steps, steps_per_rung=1, rule=rule,
        **options,
    )  # fmt: skip


draw_others = jax.jit(_draw_others)
trials_of = jax.jit(_trials)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(4, 9))
def test_the_agents_that_are_combined_are_distinct_and_not_the_agent_itself(seed, count):
    own = jnp.arange(9, dtype=jnp.int32)
    drawn = np.asarray(draw_others(jax.random.key(seed), own, count))[:, :count]
    assert drawn.min() >= 0
    assert drawn.max() < count
    for i, others in enumerate(drawn.T):
        assert len({i, *others.tolist()}) == 4


def test_every_triple_of_other_agents_is_drawn_equally_often():
    own = jnp.full(24_000, 2, jnp.int32)
    drawn = np.asarray(draw_others(jax.random.key(0), own, 5))
    triples, counts = np.unique(drawn, axis=1, return_counts=True)
    assert triples.shape[1] == 4 * 3 * 2
    # 1,000 of each are expected, with a standard deviation of 31.
    assert np.abs(counts - 1_000).max() < 4 * 31


def test_a_trial_is_a_combination_of_three_agents_on_the_coordinates_that_cross():
    rows = jax.random.normal(jax.random.key(1), (5, 200))
    members = jnp.ones(5, bool)
    trials = np.asarray(trials_of(jax.random.key(2), rows, members, 0.7, 0.25))
    rows = np.asarray(rows)
    for i in range(5):
        crossed = trials[i] != rows[i]
        assert 0.1 < crossed.mean() < 0.4  # three standard deviations are 0.09
        candidates = [
            rows[a] + 0.7 * (rows[b] - rows[c])
            for a in range(5) for b in range(5) for c in range(5)
            if len({i, a, b, c}) == 4
        ]  # fmt: skip
        errors = [np.abs(each - trials[i])[crossed].max() for each in candidates]
        assert min(errors) < 1e-6


def test_one_coordinate_crosses_at_a_crossover_rate_of_zero():
    rows = jax.random.normal(jax.random.key(1), (50, 7))
    trials = trials_of(jax.random.key(2), rows, jnp.ones(50, bool), 0.7, 0.0)
    changed = np.asarray(trials != rows)
    assert (changed.sum(1) == 1).all()
    assert (changed.sum(0) > 0).all()


def test_agents_that_are_not_members_are_not_combined():
    rows = jnp.arange(8.0)[:, None]
    members = jnp.arange(8) < 4
    trials = trials_of(jax.random.key(0), rows.at[4:].set(jnp.nan), members, 0.5, 1.0)
    assert jnp.all(jnp.isfinite(trials[:4]))


def test_parents_never_get_worse_and_are_replaced_by_better_trials_only():
    problem, rule = a_problem(), jd.evolution.differential_evolution()
    agents = with_values([3.0, 1.0, 2.0, 4.0, 5.0])
    parents = rule.init(jax.random.key(0), agents, problem)
    _, parents, info = rule.update(jax.random.key(1), agents, problem, parents)
    assert info.improved == 5
    children = with_values([2.0, 2.0, 2.0, jnp.nan, -1.0])
    children = children._replace(
        params=children.params + 10,
        best_params=children.params + 10,
        best_values=jnp.array([2.0, 2.0, 2.0, jnp.inf, -1.0]),
    )
    _, parents, info = rule.update(jax.random.key(2), children, problem, parents)
    assert info.improved == 3
    np.testing.assert_array_equal(parents.costs, [2, 1, 2, 4, -1])
    np.testing.assert_array_equal(parents.params[:, 0], [10, 1, 12, 3, 14])


def test_the_best_point_of_a_descent_counts_also_if_its_end_is_worse():
    problem = jd.Problem(lambda x: jnp.sum(x**2), -BOX, BOX)
    result = jd.minimize(
        problem, optax.sgd(0.0099), num_agents=4, steps=9, steps_per_rung=3,
        rule=jd.evolution.differential_evolution(),
    )  # fmt: skip
    parents = result.state.rule_state
    values = jax.vmap(problem.value)(parents.params)
    np.testing.assert_allclose(parents.costs, values, rtol=1e-6)


def test_agents_start_at_trials_with_new_optimizer_states_and_are_evaluated_next():
    problem, rule = a_problem(), jd.evolution.differential_evolution()
    agents = with_values([3.0, 1.0, 2.0, 4.0])
    moved = jax.tree.map(
        lambda x: x + 1 if jnp.issubdtype(x.dtype, jnp.floating) else x, agents.opt_state
    )
    agents = agents._replace(opt_state=moved)
    state = rule.init(jax.random.key(0), agents, problem)
    placed, *_ = rule.update(jax.random.key(1), agents, problem, state)
    assert not placed.evaluated.any()
    first = with_values([3.0, 1.0, 2.0, 4.0]).opt_state
    for new, initial in zip(jax.tree.leaves(placed.opt_state), jax.tree.leaves(first), strict=True):
        np.testing.assert_array_equal(new, initial)


def test_it_minimizes_without_any_descent():
    result = run(jd.Problem(bowl, -BOX, BOX), steps=150, num_agents=12)
    assert result.value < 1e-6
    assert result.gradients == 12 * (1 + 150 + 149)  # each trial is evaluated before its step


def test_trials_stay_within_the_bounds():
    problem = jd.Problem(lambda x: -jnp.sum(x), -BOX, BOX)
    result = run(problem, record_params=True, steps=40)
    assert jnp.all(jnp.abs(result.history.params) <= 5)
    assert result.value < -9.9


def test_a_box_scaled_by_a_power_of_two_scales_the_run():
    small, large = (
        run(jd.Problem(lambda x, scale: bowl(x / scale), -s * BOX, s * BOX, data=(s,)))
        for s in (jnp.float32(1), jnp.float32(2.0**10))
    )
    np.testing.assert_array_equal(small.params * 2**10, large.params)


def test_trials_without_finite_values_lose_and_their_agents_live_on():
    def half_defined(x):
        return jnp.where(x[0] < 1, jnp.nan, bowl(x))

    starts = jax.random.uniform(jax.random.key(0), (8, 2), minval=1.0, maxval=5.0)
    result = run(half_defined, steps=100, init_params=starts)
    assert result.history.not_finite.sum() > 0
    assert (result.history.survivors == 8).all()
    assert (result.history.descended == 8).all()
    assert result.value < 1e-2


def test_starts_without_finite_values_are_combined_until_a_trial_has_one():
    def defined_inside(x):
        return jnp.where(jnp.all(jnp.abs(x - 1) < 1.5), bowl(x), jnp.nan)

    result = run(jd.Problem(defined_inside, -BOX, BOX), num_agents=10, steps=100)
    assert result.history.not_finite[0] > 0
    assert result.value < 1e-2


def test_pruned_agents_stay_pruned_and_few_survivors_descend_without_trials():
    rule = jd.pruning.chain(jd.pruning.successive_halving(), jd.evolution.differential_evolution())
    result = run(jd.Problem(bowl, -BOX, BOX), optax.sgd(0.001), rule, num_agents=16, steps=5)
    assert result.history.survivors.tolist() == [8, 4, 2, 1, 1]
    assert result.history.rule_info[1].trials.tolist() == [8, 4, 0, 0, 0]
    assert result.population.evaluated[jnp.argmax(result.population.alive)]


def test_a_target_ends_the_run():
    def half_defined(x):
        return jnp.where(x[0] < 0.5, jnp.nan, bowl(x))

    rule = jd.pruning.chain(jd.pruning.until(0.1), jd.evolution.differential_evolution())
    result = run(jd.Problem(half_defined, -BOX, BOX), rule=rule, num_agents=12, steps=300)
    assert result.value <= 0.1
    assert result.gradients < 12 * 300
    assert result.history.survivors[-1] == 0


def test_parameters_may_be_a_tree_of_several_dtypes():
    def value(x):
        return jnp.sum((x["a"] - 1) ** 2) + (x["b"].astype(jnp.float32) + 1) ** 2

    upper = {"a": np.full((2, 2), 3, np.float32), "b": np.asarray(3, jnp.bfloat16)}
    lower = jax.tree.map(lambda x: -x, upper)
    result = run(jd.Problem(value, lower, upper), num_agents=24, steps=200)
    assert result.params["b"].dtype == jnp.bfloat16
    assert result.value < 1e-3


def test_one_program_serves_all_keys():
    problem = jd.Problem(bowl, -BOX, BOX)
    loop = jd.minimize_loop(
        problem, optax.adam(0.01), num_agents=6, rule=jd.evolution.differential_evolution()
    )
    traces = []

    @jax.jit
    def step(state, length):
        traces.append(None)
        return loop.step(state, length)

    for seed in range(3):
        state = loop.init(jax.random.key(seed))
        for length in (2, 5):
            state, _ = step(state, length)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crossover_rate": 1.5}, r"crossover_rate must be a number in \[0, 1\], got 1.5"),
        ({"crossover_rate": float("nan")}, "crossover_rate"),
        ({"differential_weight": -1}, r"differential_weight must be a number in \[0, 2\], got -1"),
        ({"differential_weight": 3.0}, "differential_weight must be"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jd.evolution.differential_evolution(**options)


def test_fewer_than_four_agents_are_refused():
    with pytest.raises(ValueError, match=r"num_agents must be at least 4 .* got 3"):
        run(jd.Problem(bowl, -BOX, BOX), num_agents=3)
