"""Tests of model soups and ensembles: averages of agents, and which agents they include."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from tests.agents.networks import DATA, loss, predictions, starts
from tests.agents.populations import with_values

NAN = float("nan")


def at(points, alive=None):
    """Returns agents at points in the plane; their values are finite where the points are."""
    points = jnp.asarray(points, jnp.float32)
    population = with_values(points.sum(1), alive)
    return population._replace(params=points)


def wells(x):
    """Has its minima, 0, at (-1, 0) and (1, 0); at (0, 0) it is 1."""
    return (x[0] ** 2 - 1) ** 2 + x[1] ** 2


def bowl(x):
    return jnp.sum(x**2)


def test_a_weighted_average_is_the_mean_without_agents_of_weight_zero():
    params = {"a": jnp.array([[1.0, 2.0], [3.0, 6.0], [NAN, jnp.inf]]), "b": jnp.arange(3.0)}
    average = jd.weighted_average(params, jnp.array([1.0, 3.0, 0.0]))
    assert average["a"].tolist() == [2.5, 5.0]
    assert average["b"] == 0.75


def test_an_average_of_bfloat16_is_computed_in_float32():
    params = jnp.full(1001, 3.0, jnp.bfloat16).at[0].set(1.0)
    average = jd.weighted_average(params, jnp.ones(1001))
    assert average.dtype == jnp.bfloat16
    assert average == jnp.asarray((1 + 3000) / 1001, jnp.bfloat16)


def test_integers_are_rounded_and_keys_are_taken_from_a_member():
    seven = jnp.full(10, 7, jnp.int32)
    assert jd.weighted_average(seven, jnp.ones(10)) == 7
    assert jd.weighted_average(jnp.full(49, True), jnp.ones(49))
    keys = jax.random.split(jax.random.key(0), 3)
    assert jd.weighted_average(keys, jnp.array([False, True, True])) == keys[1]


def test_a_uniform_soup_averages_the_basin_of_the_best_agent():
    agents = at([[-1.0, 0.3], [0.9, 0.0], [1.2, 0.0], [1.0, 0.2]])
    soup = jd.uniform_soup(agents, wells)
    assert soup.members.tolist() == [False, True, True, True]
    np.testing.assert_allclose(soup.params, [3.1 / 3, 0.2 / 3], rtol=1e-6)
    np.testing.assert_allclose(soup.value, wells(soup.params), rtol=1e-6)


def test_the_tolerance_is_compared_with_the_barrier():
    agents = at([[-1.0, 0.0], [1.0, 0.0]])  # the value halfway between them is 1

    def members(tolerance, points=5):
        soup = jd.uniform_soup(agents, wells, tolerance=tolerance, points=points)
        return soup.members.tolist()

    assert members(1.001) == [True, True]
    assert members(0.999) == [True, False]
    # Two points lie at the thirds of the line, where the value is (1/9 - 1)^2.
    assert members((8 / 9) ** 2 + 1e-3, points=2) == [True, True]
    assert members((8 / 9) ** 2 - 1e-3, points=2) == [True, False]


@jax.jit
def same_basin(points):
    return jd.uniform_soup(at(points), lambda x: jnp.sum((x - 0.3) ** 2)).members


def test_rounding_is_not_a_barrier():
    """Agents at equal or almost equal points, as at the end of a run."""
    draw = np.random.default_rng(0).normal
    for spread in (0.0, 1e-4):
        for _ in range(20):
            points = draw(size=2) + spread * draw(size=(4, 2))
            assert same_basin(points.astype(np.float32)).all()


@pytest.mark.parametrize("average", [jd.uniform_soup, jd.greedy_soup])
def test_pruned_agents_and_agents_not_finite_are_left_out(average):
    points = [[0.1, 0.0], [NAN, 0.0], [-0.3, 0.0], [0.1, 0.2]]
    soup = average(at(points, alive=[False, True, True, True]), bowl)
    assert soup.members.tolist() == [False, False, True, True]
    np.testing.assert_allclose(soup.params, [-0.1, 0.1], atol=1e-7)


def test_a_greedy_soup_adds_only_agents_that_help():
    # Starting from (0.1, 0), adding (-0.12, 0) helps; adding (0.5, 0.5) does not.
    agents = at([[0.5, 0.5], [0.1, 0.0], [-0.12, 0.0]])
    uniform, greedy = jd.uniform_soup(agents, bowl), jd.greedy_soup(agents, bowl)
    assert uniform.members.tolist() == [True] * 3
    assert greedy.members.tolist() == [False, True, True]
    np.testing.assert_allclose(greedy.params, [-0.01, 0.0], atol=1e-7)
    np.testing.assert_allclose(greedy.value, 1e-4, rtol=1e-4)


@jax.jit
def greedy(points):
    soup = jd.greedy_soup(at(points), wells, tolerance=jnp.inf)
    return soup, jnp.min(jax.vmap(wells)(points))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-2, 2, width=32)] * 2), min_size=4, max_size=4))
def test_a_greedy_soup_is_never_worse_than_the_best_agent(points):
    soup, best = greedy(jnp.asarray(points, jnp.float32))
    assert soup.value <= best
    np.testing.assert_allclose(soup.value, wells(soup.params), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("average", [jd.uniform_soup, jd.greedy_soup])
def test_without_survivors_a_soup_has_no_members(average):
    soup = average(at([[1.0, 0.0], [NAN, 1.0]], alive=[False, True]), bowl)
    assert not soup.members.any()
    assert not np.isfinite(jd.ensemble(at([[1.0, 0.0]], alive=[False]), bowl))


@pytest.mark.parametrize("chunk_size", [1, 2, 64])
def test_an_ensemble_is_the_mean_prediction_of_the_survivors(chunk_size):
    params = starts(5)
    params["b"][3] = np.nan
    alive = np.array([True, True, False, True, True])
    agents = with_values([1.0, 2.0, 3.0, NAN, 5.0], alive)._replace(params=params)
    mean = jd.ensemble(agents, predictions, DATA["x"], chunk_size=chunk_size)
    rows = [predictions(jax.tree.map(lambda x, i=i: x[i], params), DATA["x"]) for i in (0, 1, 4)]
    np.testing.assert_allclose(mean, np.mean(rows, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "each"), [(jnp.float16, 100.0), (jnp.bfloat16, 1.0)])
def test_predictions_in_half_precision_are_summed_in_float32(dtype, each):
    agents = at(jnp.full((1001, 1), each))
    mean = jd.ensemble(agents, lambda x: x.astype(dtype), chunk_size=7)
    assert mean.dtype == dtype
    assert mean == each


def test_the_model_state_is_averaged_and_passed_to_functions():
    state = {"mean": jnp.array([0.0, 0.2, 0.7]), "count": jnp.array([4, 4, 5])}
    agents = at([[0.1, 0.0], [-0.1, 0.0], [0.1, 0.2]])._replace(model_state=state)
    soup = jd.uniform_soup(agents, lambda x, model_state: bowl(x) + 0 * model_state["mean"])
    assert soup.members.all()
    np.testing.assert_allclose(soup.model_state["mean"], 0.3, rtol=1e-6)
    assert soup.model_state["count"] == 4

    def distance(x, model_state):
        return jnp.abs(model_state["mean"] - 0.1)

    soup = jd.greedy_soup(agents, distance, tolerance=jnp.inf)
    assert soup.members.tolist() == [True, True, False]
    np.testing.assert_allclose((soup.model_state["mean"], soup.value), (0.1, 0), atol=1e-7)
    mean = jd.ensemble(agents, lambda x, model_state: model_state["mean"])
    np.testing.assert_allclose(mean, 0.3, rtol=1e-6)
    assert jd.uniform_soup(at([[0.1, 0.0]]), bowl).model_state == ()


def test_networks_with_permuted_hidden_units_are_not_averaged():
    """They compute the same function, but their average computes another one."""
    one = jax.tree.map(lambda x: 2 * x[0], starts(1))
    order = np.array([3, 4, 0, 1, 2])
    other = {"a": one["a"][:, order], "b": one["b"][order]}
    data = {"x": DATA["x"], "y": predictions(one, DATA["x"])}
    near = jax.tree.map(lambda x: 1.01 * x, one)
    params = jax.tree.map(lambda *x: jnp.stack(x), one, other, near)
    agents = with_values([0.0, 0.0, 0.0])._replace(params=params)
    soup = jd.uniform_soup(agents, loss, data, tolerance=1e-3)
    assert soup.members.tolist() == [True, False, True]
    all_agents = jd.weighted_average(params, jnp.ones(3))
    assert soup.value < 1e-2 < loss(all_agents, data)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda a: jd.uniform_soup(a, bowl, points=0), "points must be an integer at least 1"),
        (lambda a: jd.greedy_soup(a, bowl, tolerance=-1.0), r"tolerance must be a number in \[0"),
        (lambda a: jd.ensemble(a, bowl, chunk_size=0), "chunk_size must be an integer at least 1"),
        (lambda a: jd.weighted_average(a.params, jnp.ones(3)), "num_agents = 3 in every leaf"),
        (lambda a: jd.weighted_average(a.params, 1.0), "weights must have one axis"),
        (
            lambda a: jd.weighted_average(a.params, [0.0]),
            r"weights must be in \[0, inf\) and not all",
        ),
        (
            lambda a: jd.weighted_average(a.params, [-1.0]),
            r"weights must be in \[0, inf\) and not all",
        ),
        (lambda a: jd.uniform_soup(a, lambda x: x), "value_fn must return a real scalar"),
        (lambda a: jd.greedy_soup(a, lambda x: 1), "value_fn must return a real scalar"),
        (
            lambda a: jd.ensemble(a, lambda x: x > 0),
            "predictions must have real floating-point leaves",
        ),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call(at([[1.0, 0.0]]))


@pytest.mark.parametrize("average", [jd.uniform_soup, jd.greedy_soup, jd.ensemble])
def test_the_population_must_be_a_population(average):
    with pytest.raises(TypeError, match="population must be a"):
        average({"x": jnp.ones(3)}, bowl)


def test_raw_keys_are_not_averaged():
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), 2))
    mean = jd.weighted_average({"rngs": {"dropout": keys}}, jnp.array([0.25, 0.75]))
    np.testing.assert_array_equal(mean["rngs"]["dropout"], keys[0])
