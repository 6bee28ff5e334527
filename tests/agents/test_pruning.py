"""Tests of the rules in `jd.pruning`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import jaxdescent as jd
from tests.agents.populations import with_values

NAN = float("nan")
RULES = {
    "halving": jd.pruning.successive_halving(),
    "gap": jd.pruning.gap_to_best(),
    "stalled": jd.pruning.stalled(1),
    "predicted": jd.pruning.predicted_to_lose(9),
    "adaptive": jd.pruning.adaptive(),
    "no pruning": jd.pruning.no_pruning(),
    "chain": jd.pruning.chain(jd.pruning.no_pruning(), jd.pruning.successive_halving()),
    "delay": jd.pruning.delay(1, jd.pruning.successive_halving()),
}


def survivors(rule, *rungs):
    """Returns the agents alive after each rung with these values, cleared as in a loop."""
    population = with_values(rungs[0])
    key = jax.random.key(0)
    state, left = rule.init(key, population, None), []
    update = jax.jit(rule.update)
    for values in rungs:
        values = jnp.asarray(values, jnp.float32)
        population = population._replace(
            values=values, alive=population.alive & jnp.isfinite(values)
        )
        population, state, _ = update(key, population, None, state)
        left.append(np.flatnonzero(population.alive).tolist())
    return left


@pytest.mark.parametrize("name", RULES)
def test_a_rule_only_prunes_and_reports_how_many(name):
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    population = with_values(values, [True, True, True, True, False])
    state = RULES[name].init(jax.random.key(0), population, None)
    after, _, info = RULES[name].update(jax.random.key(0), population, None, state)
    np.testing.assert_array_less(after.alive * 1, population.alive + 1)
    unmoved = jax.tree.leaves(after._replace(alive=population.alive))
    assert all(a is b for a, b in zip(unmoved, jax.tree.leaves(population), strict=True))
    removed = sum(x.pruned for x in jax.tree.leaves(info, is_leaf=lambda x: hasattr(x, "pruned")))
    if name != "delay":
        assert removed == np.sum(population.alive) - np.sum(after.alive)


@pytest.mark.parametrize("name", RULES)
def test_the_best_alive_agent_is_never_pruned(name):
    rng = np.random.default_rng(0)
    rungs = rng.normal(size=(6, 12)) ** 3
    population, key = with_values(rungs[0]), jax.random.key(0)
    state, update = RULES[name].init(key, population, None), jax.jit(RULES[name].update)
    for values in rungs:
        population = population._replace(values=jnp.asarray(values, jnp.float32))
        best = int(jnp.argmin(population.scores))
        population, state, _ = update(key, population, None, state)
        assert population.alive[best]


@pytest.mark.parametrize("name", RULES)
def test_rules_accept_a_population_without_survivors(name):
    assert survivors(RULES[name], [NAN, NAN], [NAN, NAN])[-1] == []


@pytest.mark.parametrize("name", RULES)
def test_a_single_agent_is_kept(name):
    assert survivors(RULES[name], *[[x] for x in (3.0, 2.0, 2.0, 2.5)])[-1] == [0]


def test_halving_keeps_the_better_half_rounded_up():
    assert survivors(RULES["halving"], [4, 1, 3, 2, 5], [1, 2, 0, 3, 0]) == [[1, 2, 3], [1, 2]]
    third = jd.pruning.successive_halving(3.0, min_agents=2)
    assert survivors(third, np.arange(10)[::-1], np.arange(10)) == [[6, 7, 8, 9], [6, 7]]


def test_agents_can_be_ranked_by_their_best_values_so_far():
    population = with_values([1.0, 2.0, 3.0, 4.0], [True, True, True, True])
    population = population._replace(best_values=jnp.array([0.9, 0.8, 0.7, 0.6]))
    for make in (jd.pruning.successive_halving, partial(jd.pruning.adaptive, max_eta=2.0)):
        for by, expected in (("value", [0, 1]), ("best", [2, 3])):
            rule, key = make(by=by), jax.random.key(0)
            first = rule.init(key, population, None)
            _, seen, _ = rule.update(key, population, None, first)  # adaptive prunes from here on
            after, _, _ = rule.update(key, population, None, seen)
            assert np.flatnonzero(after.alive).tolist() == expected
    with pytest.raises(ValueError, match="by must be 'value' or 'best', got 'last'"):
        jd.pruning.successive_halving(by="last")


def test_the_best_value_of_an_agent_that_is_not_finite_does_not_count():
    population = with_values([1.0, NAN, 3.0])._replace(best_values=jnp.array([0.9, 0.1, 0.7]))
    np.testing.assert_array_equal(population.best_scores, np.float32([0.9, np.inf, 0.7]))


def test_ties_are_kept_by_index():
    assert survivors(RULES["halving"], [1, 1, 1, 1]) == [[0, 1]]


@pytest.mark.parametrize("name", RULES)
def test_an_agent_just_placed_is_kept_until_it_is_evaluated(name):
    """Another rule has just placed agents 0 and 1, which were the best and one not finite."""
    population, key = with_values([0.0, NAN, 2.0, 1.0, 3.0, 4.0]), jax.random.key(0)
    population = population._replace(evaluated=jnp.arange(6) > 1)
    state, update = RULES[name].init(key, population, None), jax.jit(RULES[name].update)
    for _ in range(5):
        population, state, _ = update(key, population, None, state)
        assert population.alive[:2].all()
        assert population.alive[3]  # the best of the evaluated agents
    assert population.alive.all() == (name == "no pruning")


def test_a_loss_curve_starts_where_its_agent_was_placed():
    falling = 5.0 - np.log(np.arange(1, 9))  # at rung 20: 2.0
    rule, key = jd.pruning.predicted_to_lose(20, burn_in=3, deviations=0.0), jax.random.key(0)
    population, left = with_values([1.0, 0.0]), []
    state, update = rule.init(key, population, None), jax.jit(rule.update)
    for rung, value in enumerate(falling):
        early_value = NAN if rung < 4 else value
        values = jnp.array([3.0, early_value], jnp.float32)
        evaluated = jnp.array([True, rung != 3])
        population = population._replace(values=values, evaluated=evaluated)
        population, state, _ = update(key, population, None, state)
        left.append(bool(population.alive[1]))
        population = population._replace(alive=jnp.ones(2, bool))
    slope, at = (np.asarray(x)[1] for x in (state.cov / state.var_x, state.mean_y))
    np.testing.assert_allclose(slope, -1.0, rtol=1e-4)
    np.testing.assert_allclose(at, falling[4:].mean(), rtol=1e-5)
    assert left[4:] == [True] * 4


def test_halving_counts_only_finite_agents():
    assert survivors(RULES["halving"], [NAN, 2, 1, NAN, 3, 4]) == [[1, 2]]


def test_the_gap_is_measured_in_units_of_the_first_spread():
    # Best 0 and median 2 give a spread of 2, which remains when the values shrink.
    rungs = [[0, 1, 2, 3, 4], [0, 0.1, 2.1, 1.9, 0]]
    assert survivors(jd.pruning.gap_to_best(1.0), *rungs) == [[0, 1, 2], [0, 1]]


def test_the_spread_of_agents_that_share_the_best_value_is_the_distance_to_the_others():
    assert survivors(jd.pruning.gap_to_best(1.0), [0, 0, 0, 0, 1, 3, 5])[-1] == [0, 1, 2, 3, 4, 5]


def test_the_spread_is_measured_when_values_first_differ():
    rungs = [[1, 1, 1, 1], [1, 2, 3, 4]]
    assert survivors(jd.pruning.gap_to_best(1.0), *rungs) == [[0, 1, 2, 3], [0, 1]]


def test_stalled_agents_would_take_too_long_to_reach_the_best():
    # Speeds over two rungs: 0, 0.5, 0.05; distances to the best at the end: 0, 4, 4.
    rungs = [[0, 5, 4.1], [0, 4.5, 4.05], [0, 4, 4]]
    assert survivors(jd.pruning.stalled(2, horizon=10), *rungs) == [[0, 1, 2], [0, 1, 2], [0, 1]]
    assert survivors(jd.pruning.stalled(2, horizon=100), *rungs)[-1] == [0, 1, 2]


def test_curves_are_extrapolated_as_lines_in_log_time():
    # The lines 5 - b log(rung) reach 1.4 and 2.3 at rung 20.
    curves = np.stack([np.full(5, 2.0), *(5 - b * np.log(np.arange(1, 6)) for b in (1.2, 0.9))], 1)
    rule = jd.pruning.predicted_to_lose(20, burn_in=4, deviations=0.0)
    assert survivors(rule, *curves) == [[0, 1, 2]] * 3 + [[0, 1]] * 2


def test_the_margin_is_the_standard_deviation_of_a_least_squares_prediction():
    rng = np.random.default_rng(1)
    x = np.log(np.arange(1, 8))
    y = 3 - 0.4 * x + 0.3 * rng.normal(size=7)
    fit = stats.linregress(x, y)
    ahead = np.log(30)
    residual = np.sum((y - fit.intercept - fit.slope * x) ** 2) / 5
    spread = np.sqrt(residual * (1 + 1 / 7 + (ahead - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)))
    predicted = fit.intercept + fit.slope * ahead - 1.5 * spread
    rule = jd.pruning.predicted_to_lose(30, burn_in=7, deviations=1.5)
    for best, kept in ((predicted + 1e-3, [0, 1]), (predicted - 1e-3, [0])):
        assert survivors(rule, *np.stack([np.full(7, best), y], 1))[-1] == kept


def test_predictions_do_not_depend_on_the_unit_of_the_loss():
    rng = np.random.default_rng(2)
    curves = 3 + np.cumsum(rng.normal(size=(8, 40)), axis=0) / 4
    rule = jd.pruning.predicted_to_lose(30, deviations=0.5)
    left = survivors(rule, *curves)
    assert 1 < len(left[-1]) < 30
    for unit in (1e-25, 1e25):
        assert survivors(rule, *(unit * curves)) == left


def test_ties_that_keep_their_order_do_not_count_as_correlation():
    left = survivors(jd.pruning.adaptive(0.05), np.zeros(64), np.zeros(64))
    # First at the default r = 0.5, then at the measured r = 0, which keeps 95%.
    assert [*map(len, left)] == [39, 38]


def test_a_curve_whose_squares_overflow_is_kept():
    rungs = [[1.0, 1e25], [1.0, 1e10], [1.0, 1.1], [1.0, 1.01]]
    rule = jd.pruning.predicted_to_lose(20, deviations=50.0)
    assert survivors(rule, *rungs)[-1] == [0, 1]


@pytest.mark.parametrize("name", ["adaptive", "predicted"])
def test_values_in_half_precision_are_pruned_as_in_single(name):
    walks = np.cumsum(np.random.default_rng(6).normal(size=(5, 300)), axis=0)
    half = jnp.asarray(walks, jnp.bfloat16)
    left, update, key = [], jax.jit(RULES[name].update), jax.random.key(0)
    for rungs in (half, half.astype(jnp.float32)):
        population = with_values(walks[0])._replace(values=rungs[0], best_values=rungs[0])
        state = RULES[name].init(key, population, None)
        for values in rungs:
            population, state, _ = update(key, population._replace(values=values), None, state)
        left.append(population.alive)
    np.testing.assert_array_equal(*left)
    assert 0 < left[0].sum() < 300


def test_changing_ranks_keep_most_agents_and_stable_ranks_prune():
    up, rng = np.arange(64.0), np.random.default_rng(2)
    rule = jd.pruning.adaptive(0.05, max_eta=np.inf)
    first, second = map(len, survivors(rule, up, rng.permutation(up)))
    # First r = 0.5. Phi^-1(0.625 / 64.25) = -2.336 and Phi^-1(0.95) = 1.645.
    assert first == np.ceil(64 * stats.norm.cdf(0.5 * -2.336 + np.sqrt(0.75) * 1.645))
    assert second > 0.8 * first
    assert survivors(rule, up, up)[1] == [0]
    bounded = jd.pruning.adaptive(0.05, max_eta=4.0)
    assert survivors(bounded, up, up) == [list(range(first)), list(range(int(np.ceil(first / 4))))]


def test_ranks_are_compared_with_stored_ranks_of_at_most_half_the_age():
    rng, rule = np.random.default_rng(4), jd.pruning.adaptive(0.05, max_eta=np.inf)
    up, a, b = np.arange(64.0), rng.permutation(64), rng.permutation(64)
    population, key = with_values(up), jax.random.key(0)
    state, kept = rule.init(key, population, None), {}
    # Ranks are stored at ages 1, 2, 4 and 8, the last two at a time.
    for age, values in ((1, a), (2, up), (3, a), (4, up), (5, b), (6, b), (7, up), (8, b), (9, up)):
        seen = population._replace(
            values=jnp.asarray(values, jnp.float32), age=jnp.full(64, age, jnp.int32)
        )
        after, state, _ = rule.update(key, seen, None, state)
        kept[age] = int(after.alive.sum())
    stable = [age for age, count in kept.items() if count == 1]
    changing = [age for age, count in kept.items() if count > 48]
    assert (stable, changing) == ([3, 4, 7, 9], [2, 5, 6, 8])


def test_bfloat16_values_are_pruned_as_float32_ones():
    rule, key = jd.pruning.adaptive(), jax.random.key(0)
    found = []
    for dtype in (jnp.bfloat16, jnp.float32):
        values = jnp.arange(64, dtype=dtype)
        population = with_values(values)._replace(values=values, best_values=values)
        state = rule.init(key, population, None)
        for _ in range(2):
            population, state, _ = rule.update(key, population, None, state)
        found.append(int(population.alive.sum()))
    assert (
        found[0] == found[1] == np.ceil(np.ceil(64 * 0.4767) / 4)
    )  # at r = 0.5, then at most 3 in 4 are pruned


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jd.pruning.successive_halving(1.0), r"eta must be in \(1, inf\), got 1"),
        (lambda: jd.pruning.successive_halving([2.0, 3.0]), r"eta must be a number in \(1, inf\)"),
        (lambda: jd.pruning.successive_halving(min_agents=0), "min_agents must be an integer"),
        (lambda: jd.pruning.gap_to_best(0.0), r"tolerance must be in \(0, inf\), got 0"),
        (lambda: jd.pruning.stalled(0), "patience must be an integer at least 1, got 0"),
        (lambda: jd.pruning.stalled(horizon=-1.0), "horizon must be in"),
        (lambda: jd.pruning.predicted_to_lose(2), "total_rungs must be an integer at least 3"),
        (lambda: jd.pruning.predicted_to_lose(9, burn_in=2), "burn_in must be an integer at"),
        (lambda: jd.pruning.adaptive(0.5), r"risk must be in \(0, 0.5\), got 0.5"),
        (lambda: jd.pruning.adaptive(max_eta=1.0), r"max_eta must be in \(1, inf\], got 1"),
        (lambda: jd.pruning.chain(), "rules must be at least one Rule"),
        (
            lambda: jd.pruning.delay(-1, jd.pruning.no_pruning()),
            "rungs must be an integer at least 0",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_rule_that_was_not_called_is_refused():
    with pytest.raises(TypeError, match="call it first"):
        jd.pruning.chain(jd.pruning.no_pruning)


def test_all_agents_stop_once_one_has_reached_the_target():
    starts = jnp.array([[1.0], [2.0], [jnp.inf]])

    def run(target):
        return jd.minimize(
            lambda x: jnp.sum(x**2),
            optax.sgd(0.25),
            init_params=starts,
            steps=6,
            steps_per_rung=1,
            rule=jd.pruning.until(target),
        )

    values = 4.0 ** -np.arange(1, 7)  # of agent 0, after each step
    reached = run(values[2])
    assert reached.history.survivors.tolist() == [2, 2, 0, 0, 0, 0]
    assert (reached.value, reached.gradients) == (values[2], 2 * 4 + 2)
    assert run(values[-1] / 2).history.survivors.tolist() == [2] * 6
