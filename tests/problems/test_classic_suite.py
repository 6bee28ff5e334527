"""The classic suite: published values, and properties of problems with known minima."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from jaxdescent.problems import CLASSIC_SUITE
from jaxdescent.problems.placement import MIDDLE_FRACTION, orthogonal
from tests.problems.textbook import PUBLISHED

every_one = pytest.mark.parametrize("name", CLASSIC_SUITE)
TWO_DIMENSIONAL = {
    name
    for name, factory in CLASSIC_SUITE.items()
    if "dimension" not in inspect.signature(factory).parameters
}
DIMENSION = 3  # the default here, for functions of any dimension

ROWS = 128
_evaluate = jax.jit(jax.vmap(jd.Problem.value_and_grad, (None, 0)))
_values = jax.jit(jax.vmap(jd.Problem.value, (None, 0)))
law = settings(deadline=None, derandomize=True, max_examples=3)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield


def make(name, seed=None, dimension=DIMENSION):
    """Creates the textbook's problem, or shifts and rotates it by a key."""
    sizes = () if name in TWO_DIMENSIONAL else (dimension,)
    if seed is None:
        return CLASSIC_SUITE[name](*sizes)
    options = {} if name == "rotated_rastrigin" else {"rotated": True}
    return CLASSIC_SUITE[name](*sizes, key=jax.random.key(seed), **options)


def evaluate(problem, points):
    """Returns values and gradients. Points are padded, so that a function compiles once."""
    padded = jnp.resize(points, (ROWS, problem.dimension))
    values, grads = _evaluate(problem, padded)
    return values[: len(points)], grads[: len(points)]


def sample_box(problem, count, reach, seed=0):
    """Samples points that are uniform in the box, enlarged by a factor."""
    middle, half = (problem.lower + problem.upper) / 2, (problem.upper - problem.lower) / 2
    return middle + reach * half * np.random.default_rng(seed).uniform(-1, 1, (count, half.size))


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_and_minima_equal_the_published_ones(name):
    formula, minimum, minimizer = PUBLISHED[name]
    problem = make(name)
    points = sample_box(problem, 64, 1.0)
    values = evaluate(problem, points)[0]
    expected = [formula(x) for x in np.asarray(points)]
    np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-11)

    flat = make(name, dimension=2)
    np.testing.assert_allclose(flat.minimum, minimum, atol=1e-4)
    nearest = np.abs(flat.optima - np.array(minimizer)).max(1).min()
    assert nearest < 6e-5


def test_minima_in_ten_dimensions():
    # Michalewicz's minimum is tabulated; Styblinski-Tang's follows from one coordinate.
    np.testing.assert_allclose(jd.problems.michalewicz(10).minimum, -9.66015, atol=6e-6)
    np.testing.assert_allclose(jd.problems.styblinski_tang(10).minimum, -391.66166, atol=6e-6)


@every_one
@given(seed=st.integers(0, 2**32 - 1))
@law
def test_optima_have_the_minimum_and_no_value_is_below(name, seed):
    for problem in (make(name), make(name, seed)):
        values, grads = evaluate(problem, problem.optima)
        np.testing.assert_allclose(values, np.full(len(values), problem.minimum), atol=1e-10)
        curvature = 1e4  # the rounding error of a minimizer is 1e-16 of the box
        np.testing.assert_allclose(grads, 0, atol=curvature * 1e-15 * np.max(problem.upper))
        near = problem.optima[0] + 1e-2 * sample_box(problem, 64, 0.1, seed)
        for points in (
            near,
            sample_box(problem, ROWS, 1.0, seed),
            sample_box(problem, ROWS, 2.0, seed),
        ):
            values, grads = evaluate(problem, points)
            assert values.min() >= problem.minimum - 1e-10
            assert np.isfinite(grads).all()


@pytest.mark.parametrize("name", ["schwefel", "michalewicz"])
def test_the_minimum_holds_far_outside_the_box(name):
    # Both are sums over coordinates, and unbounded below without a penalty.
    problem = make(name, dimension=1)
    middle, half = (problem.lower + problem.upper) / 2, (problem.upper - problem.lower) / 2
    line = middle + half * jnp.linspace(-20, 20, 40_001)[:, None]
    assert _values(problem, line).min() >= problem.minimum - 1e-10


@pytest.mark.parametrize("name", ["ackley", "rastrigin", "griewank"])
def test_values_near_a_minimum_of_0_are_accurate_in_float32(name):
    moves = 1e-5 * np.random.default_rng(0).normal(size=(ROWS, DIMENSION))
    problem = make(name)
    near = (moves * np.asarray(problem.upper)).astype(np.float32)
    expected = _values(problem, jnp.asarray(near, float))
    with jax.enable_x64(False):
        values = _values(make(name), near)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@every_one
@given(seed=st.integers(0, 2**32 - 1))
@law
def test_shifted_minimizers_stay_in_the_middle_of_the_box(name, seed):
    problem = make(name, seed)
    middle, half = (problem.lower + problem.upper) / 2, (problem.upper - problem.lower) / 2
    # Himmelblau's four minima may be wider than the middle when rotated.
    fraction = 1.0 if name == "himmelblau" else MIDDLE_FRACTION
    assert np.abs((problem.optima - middle) / half).max() <= fraction + 1e-12
    assert np.abs(problem.optima - make(name).optima).max() > 1e-3


@every_one
def test_gradients_equal_finite_differences(name):
    problem = make(name, 1)
    near = problem.optima[0] + 5e-3 * sample_box(problem, 8, 1.0)
    points = jnp.concatenate([near, sample_box(problem, 8, 0.9)])
    step = 1e-5 * (problem.upper - problem.lower)
    _, grads = evaluate(problem, points)
    for i in range(problem.dimension):
        move = jnp.zeros(problem.dimension).at[i].set(step[i])
        after, before = evaluate(problem, points + move)[0], evaluate(problem, points - move)[0]
        slopes = (after - before) / (2 * step[i])
        np.testing.assert_allclose(slopes, grads[:, i], atol=1e-4 * np.abs(grads).max())


@every_one
def test_gradients_are_finite_far_away_and_at_special_points(name):
    for problem in (make(name), make(name, 2)):
        special = jnp.stack([jnp.zeros(problem.dimension), problem.lower, problem.upper])
        tiny = problem.optima[0] + jnp.array([[0.0], [1e-300], [1e-160], [1e-12]])
        for points in (special, tiny, sample_box(problem, 32, 1e4)):
            values, grads = evaluate(problem, points)
            assert np.isfinite(values).all()
            assert np.isfinite(grads).all()


@every_one
def test_nan_inputs_give_nan_values(name):
    problem = make(name, 2)
    points = jnp.where(jnp.eye(problem.dimension, dtype=bool), jnp.nan, problem.lower)
    assert np.isnan(evaluate(problem, points)[0]).all()


@pytest.mark.parametrize("name", ["ackley", "schwefel", "levy", "beale"])
def test_vmapped_points_equal_separate_points(name):
    problem = make(name, 3)
    points = sample_box(problem, 3, 1.0)
    values, grads = evaluate(problem, points)
    alone = jax.jit(jd.Problem.value_and_grad)
    for x, value, grad in zip(points, values, grads, strict=True):
        chex.assert_trees_all_close(alone(problem, x), (value, grad), rtol=1e-10)


@every_one
def test_optima_have_the_minimum_in_float32(name):
    with jax.enable_x64(False):
        problem = make(name, 4, dimension=2)
        assert problem.minimum.dtype == jnp.float32
        values = _values(problem, problem.optima)
        # Exact to 1e-7 if the minimum is 0, and to one rounding otherwise.
        assert np.abs(values - problem.minimum).max() <= 1e-7 * max(1, 2 * abs(problem.minimum))


@pytest.mark.parametrize("name", ["rastrigin", "rotated_rastrigin", "himmelblau"])
def test_keys_share_one_compiled_program(name):
    chex.clear_trace_counter()
    value = jax.jit(chex.assert_max_traces(lambda problem, x: problem.value(x), 1))
    values = [value(make(name, seed), make(name).lower) for seed in range(3)]
    assert len(set(map(float, values))) == 3


def test_keys_can_be_vmapped():
    keys = jax.random.split(jax.random.key(0), 5)

    @jax.jit
    @jax.vmap
    def make_and_evaluate(key):
        problem = jd.problems.griewank(4, key=key, rotated=True)
        return problem, problem.value(problem.optima[0])

    problems, values = make_and_evaluate(keys)
    np.testing.assert_allclose(values, 0, atol=1e-12)
    one = jd.problems.griewank(4, key=keys[3], rotated=True)
    np.testing.assert_allclose(problems.optima[3], one.optima)


def test_rotations_are_orthogonal_and_uniform():
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.jit(jax.vmap(lambda key: orthogonal(key, 3)))(keys)
    products = drawn @ drawn.mT
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-12)
    # An entry has mean 0 and variance 1/3. The tolerances are five standard errors.
    np.testing.assert_allclose(drawn.mean(0), 0, atol=5 * np.sqrt(1 / 3 / 4000))
    np.testing.assert_allclose((drawn**2).mean(0), 1 / 3, atol=5 * np.sqrt(4 / 45 / 4000))


def test_rotations_preserve_distances_to_the_minimizer():
    problem = jd.problems.sum_squares(4, key=jax.random.key(7), rotated=True)
    # The gradient is linear, so unit steps from the minimizer give the rows of the Hessian.
    hessian = evaluate(problem, problem.optima[0] + jnp.eye(4))[1]
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), [2, 4, 6, 8])
    assert np.abs(hessian - np.diag(np.diag(hessian))).max() > 0.1


def test_dixon_price_has_two_minimizers_and_himmelblau_four():
    counts = {name: len(make(name).optima) for name in CLASSIC_SUITE}
    several = {name: count for name, count in counts.items() if count != 1}
    assert several == {"dixon_price": 2, "himmelblau": 4, "six_hump_camel": 2}
    assert len(np.unique(make("himmelblau", 5).optima.round(6), axis=0)) == 4


def test_the_hard_suite_is_the_first_eight_shifted_and_rotated():
    problems = jd.problems.hard_suite(3, key=jax.random.key(0))
    assert list(problems) == list(CLASSIC_SUITE)[:8]
    assert len({problem.name for problem in problems.values()}) == 8
    for name, problem in problems.items():
        assert problem.dimension == 3
        assert len(problem.data) == 3, f"{name} is not rotated"
        assert not np.allclose(problem.optima, make(name).optima)
    assert not np.allclose(problems["rastrigin"].data[1], problems["rotated_rastrigin"].data[1])


def test_the_classic_suite_has_all_twenty():
    plain = jd.problems.classic_suite(4)
    assert list(plain) == list(CLASSIC_SUITE)
    assert {name for name, problem in plain.items() if problem.dimension == 2} == TWO_DIMENSIONAL
    assert all(len(p.data) == 3 * (n == "rotated_rastrigin") for n, p in plain.items())
    moved = jd.problems.classic_suite(4, key=jax.random.key(1), rotated=True)
    assert all(len(problem.data) == 3 for problem in moved.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jd.problems.ackley(0), "dimension must be an integer at least 1, got 0"),
        (lambda: jd.problems.levy(2.5), "dimension must be an integer at least 1, got 2.5"),
        (lambda: jd.problems.rosenbrock(1), "dimension must be an integer at least 2, got 1"),
        (lambda: jd.problems.dixon_price(1), "dimension must be an integer at least 2, got 1"),
        (lambda: jd.problems.rotated_rastrigin(1), "at least 2, got 1"),
        (lambda: jd.problems.booth(rotated=True), "rotated must be False without a key"),
        (lambda: jd.problems.classic_suite(1), "dimension must be an integer at least 2, got 1"),
        (lambda: jd.problems.hard_suite(1, key=jax.random.key(0)), "at least 2, got 1"),
        (lambda: jd.problems.hard_suite(key=None), "key must be one random key"),
        (lambda: jd.problems.classic_suite(key=3), "key must be one random key"),
        (lambda: jd.problems.ackley(key=3), "key must be one random key"),
        (lambda: make("ackley").value(jnp.ones(2)), r"x must have the shapes .* got \(2,\) for"),
        (lambda: make("levy").value_and_grad(jnp.ones((4, 3))), r"got \(4, 3\) for \(3,\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    "problem", [lambda: make("levy", 1), lambda: jd.problems.bbob(2, 3)], ids=["levy", "bbob"]
)
def test_integer_inputs_equal_floating_point_inputs(problem):
    with jax.numpy_dtype_promotion("standard"):
        values = [problem().value(jnp.array([1, -2, 3], dtype)) for dtype in (int, float)]
    np.testing.assert_array_equal(*values)
