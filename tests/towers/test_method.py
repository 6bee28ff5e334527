"""The general and the fused method agree; the inputs that each holds."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.towers.fused import contraction as fused
from jaxdescent.towers.replay import blocks
from tests.towers import problems
from tests.towers.stepping import GRADS, OTHERS, START, assert_close, final, run

RATE = {"learning_rate": 1e-2}
BETAS = {"b1": 0.9, "b2": 0.99}
momentum = partial(optax.sgd, momentum=0.9)
nesterov = partial(optax.sgd, nesterov=True)


def clipped(learning_rate):
    return optax.chain(optax.clip_by_global_norm(0.1), optax.adam(learning_rate))


def l2_momentum(learning_rate):
    return optax.chain(optax.add_decayed_weights(0.1), momentum(learning_rate))


# name: (factory, what is tuned, what is carried)
COVERED = {
    "sgd": (optax.sgd, RATE, "grads"),
    "momentum, rate": (momentum, RATE, "nothing"),
    "momentum": (optax.sgd, {**RATE, "momentum": 0.9}, "grads"),
    "nesterov, rate": (partial(nesterov, momentum=0.9), RATE, "grads"),
    "nesterov": (nesterov, {**RATE, "momentum": 0.9}, "grads"),
    "adam, rate": (optax.adam, RATE, "nothing"),
    "adam, rate and eps": (optax.adam, {**RATE, "eps": 1e-3}, "nothing"),
    "adam": (optax.adam, {**RATE, **BETAS, "eps": 1e-8}, "grads"),
    "adam, rate per leaf": (optax.adam, {"learning_rate": jd.per_leaf(1e-2), "b1": 0.9}, "grads"),
    "adamw, rate": (optax.adamw, RATE, "params"),
    "adamw": (optax.adamw, {**RATE, **BETAS, "weight_decay": 1e-2}, "grads, params"),
    "nadam": (optax.nadam, {**RATE, **BETAS}, "grads"),
    "rmsprop": (optax.rmsprop, {**RATE, "decay": 0.9, "eps": 1e-8}, "grads"),
    "adagrad": (optax.adagrad, {**RATE, "eps": 1e-7}, "grads"),
    "lion": (optax.lion, {"learning_rate": 1e-3, "weight_decay": 1e-2}, "grads, params"),
    "amsgrad": (optax.amsgrad, {**RATE, **BETAS}, "grads"),
    "clipping before adam": (clipped, RATE, "nothing"),
    "decay before momentum": (l2_momentum, RATE, "nothing"),
}


def tower(factory, tune, method, hyper_optimizer=None):
    hyper_optimizer = optax.adam(1e-2) if hyper_optimizer is None else hyper_optimizer
    return jd.hypergradient(factory, hyper_optimizer, tune=tune, method=method)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that 12 coordinates take two blocks, and 31 leave a remainder."""
    monkeypatch.setattr(blocks, "_NARROWEST", 8)


# Differentiated like others in the list.
ONLY_DESCRIBED = ("momentum, rate", "nesterov, rate", "adam, rate and eps", "adamw, rate")


@pytest.mark.parametrize("name", COVERED)
def test_the_record_holds_no_more_than_the_derivative_reads(name):
    factory, tune, carried = COVERED[name]
    described = jd.describe(tower(factory, tune, "fused"))
    assert f"; fused;\n   carries {carried}\n" in described
    assert jd.describe(tower(factory, tune, "auto")) == described
    assert "general, forward mode;" in jd.describe(tower(factory, tune, "general"))


@pytest.mark.parametrize("name", [name for name in COVERED if name not in ONLY_DESCRIBED])
def test_the_methods_agree_along_a_trajectory(name, small_blocks):
    factory, tune, _ = COVERED[name]
    with jax.enable_x64(True):
        params = problems.parameters(jnp.float64)
        inputs = problems.batches(40, jnp.float64, dead_inputs=True)
        inputs = inputs.at[20].set(jnp.nan)
        both = {m: tower(factory, tune, m) for m in ("general", "fused")}
        (_, state, path, learned), (_, other, expected, expected_learned) = (
            problems.train(tx, params, inputs) for tx in (both["fused"], both["general"])
        )
        for key in learned[0]:
            moved = jax.tree.leaves(learned[0][key])[0]
            assert np.ptp(moved) > 1e-3 * np.abs(moved[0])
        assert_close((path, learned), (expected, expected_learned))
        assert_close(jd.inner_state(both["fused"], state), jd.inner_state(both["general"], other))
    assert int(state.skipped) == int(other.skipped) == 1
    assert int(state.masked) == int(other.masked) == 0
    assert int(state.rejected) == int(other.rejected) == 0


def aggregated(h):
    """Two moments; h is the decay of the first, but for `w` of the second."""

    def update(updates, state, params=None):
        def betas(name):
            return (h, 0.5) if name == "w" else (0.5, h)

        moments = [
            {name: betas(name)[i] * old[name] + g for name, g in updates.items()}
            for i, old in enumerate(state)
        ]
        return jax.tree.map(lambda m, n: -0.01 * (m + 2 * n), *moments), moments

    return optax.GradientTransformation(lambda params: [optax.tree.zeros_like(params)] * 2, update)


def of_gradient_or_parameter(h):
    """A moment of the gradient, but for `w` of the parameter; the update reads both."""

    def update(updates, state, params):
        added = {**updates, "w": params["w"]}
        moments = jax.tree.map(lambda m, x: h * m + x, state, added)

        def step(m, g, p):
            return -0.01 * (m + 2 * g + 0.3 * p)

        return jax.tree.map(step, moments, updates, params), moments

    return optax.GradientTransformation(optax.tree.zeros_like, update)


SMALL_LEAVES = {
    "alike": (optax.adam, {**RATE, **BETAS}, [[0, 1, 2]]),
    "one without decay": (
        partial(optax.adamw, mask={"w": True, "b": False, "unused": True}),
        {**RATE, "b2": 0.99, "weight_decay": 0.1},
        [[0], [1, 2]],
    ),
    "two moments": (aggregated, {"h": jd.unit_interval(0.9)}, [[0, 1], [2]]),
    "moments of this or that": (
        of_gradient_or_parameter,
        {"h": jd.unit_interval(0.9)},
        [[0, 1], [2]],
    ),
    "a rate for each": (optax.sgd, {"learning_rate": jd.per_leaf(1e-2)}, None),
}


@pytest.mark.parametrize("name", SMALL_LEAVES)
def test_small_leaves_with_the_same_update_are_summed_together(name, monkeypatch):
    factory, tune, expected_groups = SMALL_LEAVES[name]
    found, group = [], fused._groups
    monkeypatch.setattr(fused, "_groups", lambda *args: found.append(group(*args)) or found[-1])
    with jax.enable_x64(True):
        params, inputs = problems.parameters(jnp.float64), problems.batches(10, jnp.float64)
        *_, path, learned = problems.train(tower(factory, tune, "fused"), params, inputs)
        *_, expected, others = problems.train(tower(factory, tune, "general"), params, inputs)
        assert_close((path, learned), (expected, others))
    assert found[:1] == ([expected_groups] if expected_groups else [])


@pytest.mark.parametrize("method", ["fused", "general"])
@pytest.mark.parametrize("shape", [(8, 4), (128, 64)], ids=["small", "large"])
def test_explicit_sharding_of_parameters_makes_no_difference(method, shape):
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Explicit,))
    params = {"w": jnp.linspace(-1.0, 1.0, shape[0] * shape[1]).reshape(shape), "b": jnp.ones(4)}
    grads = jax.tree.map(lambda x: jnp.stack([jnp.sin(x + t) for t in range(3)]), params)
    tx = tower(optax.adam, {**RATE, **BETAS}, method)
    expected, states = run(tx, params, grads)
    with jax.set_mesh(mesh):

        def spread(x, *spec):
            return jax.device_put(x, jax.sharding.PartitionSpec(*spec))

        params = {"w": spread(params["w"], None, "model"), "b": spread(params["b"])}
        grads = {"w": spread(grads["w"], None, None, "model"), "b": spread(grads["b"])}
        path, others = run(tx, params, grads)
    assert_close((path, others.hyperparams), (expected, states.hyperparams), 1e-5)


def test_a_hyper_optimizer_may_communicate_between_devices_of_which_one_skips():
    mean = optax.stateless(lambda updates, params: jax.lax.pmean(updates, "agents"))
    tx = tower(optax.adam, RATE, "auto", optax.chain(mean, optax.sgd(0.1)))

    def agent(x, bad):
        x, state = x[0], tx.init(x[0])
        for t in range(3):
            grads = jnp.sin(x + t) + jnp.where(bad[0] == t, jnp.nan, 0)
            updates, state = tx.update(grads, state, x)
            x = optax.apply_updates(x, updates)
        return state.skipped[None]

    mesh = jax.make_mesh((2,), ("agents",), axis_types=(jax.sharding.AxisType.Auto,))
    each = jax.sharding.PartitionSpec("agents")
    alone = partial(jax.shard_map, mesh=mesh, in_specs=each, out_specs=each, check_vma=False)
    skipped = jax.jit(alone(agent))(jnp.ones((2, 4)), jnp.array([5, 1]))
    assert skipped.tolist() == [0, 1]


def test_a_number_in_the_state_that_is_learned_costs_no_buffer():
    def injected(learning_rate):
        return optax.inject_hyperparams(optax.adam)(learning_rate=lambda count: learning_rate)

    assert "carries nothing" in jd.describe(tower(injected, RATE, "fused"))


def test_a_division_by_zero_counts_as_a_slope_of_zero_in_both_methods():
    def clipped_by_value(scale):
        def update(updates, state, params=None, *, value, **extra_args):
            def clip(g):
                return -scale * jnp.clip(g / (scale * value), -1, 1)

            return jax.tree.map(clip, updates), state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    values = jnp.zeros(len(GRADS))
    (path, states), (expected, others) = (
        run(
            tower(clipped_by_value, {"scale": jd.positive(0.1)}, m),
            jnp.asarray(START),
            GRADS,
            value=values,
        )
        for m in ("fused", "general")
    )
    assert_close((path, states.hyperparams), (expected, others.hyperparams), 1e-6)
    assert int(final(states).masked) == int(final(others).masked) == 0


def test_a_rate_below_what_narrow_parameters_can_hold_is_learned():
    grads, tune = jnp.asarray(GRADS, jnp.float16), {"learning_rate": jd.unconstrained(1e-8)}
    tx = tower(optax.sgd, tune, "general", optax.sgd(1e-4))
    _, states = run(tx, jnp.ones(3, jnp.float16), grads)
    (rate,) = final(states).hyperparams["learning_rate"]
    expected = 1e-8 + 1e-4 * sum(np.vdot(g, h) for g, h in itertools.pairwise(grads))
    np.testing.assert_allclose(rate, expected, rtol=1e-3)


def test_the_program_does_not_grow_with_the_size_of_a_hyperparameter():
    def lines(n):
        tx = tower(optax.sgd, {"learning_rate": jnp.full(n, 0.1)}, "general")
        params = jnp.ones((4, n))
        return len(jax.jit(tx.update).lower(params, tx.init(params)).as_text().splitlines())

    assert lines(64) < 1.1 * lines(8)


def column_sums(learning_rate):
    summed = partial(jax.tree.map, lambda g: -learning_rate * jnp.cumsum(g, axis=0))

    def update(updates, state, params=None):
        return (summed(updates), state)

    return optax.GradientTransformation(lambda params: (), update)


NOT_COVERED = {
    "a sum along an axis": (column_sums, RATE, "cumsum"),
    "orthogonal updates": (optax.contrib.muon, RATE, "mixes coordinates"),
    "a rate for each column": (optax.sgd, {"learning_rate": [0.1, 0.2]}, "an array"),
}


@pytest.mark.parametrize("name", NOT_COVERED)
def test_an_update_that_mixes_coordinates_is_general_and_refused_as_fused(name):
    factory, tune, what = NOT_COVERED[name]
    assert "general, " in jd.describe(tower(factory, tune, "auto"))
    with pytest.raises(ValueError, match=f"method must be 'general' or 'auto'.*{what}"):
        tower(factory, tune, "fused")


def test_complex_parameters_are_refused_as_fused_at_init_and_general_otherwise():
    params = jnp.ones(3, jnp.complex64)
    assert "general, " in jd.describe(tower(optax.adam, RATE, "auto"), params)
    with pytest.raises(ValueError, match=r"'fused'.*complex64"):
        tower(optax.adam, RATE, "fused").init(params)


@pytest.mark.parametrize("method", ["both", None, True])
def test_an_unknown_method_is_refused(method):
    with pytest.raises(ValueError, match=f"method must be one of 'auto'.*got {method!r}"):
        tower(optax.adam, RATE, method)


@pytest.mark.parametrize("size", [30, 31])  # five blocks, and three with a rest
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sums_are_over_the_finite_terms_of_all_blocks(size, bad, small_blocks):
    x, y = np.random.default_rng(0).normal(size=(2, size)).astype(np.float32)
    y[[0, 13, size - 1]] = bad
    found = jax.jit(partial(blocks.sums, lambda _, x, y: [x, x * y]))(x, y)
    products = np.where(np.isfinite(y), np.float64(x) * y, 0)
    for total, terms in zip(found.totals, (x, products), strict=True):
        assert abs(total - np.sum(terms)) <= 1e-6 * np.sum(np.abs(terms))
    assert not found.all_finite
    assert blocks.sums(lambda _, x: [x], x).all_finite


def test_terms_that_are_not_finite_are_left_out_block_by_block(small_blocks):
    params, grads = jnp.ones(12), np.random.default_rng(4).normal(size=(3, 12))
    outer = grads.copy()
    outer[2, [0, 7, 11]] = [np.nan, np.inf, -np.inf]
    expected = outer.copy()
    expected[2, [0, 7, 11]] = 0
    tx = tower(optax.adam, {**RATE, **BETAS}, "fused")
    path, states = run(tx, params, grads, outer_grads=outer)
    clean, clean_states = run(tx, params, grads, outer_grads=expected)
    assert_close(path, clean, 1e-6)
    assert_close(states.hyperparams, clean_states.hyperparams, 1e-6)
    assert (int(final(states).masked), int(final(clean_states).masked)) == (1, 0)


@pytest.mark.parametrize(
    "start", [1e-30, 1e-9, 1e-3, jd.unconstrained(0.0), jd.unconstrained(1e-6)], ids=str
)
def test_the_methods_agree_for_a_beta_near_zero(start):
    hyper = optax.sgd(1e-4)
    with jax.enable_x64(True):
        grads = jnp.asarray(GRADS)
        (path, states), (expected, expected_states) = (
            run(tower(optax.adam, {**RATE, "b1": start}, m, hyper), jnp.asarray(START), grads)
            for m in ("fused", "general")
        )
        assert_close((path, states.hyperparams), (expected, expected_states.hyperparams))
    assert int(final(states).masked) == 0


def test_narrow_parameters_are_differentiated_in_single_precision():
    params, grads = jnp.ones(3, jnp.bfloat16), jnp.asarray(GRADS, jnp.bfloat16)
    tune = {**RATE, **BETAS}
    (_, states), (_, expected) = (
        run(tower(optax.adam, tune, m, optax.sgd(0.1)), params, grads) for m in ("fused", "general")
    )
    assert_close(states.hyperparams, expected.hyperparams, 1e-5)


def test_the_methods_agree_agent_by_agent_under_vmap(small_blocks):
    agents = jnp.stack([jnp.linspace(-1, 1, 12), jnp.linspace(0, 3, 12)])

    def trained(method, x):
        tx = tower(optax.adam, {**RATE, **BETAS}, method, optax.sgd(0.1))
        state = tx.init(x)
        for t in range(3):
            updates, state = tx.update(jnp.sin(x) + OTHERS[t, 0], state, x)
            x = optax.apply_updates(x, updates)
        return x, state.hyperparams

    both = (jax.jit(jax.vmap(partial(trained, m)))(agents) for m in ("fused", "general"))
    assert_close(*both, 1e-5)
