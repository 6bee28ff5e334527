"""Agents stay in the bounds of a problem, and one learning rate serves every box."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.agents.loops.minimize_loop import NUDGE

NO_PRUNING = jd.pruning.no_pruning()
SQUARE = jnp.ones(2)


def linear(x):
    return jnp.sum(x)


def roots(x):
    return jnp.sum(jnp.sqrt(x))


def shifted_roots(x):
    return jnp.sum(x) - jnp.sum(jnp.sqrt(x))  # least at 1/4, and of slope -inf at 0


def entropy(x):
    return jnp.sum(x * jnp.log(x))  # not defined at 0


def holder_table(x):
    radius = jnp.sqrt(jnp.sum(x**2))
    return -jnp.abs(jnp.sin(x[0]) * jnp.cos(x[1]) * jnp.exp(jnp.abs(1 - radius / jnp.pi)))


def eggholder(x):
    a, b = x
    inner = (b + 47) * jnp.sin(jnp.sqrt(jnp.abs(a / 2 + b + 47)))
    return -inner - a * jnp.sin(jnp.sqrt(jnp.abs(a - b - 47)))


def inside(points, problem):
    """True if all points, in float64, are within the bounds as the user gave them."""
    points = np.asarray(points, np.float64)
    return bool(np.all((points >= problem.lower) & (points <= problem.upper)))


def minimized(function, lower, upper, optimizer, **changes):
    """Returns a problem and the result of its minimization, with every point recorded."""
    options = {"bounds": changes.pop("bounds", "project")}
    problem = jd.Problem(function, lower, upper, **options)
    agents = None if "init_params" in changes else 8
    settings = {"num_agents": agents, "steps": 40, "steps_per_rung": 1, "rule": NO_PRUNING}
    settings |= {"record_params": True, "key": jax.random.key(0)}
    return problem, jd.minimize(problem, optimizer, **settings | changes)


@pytest.mark.parametrize("bounds", ["project", "reflect"])
def test_no_agent_leaves_the_box_at_any_step(bounds):
    low, high = np.array([-0.1, 0.3]), np.array([0.7, 1.1])  # no float32 numbers
    hopping = jd.basin_hopping(optax.adam(0.1), period=3, jump=1.0)
    problem, result = minimized(linear, low, high, hopping, bounds=bounds)
    assert inside(result.history.params, problem)
    assert inside(result.population.best_params, problem)
    assert np.all(np.asarray(result.params, np.float64) >= low)
    if bounds == "project":
        np.testing.assert_array_equal(result.params, problem.lower)
        np.testing.assert_allclose(result.value, 0.2, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "half", "least"),
    [(linear, 1.0, -2.0), (holder_table, 10.0, -19.2085), (eggholder, 512.0, -959.6407)],
)
def test_the_minimum_in_the_box_is_found_where_lower_values_are_outside(function, half, least):
    result = jd.minimize(
        jd.Problem(function, -half * SQUARE, half * SQUARE),
        optax.adam(0.005),
        num_agents=256,
        gradient_budget=20_000,
        num_rungs=8,
        key=jax.random.key(0),
    )
    assert np.all(np.abs(result.params) <= half)
    np.testing.assert_allclose(result.value, least, rtol=1e-5)


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_momentum_does_not_grow_against_a_bound(bound):
    # The slope changes sign when x_1 has moved: an agent at the bound of x_0 must leave it at once.
    def turning(x):
        outward = jnp.where(x[1] > 0.5, 1.0, -1.0) * x[0]
        return (outward if bound == 0 else -outward) - 0.01 * x[1]

    problem = jd.Problem(turning, jnp.zeros(2), jnp.ones(2))
    starts = jnp.array([[bound, 0.9], [bound, 0.9]])
    loop = jd.minimize_loop(problem, optax.sgd(0.01, momentum=0.9), num_agents=2, rule=NO_PRUNING)
    state, _ = jax.jit(loop.step)(loop.init(jax.random.key(0), starts), 30)
    np.testing.assert_array_equal(state.population.opt_state[0].trace[:, 0], 0.0)
    np.testing.assert_array_equal(state.population.grads[:, 0], 0.0)
    np.testing.assert_array_less(0, -np.asarray(state.population.grads[:, 1]))


@pytest.mark.parametrize("rate", [0.05, 0.5])
@pytest.mark.parametrize(
    ("function", "lower", "least"),
    [(roots, 0.0, 0.0), (shifted_roots, 0.0, -0.5), (entropy, 1e-3, -2 / math.e)],
)
def test_infinite_slopes_at_a_bound_neither_remove_agents_nor_stop_them(
    function, lower, least, rate
):
    result = jd.minimize(
        jd.Problem(function, jnp.full(2, lower), SQUARE),
        optax.adam,
        hyperparams={"learning_rate": rate},
        num_agents=64,
        steps=200,
        num_rungs=4,
        rule=NO_PRUNING,
    )
    assert result.history.not_finite.tolist() == [0] * 4
    assert all(map(np.all, map(np.isfinite, jax.tree.leaves(result.population.opt_state))))
    np.testing.assert_allclose(result.value, least, atol=1e-5)
    if function is roots:
        np.testing.assert_array_equal(result.population.params, 0.0)
    else:  # no agent is stuck at the bound
        assert np.all(np.asarray(result.population.best_values) < least + 0.02)


def test_an_agent_leaves_a_point_of_infinite_slope_by_a_small_step():
    starts = jnp.array([[0.0], [0.25]])
    _, result = minimized(
        shifted_roots, jnp.zeros(1), jnp.ones(1), optax.sgd(0.0), init_params=starts, steps=1
    )
    np.testing.assert_array_equal(result.population.params[:, 0], [NUDGE, 0.25])

    def mirrored(x):  # of slope inf at 1
        return shifted_roots(1 - x)

    _, result = minimized(
        mirrored, jnp.zeros(1), jnp.ones(1), optax.sgd(0.0), init_params=1 - starts, steps=1
    )
    np.testing.assert_array_equal(result.population.params[:, 0], [1 - NUDGE, 0.75])


def test_self_tuned_and_tower_optimizers_keep_a_learning_rate_of_use_at_a_bound():
    optimizers = (
        jd.self_tuning(optax.adam),
        jd.hypergradient(optax.sgd, optax.sgd(1e-3), tune={"learning_rate": jd.positive(0.05)}),
    )
    for optimizer in optimizers:
        problem, result = minimized(
            linear, -SQUARE, SQUARE, optimizer, num_agents=4, steps=300, steps_per_rung=100
        )
        assert inside(result.history.params, problem)
        np.testing.assert_array_equal(result.population.params, -1.0)
        rates = jax.vmap(lambda s: jd.get_hyperparams(s)[0]["learning_rate"])(
            result.population.opt_state
        )
        assert np.all((rates > 0) & (rates < 10))


def test_agents_that_a_rule_moves_are_moved_into_the_bounds():
    def place(key, population, problem, state):
        far = population.params + jnp.array([3.0, -3.0])
        return jd.place_agents(population, population.ids < 2, far, problem), state, None

    def perturb(key, population, problem, state):
        population = jd.copy_agents(population, jnp.zeros(4, jnp.int32))
        noise = 5 * jax.random.normal(key, population.params.shape)
        population = population._replace(
            params=population.params + noise, evaluated=population.evaluated & False
        )
        return population, state, None

    for update in (place, perturb):
        rule = jd.Rule(lambda *_: None, update)
        problem, result = minimized(
            linear, -SQUARE, SQUARE, optax.sgd(0.0), num_agents=4, steps=3, rule=rule
        )
        assert inside(result.history.params, problem)
        assert inside(result.population.params, problem)
        # Projected: every moved agent is at a bound, or was not moved out.
        assert np.any(np.abs(result.population.params) == 1)


def test_the_mean_of_agents_in_the_bounds_is_in_the_bounds():
    agents = jnp.full((3, 100), np.float32(0.1)) * jnp.arange(1, 101)
    for weights in ([1.0, 1.0, 1.0], [0.3, 0.6, 0.1], [True, True, True]):
        mean = jd.weighted_average(agents, np.array(weights))
        np.testing.assert_array_equal(mean, agents[0])


def test_starts_outside_the_bounds_are_moved_into_them():
    starts = jnp.array([[2.0, 0.0], [-5.0, jnp.inf]])
    _, result = minimized(linear, -SQUARE, SQUARE, optax.sgd(0.0), init_params=starts, steps=0)
    np.testing.assert_array_equal(result.population.params, [[1, 0], [-1, 1]])


def test_an_agent_with_an_update_of_nan_is_removed_within_the_bounds():
    def broken(x):
        return jnp.where(x[0] > 0.5, jnp.nan, jnp.sum(x))

    starts = jnp.array([[0.9, 0.0], [0.2, 0.1]])
    problem, result = minimized(
        broken, -SQUARE, SQUARE, optax.sgd(0.01), init_params=starts, steps=3
    )
    assert result.history.not_finite.tolist() == [1, 0, 0]
    assert inside(result.history.params, problem)
    assert (result.id, result.outcome) == (1, jd.PopulationOutcome.SURVIVORS)


@pytest.mark.parametrize("bounds", ["project", None])
def test_a_value_that_ignores_parameters_of_nan_does_not_count(bounds):
    def positive_part(x):
        return jnp.sum(jnp.where(x > 0, x, 0.0))  # 0 at NaN

    def break_first(updates, state, params):
        return jnp.where(params > 0.3, jnp.nan, 0.0), state  # in widths of the box

    tx = optax.GradientTransformation(optax.init_empty_state, break_first)
    starts = jnp.array([[0.9, 0.8], [0.2, 0.1], [jnp.nan, 0.1]])
    _, result = minimized(
        positive_part, -SQUARE, SQUARE, tx, init_params=starts, steps=2, bounds=bounds
    )
    assert result.history.not_finite.tolist() == [2, 0]
    np.testing.assert_array_equal(result.params, starts[1])
    assert result.value == positive_part(starts[1])
    assert np.all(np.isfinite(result.population.best_params[:2]))


def test_values_that_overflow_at_all_starts_are_reported():
    def cross_in_tray(x):
        peak = jnp.exp(jnp.abs(100 - jnp.sqrt(jnp.sum(x**2)) / jnp.pi))  # above 1e38
        return -1e-4 * (jnp.abs(jnp.sin(x[0]) * jnp.sin(x[1]) * peak) + 1) ** 0.1

    with pytest.warns(RuntimeWarning, match=r"at the first start it is -inf, which may be an over"):
        _, result = minimized(cross_in_tray, -10 * SQUARE, 10 * SQUARE, optax.adam(0.01), steps=2)
    assert result.outcome == jd.PopulationOutcome.UNDEFINED
    assert np.all(np.abs(result.params) <= 10)


def rippled(x, center, width):
    z = (x - center) / width
    return jnp.sum(z**2 + 0.2 * jnp.sin(20 * z) ** 2)


def test_a_box_scaled_by_a_power_of_two_gives_the_same_run_to_the_bit():
    factors = (0.125, 1.0, 64.0)
    results = []
    for factor in factors:
        low, high = -5.12 * factor * SQUARE, 5.12 * factor * SQUARE
        data = (jnp.array([0.7, -1.3]) * factor, jnp.float32(10.24 * factor))
        problem = jd.Problem(rippled, low, high, data)
        results.append(
            jd.minimize(
                problem,
                jd.basin_hopping(optax.adam(0.01, b2=0.99), period=20, jump=0.1),
                num_agents=16,
                steps=60,
                num_rungs=3,
                record_params=True,
                rule=jd.pruning.successive_halving(),
            )
        )
    for factor, result in zip(factors, results, strict=True):
        expected = results[1]
        np.testing.assert_array_equal(result.history.params, factor * expected.history.params)
        np.testing.assert_array_equal(result.history.values, expected.history.values)
        np.testing.assert_array_equal(result.history.diversity, expected.history.diversity)
        np.testing.assert_array_equal(result.population.grads, expected.population.grads)
        np.testing.assert_array_equal(result.params, factor * expected.params)
        chex.assert_trees_all_equal(
            result.population.opt_state[0], expected.population.opt_state[0]
        )


@pytest.mark.parametrize("optimizer", [optax.adamw(0.02, weight_decay=0.1), optax.lamb(0.02)])
def test_one_rate_serves_boxes_of_any_size_at_any_place(optimizer):
    def bowl(x, lower, width):
        return sum(jnp.sum(((x[k] - lower[k]) / width[k] - 0.25) ** 2) for k in x)

    def values(width, place):
        width = {"a": jnp.array(width), "b": jnp.array(width[:1])}
        lower = jax.tree.map(lambda w: place * jnp.ones_like(w), width)
        upper = jax.tree.map(jnp.add, lower, width)
        problem = jd.Problem(bowl, lower, upper, (lower, width))
        return jd.minimize(
            problem, optimizer, num_agents=4, steps=12, num_rungs=2, rule=NO_PRUNING
        ).history.values

    expected = values([1.0, 1.0], 0.0)
    for other in (values([512.0, 0.5], -256.0), values([1.0, 1.0], 100.0)):
        np.testing.assert_allclose(other, expected, rtol=0.02, atol=1e-4)


def test_optimizers_see_differences_from_the_center_in_widths():
    seen = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda x: seen.append(x.tolist()), params)
        return updates, state

    tx = optax.GradientTransformation(optax.init_empty_state, update)
    low, high = jnp.array([10.0, 0.0]), jnp.array([14.0, jnp.inf])
    problem = jd.Problem(linear, low, high)
    jd.minimize(problem, tx, init_params=jnp.array([[11.0, 3.0]]), steps=1)
    jax.effects_barrier()
    assert seen == [[-0.25, 3.0]]


def test_diversity_is_in_widths_of_the_box():
    starts = jnp.array([[0.0, 0.0], [2.0, 40.0]])
    low, high = jnp.zeros(2), jnp.array([4.0, 100.0])
    _, result = minimized(linear, low, high, optax.sgd(0.0), init_params=starts, steps=1)
    # Distances from the mean are 1/4 and 20/100.
    expected = math.sqrt((0.25**2 + 0.2**2) / 2)
    np.testing.assert_allclose(result.history.diversity, [expected], rtol=1e-6)


def test_an_optimizer_sees_units_of_the_box_where_it_is_finite():
    seen = {}

    def update(updates, state, params, *, value, grad, value_fn):
        seen.update(grads=grad, params=params, value=value, again=value_fn(params))
        return jax.tree.map(lambda g: -0.25 * jnp.ones_like(g), updates), state

    tx = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
    low, high = jnp.array([-2.0, -jnp.inf, 0.0]), jnp.array([2.0, jnp.inf, jnp.inf])
    problem = jd.Problem(lambda x: jnp.sum(x**2), low, high)

    @jax.jit
    def one_step(starts):
        loop = jd.minimize_loop(problem, tx, num_agents=1, rule=NO_PRUNING)
        state, _ = loop.step(loop.init(jax.random.key(0), starts), 1)
        return state.population

    population = one_step(jnp.array([[1.0, 5.0, 0.125]]))
    # A width of 4, and no units along the two others; the last coordinate ends at its bound.
    np.testing.assert_array_equal(population.params, [[1 - 4 * 0.25, 5 - 0.25, 0.0]])
    np.testing.assert_array_equal(population.grads, [[0.0, 9.5, 0.0]])
    assert problem.scale.tolist() == [4.0, 1.0, 1.0]
    plain = dataclasses.replace(problem, unit_box=False)
    assert plain.scale.tolist() == [1.0, 1.0, 1.0]
    assert set(seen) == {"grads", "params", "value", "again"}


def test_line_searches_stay_in_the_bounds_and_find_the_minimum():
    problem, result = minimized(
        roots, jnp.full(2, 0.1), SQUARE, optax.lbfgs(), num_agents=2, steps=15, steps_per_rung=5
    )
    assert inside(result.history.params, problem)
    np.testing.assert_array_equal(result.params, problem.lower)


def test_line_searches_find_a_minimum_in_a_box_far_from_0():
    def bowl(x):
        return jnp.sum((x - 11.5) ** 4)

    low = 10 * SQUARE
    _, result = minimized(bowl, low, low + 2, optax.lbfgs(), num_agents=2, steps=20)
    np.testing.assert_allclose(result.params, 11.5, atol=0.01)


def test_starts_need_a_finite_box_but_bounds_do_not():
    def bowl(x):
        return jnp.sum((x - 1) ** 2)

    half_line = jd.Problem(bowl, jnp.zeros(2), jnp.full(2, jnp.inf))
    with pytest.raises(ValueError, match=r"finite to draw starts .*start_lower and start_upper"):
        jd.minimize(half_line, optax.adam(0.1), num_agents=4, steps=1)
    with_starts = dataclasses.replace(half_line, start_lower=2 * SQUARE, start_upper=3 * SQUARE)
    loop = jd.minimize_loop(with_starts, optax.sgd(0.25), num_agents=50, rule=NO_PRUNING)
    state = loop.init(jax.random.key(0))
    starts = np.asarray(state.population.params)
    assert 2 <= starts.min() < 2.1 < 2.9 < starts.max() <= 3
    with pytest.raises(ValueError, match="finite to draw starts"):
        jd.minimize_loop(half_line, optax.sgd(0.1), num_agents=2).init(jax.random.key(0))


def test_without_bounds_descent_may_leave_the_box():
    low, high = -SQUARE, SQUARE
    _, result = minimized(linear, low, high, optax.sgd(0.5), bounds=None, steps=9)
    # A step of the rate times the slope in units of the box, 2, times the width, 2.
    np.testing.assert_allclose(
        result.history.params[-1], result.history.params[0] - 8 * 2, rtol=1e-5
    )


def test_bounds_hold_in_16_bits_and_in_double_precision():
    def wide(x):
        return jnp.sum(x.astype(jnp.float32))

    starts = jnp.full((2, 3), 0.2, jnp.bfloat16)
    low, high = jnp.full(3, 0.1), jnp.full(3, 0.3)  # between bf16 numbers
    for sign in (1.0, -1.0):
        problem, result = minimized(wide, low, high, optax.sgd(sign), init_params=starts, steps=2)
        assert result.params.dtype == jnp.bfloat16
        assert inside(result.history.params.astype(jnp.float32), problem)
        assert np.ptp(np.asarray(result.population.params, np.float32)) == 0
    with jax.enable_x64(True):
        _, result = minimized(linear, np.zeros(2), np.full(2, 0.1), optax.sgd(-99.0), steps=2)
        np.testing.assert_array_equal(result.population.params, np.float64(0.1))
