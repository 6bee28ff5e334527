"""jd.hybrid finds global minima within its bounds and its budget, with nothing to tune."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.global_search import islands
from jaxdescent.global_search.parts import Parts

BOX = jnp.full(2, 5.0)


def rastrigin(x):
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)


# Functions of x and of a shift. One program serves all of them.
FUNCTIONS = {
    "rastrigin": lambda x, shift: rastrigin(x - shift),
    "bowl": lambda x, shift: jnp.sum((x - shift) ** 2),
    "slope": lambda x, shift: shift[0] * x[0] + shift[1] * x[1],
    "roots": lambda x, _: jnp.sum(x - jnp.sqrt(x)),
    "holes": lambda x, shift: jnp.where(
        x[0] < 0, jnp.nan, jnp.where(x[1] < 0, jnp.inf, rastrigin(x - shift))
    ),
    "hole": lambda x, _: -jnp.exp(-20 * jnp.sum((x - 0.71 * 5) ** 2)),
    "undefined": lambda x, _: jnp.sum(x) * jnp.nan,
    "undefined outside": lambda x, shift: jnp.where(
        jnp.all((x >= 0.1) & (x <= jnp.array([0.3, 1e4]))), jnp.sum(jnp.sin(9 * x)), -jnp.inf
    ),
}


def switched(x, number, shift, divisor, factor):
    return factor * jax.lax.switch(number, list(FUNCTIONS.values()), x / divisor, shift)


def problem_of(name, shift=(1.0, 1.0), lower=-BOX, upper=BOX, divisor=1.0, factor=1.0, **options):
    number = list(FUNCTIONS).index(name)
    data = (np.int32(number), *(np.asarray(x, np.float32) for x in (shift, divisor, factor)))
    return jd.Problem(switched, lower, upper, data=data, **options)


def reason(result):
    return jd.StopReason(int(result.stop_reason)).name


@pytest.mark.parametrize("name", ["rotated_rastrigin", "schwefel"])
def test_hard_functions_of_ten_variables_are_solved_by_one_setting(name):
    with jax.enable_x64(True):
        problem = jd.problems.hard_suite(10, key=jax.random.key(3))[name]
        result = jd.hybrid(problem, target=float(problem.minimum) + 1e-8)
        assert reason(result) == "TARGET"
        assert result.evaluations_to_best <= 50_000
        assert result.value == pytest.approx(float(problem.value(result.params)), abs=1e-9)
        assert jnp.all((problem.lower <= result.params) & (result.params <= problem.upper))


def test_a_staircase_without_gradients_is_solved_by_the_search_over_points():
    with jax.enable_x64(True):
        result = jd.hybrid(jd.problems.bbob(7, 5, 17, offset=False), target=1e-8)
    assert reason(result) == "TARGET"


class TestBudget:
    @pytest.mark.parametrize("budget", [1, 2, 15, 16, 17, 100, 1_000, 5_000])
    def test_is_used_but_never_exceeded(self, budget):
        problem = problem_of("rastrigin")
        result = jd.hybrid(problem, max_evaluations=budget, patience=None)
        assert 0.9 * budget - 140 <= result.evaluations <= budget
        assert 1 <= result.evaluations_to_best <= result.evaluations
        assert reason(result) == "BUDGET"
        assert result.value == pytest.approx(float(problem.value(result.params)), abs=1e-4)

    def test_one_lane_computes_what_is_counted_and_nothing_else(self):
        calls = collections.Counter()

        @jax.custom_vjp
        def counted(x):
            jax.debug.callback(lambda _: calls.update(["value"]), x)
            return rastrigin(x)

        def forward(x):
            jax.debug.callback(lambda _: calls.update(["gradient"]), x)
            return jax.value_and_grad(rastrigin)(x)

        counted.defvjp(forward, lambda grad, g: (g * grad,))
        result = jd.hybrid(
            counted, bounds=(-BOX, 0.7 * BOX), max_evaluations=3_000, lanes=1, patience=None
        )
        jax.effects_barrier()
        assert calls["gradient"] == result.gradients
        # A search along the coordinates takes 200.
        assert calls["value"] == result.evaluations - result.gradients > 200
        assert result.evaluations_computed == result.evaluations
        assert result.gradients_to_best <= result.gradients

    def test_descents_side_by_side_are_computed_until_the_last_has_ended(self):
        side_by_side = jd.hybrid(problem_of("rastrigin"), max_evaluations=500)
        assert side_by_side.evaluations_computed > side_by_side.evaluations

    def test_default_is_ten_thousand_per_coordinate(self):
        result = jd.hybrid(problem_of("rastrigin"))
        assert result.history.evaluations[-1] == 20_000

    def test_history_decreases_to_the_result(self):
        result = jd.hybrid(problem_of("rastrigin"), max_evaluations=2_000, patience=None)
        counts, values = result.history
        assert counts[0] == 1
        assert jnp.all(jnp.diff(counts) >= 0)
        assert jnp.all(values[1:] <= values[:-1])
        assert values[-1] == result.value
        assert jnp.isinf(values[0])


class TestStops:
    def test_at_the_target(self):
        result = jd.hybrid(problem_of("bowl"), target=1e-3)
        assert reason(result) == "TARGET"
        assert result.value <= 1e-3
        assert result.evaluations < 10  # the first descent ends there
        assert result.evaluations < 200

    def test_after_restarts_without_a_lower_value(self):
        result = jd.hybrid(problem_of("bowl"), patience=5)
        assert reason(result) == "CONVERGED"
        assert jnp.sum(result.restarts) >= 5
        assert 2_000 <= result.evaluations < 5_000  # at least 1,000 for each coordinate
        np.testing.assert_allclose(result.params, 1.0, atol=1e-6)

    def test_not_before_a_small_hole_in_a_plateau_is_found(self):
        values = [jd.hybrid(problem_of("hole"), key=jax.random.key(i)).value for i in range(4)]
        np.testing.assert_allclose(values, -1.0, atol=1e-3)

    def test_at_a_target_that_its_dtype_cannot_hold(self):
        assert reason(jd.hybrid(problem_of("bowl"), target=1e300)) == "TARGET"

    @pytest.mark.parametrize("key", range(6))
    def test_with_a_descent_from_the_best_point(self, key):
        problem = problem_of("rastrigin", shift=(0.3, 0.4))
        result = jd.hybrid(problem, max_evaluations=300, key=jax.random.key(key))
        _, grad = problem.value_and_grad(result.params)
        np.testing.assert_allclose(grad, 0.0, atol=2e-2)
        assert result.evaluations_computed >= result.evaluations

    def test_with_a_warning_where_nothing_is_finite(self):
        with pytest.warns(RuntimeWarning, match="finite somewhere in the box"):
            result = jd.hybrid(problem_of("undefined"), max_evaluations=500)
        assert reason(result) == "UNDEFINED"
        assert jnp.isinf(result.value)


class TestBounds:
    def test_no_point_outside_is_evaluated(self):
        lower, upper = jnp.full(2, 0.1), jnp.array([0.3, 1e4])
        problem = problem_of("undefined outside", lower=lower, upper=upper)
        result = jd.hybrid(problem, max_evaluations=3_000)
        # -inf outside would be the minimum.
        assert result.value == pytest.approx(np.sin(9 * 0.3) - 1, abs=1e-3)

    def test_minimum_at_a_corner_is_exact(self):
        result = jd.hybrid(problem_of("slope", shift=(1.0, -3.0)), max_evaluations=500)
        assert result.params.tolist() == [-5.0, 5.0]

    def test_slope_may_be_infinite_at_a_bound(self):
        problem = problem_of("roots", lower=jnp.zeros(2), upper=jnp.ones(2))
        np.testing.assert_allclose(jd.hybrid(problem).params, 0.25, atol=1e-3)

    def test_starts_have_a_box_of_their_own_and_one_side_may_be_open(self):
        sides = {"start_lower": jnp.zeros(2), "start_upper": jnp.ones(2)}
        sides |= {"lower": jnp.zeros(2), "upper": jnp.full(2, jnp.inf)}
        result = jd.hybrid(problem_of("bowl", shift=(40.0, 0.0), **sides), max_evaluations=2_000)
        np.testing.assert_allclose(result.params, [40.0, 0.0], rtol=1e-5, atol=1e-6)

    def test_without_bounds_the_box_is_only_for_starts(self):
        problem = problem_of("bowl", shift=(40.0, -40.0), bounds=None)
        result = jd.hybrid(problem, max_evaluations=2_000)
        np.testing.assert_allclose(result.params, [40.0, -40.0], rtol=1e-5)

    def test_a_width_that_overflows_is_refused(self):
        with pytest.raises(ValueError, match="differ by a normal float32 number"):
            jd.hybrid(problem_of("bowl", lower=jnp.full(2, -3e38), upper=jnp.full(2, 3e38)))

    def test_drawn_starts_do_not_replace_a_finite_box(self):
        def sample(key, _):
            return jax.random.normal(key, (2,))

        sides = {"lower": jnp.full(2, -jnp.inf), "upper": jnp.full(2, jnp.inf)}
        with pytest.raises(ValueError, match="must be finite to draw starts from"):
            jd.hybrid(problem_of("bowl", sample_fn=sample, **sides))


@pytest.mark.parametrize("scale", [2.0**-7, 2.0**7])
def test_scales_of_box_and_values_do_not_change_the_search(scale):
    def run(**options):
        problem = problem_of("rastrigin", shift=(0.3, -1.1), **options)
        return jd.hybrid(problem, max_evaluations=3_000, patience=None)

    plain = run()
    wide = run(divisor=scale, lower=-BOX * scale, upper=BOX * scale)
    high = run(factor=scale)
    assert plain.evaluations_to_best == wide.evaluations_to_best == high.evaluations_to_best
    np.testing.assert_array_equal(wide.params / scale, plain.params)
    np.testing.assert_array_equal(high.params, plain.params)
    assert plain.value == wide.value == high.value / scale


def test_values_that_are_not_finite_are_avoided():
    result = jd.hybrid(problem_of("holes", shift=(0.7, 0.7)))
    np.testing.assert_allclose(result.params, 0.7, atol=1e-3)


def test_one_program_serves_all_keys_budgets_and_targets():
    traces = []

    def counted(x):
        traces.append(x)
        return jnp.sum((x - 1.0) ** 2)

    first = jd.hybrid(counted, bounds=(-BOX, BOX), max_evaluations=300)
    assert first.value < 1e-6
    before = len(traces)
    for i in range(3):
        jd.hybrid(
            counted,
            bounds=(-BOX * (i + 1), BOX),
            key=jax.random.key(i),
            max_evaluations=200 + i,
            target=None if i else 1e-3,
            patience=4 + i,
        )
    # Only the shape of the value is checked again.
    assert len(traces) <= before + 3


def test_parameters_are_trees_of_any_precision():
    def function(tree):
        return jnp.sum((tree["w"] - 0.5) ** 2) + (tree["b"] + 0.25) ** 2

    lower = {"w": jnp.full((2, 1), -1, jnp.bfloat16), "b": jnp.asarray(-1.0)}
    upper = jax.tree.map(jnp.negative, lower)
    result = jd.hybrid(function, bounds=(lower, upper), max_evaluations=600)
    assert [x.dtype for x in jax.tree.leaves(result.params)] == [jnp.float32, jnp.bfloat16]
    np.testing.assert_allclose(result.params["b"], -0.25, atol=1e-3)
    assert jnp.all(result.params["w"] == 0.5)


def test_one_coordinate_is_enough():
    result = jd.hybrid(lambda x: jnp.cos(3 * x) + 0.1 * x, bounds=(-4.0, 4.0), max_evaluations=600)
    assert result.params == pytest.approx(-np.pi - np.arcsin(1 / 30) / 3, abs=1e-3)


def test_vmap_over_problems_equals_single_runs():
    def solve(shift, key):
        problem = jd.Problem(lambda x, shift: rastrigin(x - shift), -BOX, BOX, data=(shift,))
        return jd.hybrid(problem, key=key, max_evaluations=1_000)

    shifts, keys = jnp.array([[0.1, 0.2], [-1.0, 2.0]]), jax.random.split(jax.random.key(0))
    together = jax.jit(jax.vmap(solve))(shifts, keys)
    np.testing.assert_allclose(together.params, shifts, atol=1e-3)
    for i in range(2):
        alone = jd.hybrid(problem_of("rastrigin", shifts[i]), key=keys[i], max_evaluations=1_000)
        np.testing.assert_allclose(together.params[i], alone.params, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bounds": None}, ValueError, r"bounds must be \(lower, upper\)"),
        ({"bounds": [(0, 1), (2, 3)]}, ValueError, r"bounds must be .*pairs.*numpy.transpose"),
        ({"bounds": ([False], [True])}, ValueError, "must have real floating-point leaves"),
        ({"bounds": (BOX, -BOX)}, ValueError, "lower must be below upper"),
        ({"bounds": (-BOX, BOX * jnp.inf)}, ValueError, "must be finite to draw starts from"),
        ({"bounds": (-BOX, jnp.ones(3))}, ValueError, "upper must have"),
        ({"problem": 3.0}, TypeError, "problem must be a function"),
        ({"problem": lambda x: x}, ValueError, "problem must return a real scalar"),
        ({"problem": jd.problems.booth()}, ValueError, "bounds must be None with a jd.Problem"),
        ({"max_evaluations": 0}, ValueError, r"max_evaluations must be .*got 0"),
        ({"max_evaluations": 1.5}, (ValueError, TypeError), "max_evaluations must be"),
        ({"target": np.nan}, ValueError, "target must be"),
        ({"patience": 0}, ValueError, "patience must be"),
        ({"lanes": 0}, ValueError, "lanes must be"),
        ({"key": 3}, TypeError, "key must be"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    arguments = {"problem": rastrigin, "bounds": (-BOX, BOX), **arguments}
    with pytest.raises(error, match=message):
        jd.hybrid(arguments.pop("problem"), **arguments)


def test_too_many_coordinates_are_refused():
    box = jnp.ones(2_001)
    with pytest.raises(ValueError, match="at most 2000 coordinates, got 2001"):
        jd.hybrid(rastrigin, bounds=(-box, box))


def test_restarts_alternate_between_large_and_small_populations():
    @jax.jit
    def restarts(key):
        def restart(island, i):
            island = island._replace(evaluations=island.evaluations + 100 * island.population_size)
            island = islands._restarted(island, islands.POINTS, jax.random.fold_in(key, i), Parts())
            return island, (island.regime, island.population_size, island.gaussian.sigma)

        first = islands.begin(jnp.full(5, 0.5), islands.POINTS)
        return jax.lax.scan(restart, first, jnp.arange(40))[1]

    regimes, sizes, sigmas = map(np.asarray, restarts(jax.random.key(0)))
    large, small = sizes[regimes == 0], sizes[regimes == 1]
    doubled = [min(16 * 2 ** (i + 1), islands.LARGEST_POPULATION) for i in range(len(large))]
    assert large.tolist() == doubled
    assert len(small) > 2 * len(large) > 4
    assert small.min() >= 16
    assert np.all(small <= islands.LARGEST_POPULATION / 2)
    np.testing.assert_allclose(sigmas[regimes == 0], islands.SIGMA[islands.POINTS])
    assert 0.002 <= sigmas[regimes == 1].min() < 0.02 < sigmas[regimes == 1].max() <= 0.2
