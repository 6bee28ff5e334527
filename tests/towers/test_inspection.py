"""Reading and writing what a tower has learned, and going back to the plain optimizer."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import jaxdescent as jd
from tests.towers import problems
from tests.towers.stepping import compiled_step

PARAMS = {"w": np.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": np.array([0.3, -0.2, 0.9])}
GRADS = [
    jax.tree.map(lambda x, s=seed: np.random.default_rng(s).normal(size=x.shape), PARAMS)
    for seed in range(6)
]


def single(tree):
    return jax.tree.map(jnp.float32, tree)


def steps(tx, params, state, grads, **extra_args):
    """Parameters and state after a step on each gradient."""
    for g in grads:
        params, state = compiled_step(tx)(params, state, g, extra_args)
    return params, state


@functools.cache
def of_height_3(hyper_rate=0.01):
    top = jd.hypergradient(optax.sgd, optax.sgd(hyper_rate), tune={"learning_rate": 0.02})
    middle = jd.hypergradient(optax.adam, top, tune={"learning_rate": 0.03, "b1": 0.8})
    return jd.hypergradient(optax.adam, middle, tune={"learning_rate": 0.1, "b2": 0.99})


def test_hyperparameters_are_listed_from_the_bottom_up_in_natural_units():
    bottom, middle, top = jd.get_hyperparams(of_height_3().init(single(PARAMS)))
    assert (set(bottom), set(middle), set(top)) == (
        {"learning_rate", "b2"},
        {"learning_rate", "b1"},
        {"learning_rate"},
    )
    found = bottom["learning_rate"], bottom["b2"], middle["b1"], top["learning_rate"]
    np.testing.assert_allclose(found, [0.1, 0.99, 0.8, 0.02], rtol=1e-6)


WRAPPERS = {
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition(
        {"learns": tx, "rests": optax.set_to_zero()}, {"w": "learns", "b": "rests"}
    ),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
}


@pytest.mark.parametrize("where", WRAPPERS)
def test_a_tower_is_found_and_set_wherever_it_is(where):
    wrapped = WRAPPERS[where](of_height_3())
    state = wrapped.init(single(PARAMS))
    chex.assert_trees_all_equal(
        jd.get_hyperparams(state), jd.get_hyperparams(of_height_3().init(single(PARAMS)))
    )
    state = jd.set_hyperparams(state, {"b2": 0.5}, {}, {"learning_rate": 4.0})
    bottom, _, top = jd.get_hyperparams(state)
    np.testing.assert_allclose([bottom["b2"], top["learning_rate"]], [0.5, 4.0], rtol=1e-6)


def test_a_tower_for_each_group_of_parameters_is_read_by_its_part():
    towers = {
        name: jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": start})
        for name, start in {"w": 0.1, "b": 0.2}.items()
    }
    state = optax.partition(towers, {"w": "w", "b": "b"}).init(single(PARAMS))
    with pytest.raises(ValueError, match="2 side by side"):
        jd.get_hyperparams(state)
    for name, start in {"w": 0.1, "b": 0.2}.items():
        (learned,) = jd.get_hyperparams(state.inner_states[name])
        np.testing.assert_allclose(learned["learning_rate"], start, rtol=1e-6)


def test_a_population_is_read_and_set_agent_by_agent():
    tx = of_height_3()
    agents = jax.tree.map(lambda x: jnp.stack([x, -x, 2 * x]), single(PARAMS))
    state = jax.vmap(tx.init)(agents)
    state = jd.set_hyperparams(state, {"learning_rate": [0.1, 0.2, 0.4], "b2": 0.5})
    bottom, middle, _ = jd.get_hyperparams(state)
    np.testing.assert_allclose(bottom["learning_rate"], [0.1, 0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(bottom["b2"], [0.5] * 3, rtol=1e-6)
    np.testing.assert_allclose(middle["b1"], [0.8] * 3, rtol=1e-6)


def per_leaf_and_array():
    def scaled(learning_rate, columns):
        return optax.chain(
            optax.adam(learning_rate),
            optax.stateless(lambda u, _: jax.tree.map(lambda x: columns * x, u)),
        )

    tune = {"learning_rate": jd.per_leaf(0.1), "columns": jd.unconstrained([1.0, -2.0, 0.5])}
    return jd.hypergradient(scaled, optax.sgd(0.01), tune=tune)


@pytest.mark.parametrize("make", [of_height_3, per_leaf_and_array])
def test_setting_the_values_that_were_read_changes_nothing_but_rounding(make):
    tx = make()
    with jax.enable_x64(True):  # the parameters are still float32
        _, state = steps(tx, single(PARAMS), tx.init(single(PARAMS)), GRADS[:3])
        again = jd.set_hyperparams(state, *jd.get_hyperparams(state))
    chex.assert_trees_all_equal_shapes_and_dtypes(again, state)
    # The logit of b2 = 0.99 is known to eps / (b2 (1 - b2)), which is 1.3e-6 of it.
    chex.assert_trees_all_close(again, state, rtol=2e-6)
    assert [leaf.weak_type for leaf in jax.tree.leaves(again)] == [
        leaf.weak_type for leaf in jax.tree.leaves(state)
    ]


def test_a_name_per_leaf_is_set_by_a_tree_or_by_one_number():
    tx = per_leaf_and_array()
    state = tx.init(single(PARAMS))
    for value in ({"w": 0.25, "b": 4.0}, 0.5):
        (learned,) = jd.get_hyperparams(jd.set_hyperparams(state, {"learning_rate": value}))
        expected = value if isinstance(value, dict) else {"w": value, "b": value}
        chex.assert_trees_all_close(learned["learning_rate"], single(expected), rtol=1e-6)


def test_nothing_is_compiled_again_after_setting():
    tx = of_height_3()
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, state = single(PARAMS), jax.jit(tx.init)(single(PARAMS))
    for g in GRADS:
        params, state = step(params, state, single(g))
        state = jd.set_hyperparams(state, {"learning_rate": 1, "b2": np.float64(0.5)})


def test_hyperparameters_can_be_set_inside_compiled_code_and_are_clamped_there():
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.1, "b1": 0.9})
    state = tx.init(single(PARAMS))

    def to(rate, b1):
        return jd.set_hyperparams(state, {"learning_rate": rate, "b1": b1})

    (inside,) = jd.get_hyperparams(jax.jit(to)(0.25, 0.5))
    np.testing.assert_allclose([inside["learning_rate"], inside["b1"]], [0.25, 0.5], rtol=1e-6)
    (clamped,) = jd.get_hyperparams(jax.jit(to)(0.0, 1.0))
    assert 0 < clamped["learning_rate"] < 1e-37
    assert 0.999999 < clamped["b1"] < 1


def rate_squared(learning_rate):
    return optax.sgd(learning_rate**2)


def test_the_replay_after_setting_uses_the_values_of_the_last_step():
    raw = {"learning_rate": jd.unconstrained(0.5)}
    tx = jd.hypergradient(rate_squared, optax.sgd(0.1), tune=raw)
    g, later = np.array([1.0, 2.0]), np.array([3.0, -1.0])
    with jax.enable_x64(True):
        params, state = steps(tx, np.zeros(2), tx.init(np.zeros(2)), [g])
        state = jd.set_hyperparams(state, {"learning_rate": 2.0})
        moved, state = steps(tx, params, state, [later])
        rate = 2.0 - 0.1 * (-2 * 0.5 * (g @ later))  # d(-h^2 g)/dh, at the old h = 0.5
        np.testing.assert_allclose(jd.get_hyperparams(state)[0]["learning_rate"], rate, rtol=1e-14)
        np.testing.assert_allclose(moved, params - rate**2 * later, rtol=1e-14)


def test_setting_does_not_change_the_inner_state():
    tx = of_height_3()
    _, state = steps(tx, single(PARAMS), tx.init(single(PARAMS)), GRADS[:2])
    changed = jd.set_hyperparams(state, {"learning_rate": 7.0, "b2": 0.5})
    chex.assert_trees_all_equal(jd.inner_state(tx, changed), jd.inner_state(tx, state))


PLAIN = {
    "adam": (optax.adam, {"learning_rate": 0.1, "b1": 0.9}),
    "adamw, which reads params": (optax.adamw, {"learning_rate": 0.1, "weight_decay": 0.01}),
    "momo, which reads value": (contrib.momo, {"learning_rate": 0.1}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_inner_state_is_the_plain_optimizers_at_every_step(name):
    factory, tune = PLAIN[name]
    with jax.enable_x64(True):
        plain = optax.with_extra_args_support(factory(**jax.tree.map(jnp.asarray, tune)))
        tower = jd.hypergradient(factory, optax.sgd(0.0), tune=tune)
        chained = optax.chain(tower)
        inner = jax.jit(functools.partial(jd.inner_state, tower))
        params, expected = PARAMS, jax.jit(plain.init)(PARAMS)
        learning, state = PARAMS, jax.jit(chained.init)(PARAMS)
        chex.assert_trees_all_close(inner(state), expected, rtol=1e-12)
        for g in GRADS[:3]:
            params, expected = steps(plain, params, expected, [g], value=2.0)
            learning, state = steps(chained, learning, state, [g], value=2.0)
            chex.assert_trees_all_close(inner(state), expected, rtol=1e-12, atol=1e-12)
            chex.assert_trees_all_equal_structs(inner(state), expected)


def test_a_skipped_batch_does_not_change_the_inner_state():
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.1, "b1": 0.9})
    params, state = steps(tx, single(PARAMS), tx.init(single(PARAMS)), GRADS[:2])
    _, after = steps(tx, params, state, [jax.tree.map(lambda x: x * np.nan, GRADS[2])])
    chex.assert_trees_all_close(jd.inner_state(tx, after), jd.inner_state(tx, state), rtol=1e-6)


@pytest.mark.parametrize("taken", [0, 4])
def test_freezing_continues_as_the_plain_optimizer_at_the_learned_values(taken):
    tx = of_height_3()
    with jax.enable_x64(True):
        params, state = steps(tx, PARAMS, tx.init(PARAMS), GRADS[:taken])
        state = jd.set_hyperparams(state, {"b2": 0.5})
        frozen, frozen_state = jd.freeze_hyperparams(tx, state)
        (learned, *_) = jd.get_hyperparams(state)
        plain = optax.adam(**learned)
        found = steps(frozen, params, frozen_state, GRADS[4:])
        expected = steps(plain, params, jd.inner_state(tx, state), GRADS[4:])
        chex.assert_trees_all_close(found, expected, rtol=1e-12)
        chex.assert_trees_all_equal_structs(frozen_state, plain.init(PARAMS))
    assert (abs(float(learned["learning_rate"]) - 0.1) > 1e-4) == (taken > 0)


def test_a_frozen_tower_follows_a_tower_with_hyper_rate_zero():
    tune = {"learning_rate": jd.per_leaf(0.1), "b1": 0.9}
    learns, rests = (
        jd.hypergradient(optax.adamw, optax.sgd(rate), tune=tune) for rate in (0.1, 0.0)
    )
    with jax.enable_x64(True):
        params, state = steps(learns, PARAMS, learns.init(PARAMS), GRADS[:3])
        expected, _ = steps(rests, params, state, GRADS[3:])
        frozen, frozen_state = jd.freeze_hyperparams(learns, state)
        found, _ = steps(frozen, params, frozen_state, GRADS[3:])
        assert problems.distance(found, expected) <= 1e-12


def on_plateau(learning_rate, b1):
    return optax.chain(optax.adamw(learning_rate, b1), contrib.reduce_on_plateau())


def doubling(learning_rate, bound):
    """Holds a while loop whose length only the data know."""

    def update(updates, state, params=None):
        def small(u):
            return (optax.tree.norm(u) < bound) & (optax.tree.norm(u) > 0)

        start = jax.tree.map(lambda g: -learning_rate * bound * g, updates)
        return jax.lax.while_loop(small, lambda u: jax.tree.map(lambda x: 2 * x, u), start), state

    return optax.GradientTransformation(lambda params: (), update)


def test_describe_lists_the_parts_of_each_level():
    starts = {"learning_rate": jd.unconstrained(-1e-3), "bound": jd.positive(0.25)}
    top = jd.hypergradient(doubling, optax.sgd(0.1), tune=starts)
    momentum = {"learning_rate": jd.per_leaf(1e-3), "momentum": 0.9}
    middle = jd.hypergradient(functools.partial(optax.sgd, nesterov=True), top, tune=momentum)
    rates = {"learning_rate": jd.per_leaf(jd.positive(0.1)), "b1": 0.123456789}
    bottom = jd.hypergradient(on_plateau, middle, tune=rates)
    described = """\
1: on_plateau, learning_rate=0.1 (positive) per leaf, b1=0.123457 (unit_interval); one_step; \
fused;
   carries grads, params, value
2: sgd, learning_rate=0.001 (positive) per leaf, momentum=0.9 (unit_interval); one_step; \
fused;
   carries grads
3: doubling, learning_rate=-0.001 (unconstrained), bound=0.25 (positive); one_step; \
general, forward mode;
   carries grads
4: an optimizer with fixed hyperparameters, which trains level 3"""
    assert jd.describe(bottom) == jd.describe(bottom, single(PARAMS)) == described


@pytest.mark.parametrize("value", [-1.0, 0.0, np.inf, np.nan])
def test_a_traced_value_out_of_range_is_clamped_and_nan_changes_nothing(value):
    tx = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": 0.5})
    set_rate = jax.jit(lambda state, v: jd.set_hyperparams(state, {"learning_rate": v}))
    (learned,) = jd.get_hyperparams(set_rate(tx.init(jnp.zeros(2)), value))
    rate = float(learned["learning_rate"])
    assert 0 < rate < np.inf
    assert (rate == 0.5) == np.isnan(value)


@pytest.mark.parametrize("reader", [jd.inner_state, jd.freeze_hyperparams])
def test_a_population_is_read_agent_by_agent(reader):
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.5})
    states = jax.vmap(tx.init)(jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"population of shape \(3,\); use jax.vmap"):
        reader(tx, states)
