"""Laws of the spaces: there and back, never out of range, never without a slope."""

import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optax._src import alias

import jaxdescent as jd
from jaxdescent.towers import spaces

# Deterministic, so that a red test stays red.
settings.register_profile("laws", deadline=None, derandomize=True, max_examples=200)
law = settings.get_profile("laws")

PRECISION = {"float32": 2e-5, "float64": 1e-12}  # exp(log(h)) loses |log(h)| units of rounding
both_precisions = pytest.mark.parametrize("dtype", PRECISION)
STARTS = {
    "positive": st.floats(1e-37, 1e37),
    "unit_interval": st.floats(1e-37, 1 - 2e-7),
    "unconstrained": st.floats(-1e37, 1e37),
}
BOUNDED = {"positive": spaces.Positive, "unit_interval": spaces.UnitInterval}
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}


compiled_natural = jax.jit(lambda coordinate: coordinate.natural())


def coordinate(start, dtype):
    return type(start)(jnp.asarray(start[0], dtype))


@both_precisions
@pytest.mark.parametrize("space", STARTS)
@given(data=st.data())
@law
def test_a_natural_value_comes_back_from_its_coordinate(space, dtype, data):
    value = data.draw(STARTS[space])
    with jax.enable_x64(True):
        start = getattr(jd, space)(value)
        natural = spaces.clamp(coordinate(start, dtype)).natural()
        assert natural.dtype == dtype
        np.testing.assert_allclose(natural, value, rtol=PRECISION[dtype], atol=1e-37)


@both_precisions
@pytest.mark.parametrize("space", BOUNDED)
@given(x=st.floats(-12, 12, width=32))
@law
def test_a_coordinate_comes_back_from_its_natural_value(space, dtype, x):
    with jax.enable_x64(True):
        natural = BOUNDED[space](jnp.asarray(x, dtype)).natural()
        back = BOUNDED[space].at("h", np.asarray(natural))[0]
        tolerance = np.finfo(dtype).eps * np.exp(abs(x))  # of 1 - h, near the upper end
        np.testing.assert_allclose(back, x, rtol=4 * np.finfo(dtype).eps, atol=4 * tolerance)


@both_precisions
@pytest.mark.parametrize("space", BOUNDED)
@given(x=st.floats(allow_nan=False, width=32) | st.floats(allow_nan=False))
@law
def test_a_clamped_coordinate_gives_a_value_inside_the_space(space, dtype, x):
    with jax.enable_x64(True), np.errstate(over="ignore"):
        clamped = BOUNDED[space](jnp.asarray(np.asarray(x, dtype))).clamp()
        for natural in (clamped.natural(), compiled_natural(clamped)):
            assert natural.dtype == dtype
            assert np.finfo(dtype).tiny <= natural < np.inf
            assert space == "positive" or (natural < 1 and 1 - natural > 0)
        assert clamped.clamp() == clamped


@both_precisions
@pytest.mark.parametrize("space", BOUNDED)
@given(x=st.floats(-15, 15, width=32))
@law
def test_the_clamp_does_not_change_ordinary_coordinates(space, dtype, x):
    with jax.enable_x64(True):
        assert BOUNDED[space](jnp.asarray(x, dtype)).clamp()[0] == x


@both_precisions
@pytest.mark.parametrize("end", [-np.inf, np.inf])
@pytest.mark.parametrize("space", BOUNDED)
def test_the_ends_of_the_clamp_can_be_left_again(space, dtype, end):
    with jax.enable_x64(True):
        at_end = BOUNDED[space](jnp.asarray(end, dtype)).clamp()
        value, slope = jax.value_and_grad(lambda c: c.natural())(at_end)
        h = np.asarray(value, np.float64)
        np.testing.assert_allclose(slope[0], h if space == "positive" else h * (1 - h), rtol=0.1)
        assert abs(slope[0]) > 0


@given(x=st.floats(allow_nan=False, allow_infinity=False))
@law
def test_an_unconstrained_value_is_its_own_coordinate(x):
    with jax.enable_x64(True):
        start = coordinate(jd.unconstrained(x), jnp.float64)
        assert start.clamp() == start
        assert start.natural() == x


TABLE = {
    spaces.Positive: ["learning_rate", "weight_decay", "weight_decay_rate", "eps", "eps_root"],
    spaces.UnitInterval: ["b1", "b2", "b3", "decay", "decay_rate", "momentum"],
}
BARE_NAMES = [(name, kind) for kind, names in TABLE.items() for name in names]


@pytest.mark.parametrize(("name", "kind"), BARE_NAMES)
def test_a_bare_number_takes_the_space_of_its_name(name, kind):
    assert type(spaces.start_of(name, 0.25)) is kind
    assert type(spaces.start_of(name, jd.per_leaf(0.25)).space) is kind
    np.testing.assert_allclose(spaces.start_of(name, 0.25).natural(), 0.25, rtol=1e-6)


def test_the_names_with_a_space_are_names_that_optax_uses():
    used = {
        name
        for thing in vars(alias).values()
        if inspect.isfunction(thing)
        for name in inspect.signature(thing).parameters
    } | set(inspect.signature(optax.contrib.ademamix).parameters)
    assert {name for name, _ in BARE_NAMES} <= used


@pytest.mark.parametrize("start", [jd.positive(2.0), jd.unconstrained(-1.0)])
def test_a_given_space_overrides_the_name(start):
    assert spaces.start_of("b1", start) is start
    assert spaces.start_of("b1", jd.per_leaf(start)).space is start


def test_per_leaf_gives_each_leaf_its_own_coordinate():
    params = {"a": jnp.ones(3, jnp.bfloat16), "b": [jnp.ones(()), None]}
    tune = {"learning_rate": jd.per_leaf(jd.positive(0.5))}
    state = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune=tune).init(params)
    rates = jd.get_hyperparams(state)[0]["learning_rate"]
    assert jax.tree.structure(rates) == jax.tree.structure(params)
    assert all(rate.shape == () and rate.dtype == jnp.float32 for rate in jax.tree.leaves(rates))
    np.testing.assert_array_equal(jax.tree.leaves(rates), [0.5, 0.5])


def test_per_leaf_is_clamped_leaf_by_leaf():
    beyond = spaces.PerLeaf(spaces.Positive({"a": jnp.float32(200), "b": jnp.float32(0)}))
    clamped = spaces.clamp(beyond)
    rates = spaces.natural(clamped)
    assert np.isfinite(rates["a"])
    assert rates["a"] > 1e38
    assert rates["b"] == 1


@pytest.mark.parametrize("make", [jd.positive, jd.per_leaf, lambda rate: rate])
def test_a_population_starts_each_agent_at_its_own_traced_rate(make):
    def init(rate):
        tune = {"learning_rate": make(rate)}
        return jd.hypergradient(optax.sgd, optax.sgd(0.1), tune=tune).init(PARAMS)

    rates = jnp.array([0.1, 1.0, 10.0])
    (learned,) = jd.get_hyperparams(jax.jit(jax.vmap(init))(rates))
    for leaf in jax.tree.leaves(learned):
        np.testing.assert_allclose(leaf, rates, rtol=1e-6)


class BelowTen(NamedTuple):
    """A user's own space: (-inf, 10), as 10 - exp(-x)."""

    x: jax.Array

    def natural(self):
        return 10 - jnp.exp(-self.x)

    @classmethod
    def at(cls, name, natural):
        return cls(-np.log(10 - np.asarray(natural)))

    def clamp(self):
        return BelowTen(jnp.clip(self.x, -50, 50))


@pytest.mark.parametrize("wrap", [lambda space: space, jd.per_leaf])
def test_a_custom_space_is_learned_like_the_built_in_spaces(wrap):
    tune = {"learning_rate": wrap(BelowTen.at("learning_rate", 9.0))}
    tx = jd.hypergradient(optax.sgd, optax.sgd(0.5), tune=tune)
    state = tx.init(jnp.zeros(1))
    for _ in range(2):
        _, state = tx.update(jnp.ones(1), state)
    x = 0.0 + 0.5 * 1.0  # -log(10 - 9), then minus the rate times -(10 - h) <g, g'>
    (learned,) = jax.tree.leaves(jd.get_hyperparams(state))
    np.testing.assert_allclose(learned, 10 - np.exp(-x), rtol=1e-6)
