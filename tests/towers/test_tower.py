"""A tower step by step: numbers derived by hand, bad batches, odd parameters, a long fuzz."""

import functools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optax import contrib

import jaxdescent as jd
from jaxdescent.towers.replay import blocks
from tests.towers.stepping import (
    BAD_ROWS,
    GRADS,
    MAKERS,
    OTHERS,
    RATE,
    START,
    assert_close,
    final,
    made,
    rates,
    run,
)


def test_sgd_learns_its_log_rate_from_the_inner_product_of_gradients():
    tx = jd.hypergradient(optax.sgd, optax.sgd(0.03), tune={"learning_rate": jd.positive(0.5)})
    log_rate, params, expected = np.log(0.5), START, []
    for t, g in enumerate(GRADS):
        if t > 0:  # the hypergradient is -rate <g, g'>, and descent takes off 0.03 of it
            log_rate += 0.03 * np.exp(log_rate) * (g @ GRADS[t - 1])
        params = params - np.exp(log_rate) * g
        expected.append((np.exp(log_rate), params))
    with jax.enable_x64(True):
        path, states = run(tx, START, GRADS)
        assert_close((rates(states)[0], path), tuple(map(np.stack, zip(*expected, strict=True))))


@pytest.mark.parametrize("outer", [GRADS, OTHERS], ids=["same gradient", "another outer_grads"])
def test_two_levels_of_sgd_move_from_the_top_down_and_outer_grads_enter_at_the_bottom(outer):
    def raw(rate):
        return {"learning_rate": jd.unconstrained(rate)}

    upper = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune=raw(0.02))
    tx = jd.hypergradient(optax.sgd, upper, tune=raw(0.3))
    params, rate, hyper_rate, before, expected = START, 0.3, 0.02, 0.0, []
    for t, g in enumerate(GRADS):
        signal = -outer[t] @ GRADS[t - 1] if t > 0 else 0.0
        hyper_rate -= 0.1 * (-signal * before)
        rate -= hyper_rate * signal
        params = params - rate * g
        before = signal
        expected.append((rate, hyper_rate, params))
    extra_args = {} if outer is GRADS else {"outer_grads": outer}
    with jax.enable_x64(True):
        path, states = run(tx, START, GRADS, **extra_args)
        assert_close((*rates(states), path), tuple(map(np.stack, zip(*expected, strict=True))))


def test_in_the_first_step_the_hyper_optimizer_steps_on_a_gradient_of_zero():
    tx = jd.hypergradient(optax.sgd, optax.adam(0.1), tune=RATE)
    start = tx.init(START)
    _, states = run(tx, START, GRADS[:1])
    chex.assert_trees_all_equal(final(states).hyperparams, start.hyperparams)
    assert (bool(start.has_previous), bool(final(states).has_previous)) == (False, True)
    assert int(final(states).hyper_state[0].count) == 1


def test_only_the_non_finite_terms_of_outer_grads_are_left_out():
    tx = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": jd.unconstrained(0.5)})
    outer_grads = OTHERS.copy()
    outer_grads[1, 0], outer_grads[2] = np.nan, np.inf
    with jax.enable_x64(True):
        path, states = run(tx, START, GRADS[:3], outer_grads=outer_grads[:3])
        learned = 0.5 + 0.1 * (OTHERS[1, 1:] @ GRADS[0, 1:])
        assert_close(rates(states)[0], np.array([0.5, learned, learned]))
        assert_close(path[2], path[1] - learned * GRADS[2])
    state = final(states)
    assert (int(state.masked), int(state.skipped), int(state.rejected)) == (2, 0, 0)


def with_bad_rows(name, bad, rows):
    """Gradients and values; on the bad rows one number is not finite."""
    grads, values = GRADS.copy(), np.abs(OTHERS[:, 0])
    if name == "reads value":
        values[rows] = bad
    else:
        grads[rows, 1] = bad
    return grads, values


@pytest.mark.parametrize("rows", BAD_ROWS, ids=str)
@pytest.mark.parametrize(("name", "bad"), [*((n, np.nan) for n in MAKERS), ("adam", np.inf)])
def test_a_bad_batch_costs_one_signal_and_nothing_else(name, bad, rows):
    grads, values = with_bad_rows(name, bad, rows)
    after_bad = GRADS.copy()
    after_bad[[row + 1 for row in rows]] = 0  # the lost signal
    without = partial(np.delete, obj=rows, axis=0)
    with jax.enable_x64(True):
        step = partial(run, made(name, 0.01), START)
        path, states = step(grads, outer_grads=GRADS, value=values)
        expected, expected_states = step(
            without(grads), outer_grads=without(after_bad), value=without(values)
        )
        assert_close(without(path), expected)
        assert_close([without(rate) for rate in rates(states)], rates(expected_states))
        expected_state = final(expected_states)
        assert_close(final(states)._replace(skipped=expected_state.skipped), expected_state)
    is_bad = np.isin(np.arange(8), rows)
    moves = np.diff(np.column_stack([path, *rates(states)]), axis=0)
    np.testing.assert_array_equal(np.any(moves != 0, axis=1), ~is_bad[1:])
    assert np.array_equal(path[0], START) == is_bad[0]
    np.testing.assert_array_equal(states.skipped, np.cumsum(is_bad))
    np.testing.assert_array_equal(states.has_previous, ~is_bad)


@pytest.mark.parametrize("rows", BAD_ROWS, ids=str)
def test_with_hyper_rate_zero_a_bad_batch_changes_nothing(rows):
    grads, _ = with_bad_rows("adam", np.nan, rows)
    with jax.enable_x64(True):
        path, states = run(made("adam", 0.0), START, grads)
        adam = optax.with_extra_args_support(optax.adam(jnp.asarray(0.1), jnp.asarray(0.9)))
        plain, inner_states = run(adam, START, np.delete(grads, rows, axis=0))
        assert_close(path[-1], plain[-1])
        assert_close(jd.inner_state(made("adam", 0.0), final(states)), final(inner_states))


def test_a_value_that_is_not_read_may_be_non_finite_or_missing():
    path, states = run(made("adam", 0.01), START, GRADS, value=np.full(8, np.nan))
    expected, _ = run(made("adam", 0.01), START, GRADS)
    assert_close(path, expected, 0.0)
    assert int(final(states).skipped) == int(final(states).rejected) == 0


def weighed_by_value(spoils):
    """Descent at a rate of 0.1 times `value`, which goes into the updates or into the state."""

    def update(updates, state, params=None, *, value, **_):
        weight = value if spoils == "updates" else jnp.nan_to_num(value, posinf=0.0)
        total = state["total"] + (value if spoils == "state" else 1.0)
        moved = jax.tree.map(lambda g: -0.1 * weight * g, updates)
        return moved, {"total": total, "count": state["count"] + 1}

    def init(params):
        return {"total": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)}

    return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("spoils", ["updates", "state"])
def test_a_move_to_a_non_finite_number_is_undone_and_counted(spoils, bad):
    tune = {"learning_rate": jd.unconstrained(0.5)}
    tx = jd.hypergradient(optax.sgd, weighed_by_value(spoils), tune=tune)
    values = np.array([1.0, 2.0, bad, 3.0])
    with jax.enable_x64(True):
        path, states = run(tx, START, GRADS[:4], value=values)
        first = 0.5 + 0.1 * 2.0 * (GRADS[1] @ GRADS[0])
        last = first + 0.1 * 3.0 * (GRADS[3] @ GRADS[2])
        assert_close(rates(states)[0], np.array([0.5, first, first, last]))
        assert_close(path[2], path[1] - first * GRADS[2])
    state = final(states)
    assert (int(state.rejected), int(state.skipped)) == (1, 0)
    assert int(state.hyper_state["count"]) == 3


@functools.cache
def fuzzed(hyper_optimizer, dtype):
    """The state and the extremes of the hyperparameters after 10,000 steps at given scales."""
    tune = {**RATE, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": jd.per_leaf(1e-2)}
    tx = jd.hypergradient(optax.adamw, hyper_optimizer(), tune=tune)
    params = {"w": jnp.ones((2, 2), dtype), "b": jnp.zeros(2, dtype)}

    def extreme(f, a, b):
        return jax.tree.map(f, a, b)

    @jax.jit
    def finish(scales):
        def step(carry, row):
            params, state, low, high = carry
            key, scale = row
            noise = jax.tree.map(lambda p: jax.random.normal(key, p.shape), params)
            grads = jax.tree.map(lambda n, p: (scale * n).astype(p.dtype), noise, params)
            updates, state = tx.update(grads, state, params)
            (now,) = jd.get_hyperparams(state)
            carry = extreme(jnp.minimum, low, now), extreme(jnp.maximum, high, now)
            return (optax.apply_updates(params, updates), state, *carry), None

        state = tx.init(params)
        (now,) = jd.get_hyperparams(state)
        rows = jax.random.split(jax.random.key(0), scales.size), scales
        return jax.lax.scan(step, (params, state, now, now), rows)[0][1:]

    return finish


@pytest.mark.parametrize(
    ("hyper_optimizer", "dtype"),
    [(partial(optax.sgd, 1e3), jnp.float32), (partial(optax.adam, 1.0), jnp.bfloat16)],
    ids=["sgd float32", "adam bfloat16"],
)
@given(
    pattern=st.lists(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]), min_size=1, max_size=6),
    block=st.sampled_from([1, 7, 1000]),
    bad=st.integers(0, 9_999),
)
@example(pattern=[0.0], block=1, bad=0)
@example(pattern=[1e30], block=1, bad=9_999)
@example(pattern=[1.0, 1e-30, 1e30], block=1, bad=5_000)
@settings(max_examples=5, deadline=None, derandomize=True)
def test_no_gradient_drives_a_hyperparameter_out_of_its_space(
    hyper_optimizer, dtype, pattern, block, bad
):
    scales = np.resize(np.repeat(np.float32(pattern), block), 10_000)
    scales[bad] = np.nan
    state, low, high = fuzzed(hyper_optimizer, dtype)(scales)
    for name in low:
        for least, most in zip(*map(jax.tree.leaves, (low[name], high[name])), strict=True):
            assert 0 < least <= most < (1 if name in ("b1", "b2") else np.inf)
    assert int(state.skipped) == 1


def scaled_momentum(learning_rate):
    """Heavy-ball momentum on gradients times the keyword `scale`."""

    def update(updates, buffer, params=None, *, scale, **_):
        buffer = jax.tree.map(lambda b, g: 0.9 * b + scale * g, buffer, updates)
        return jax.tree.map(lambda b: -learning_rate * b, buffer), buffer

    return optax.GradientTransformationExtraArgs(partial(jax.tree.map, jnp.zeros_like), update)


SCALES = np.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.5, 4.0, -1.0])


def test_a_declared_keyword_is_replayed_at_its_last_value():
    extra_args = {"scale": jax.ShapeDtypeStruct((), jnp.float32)}
    tx = jd.hypergradient(scaled_momentum, optax.sgd(0.0), tune=RATE, extra_args=extra_args)
    path, states = run(tx, START, GRADS, scale=SCALES)
    plain, _ = run(scaled_momentum(0.1), START, GRADS, scale=SCALES)
    assert_close(path, plain, 1e-6)
    assert final(states).previous.extra_args == {"scale": -1.0}


def doubled_until_large(learning_rate):
    """The update is a power of two times the gradient; a while loop finds which."""

    def update(updates, state, params=None):
        start = jax.tree.map(lambda g: -learning_rate * g, updates)

        def small(u):
            return (optax.tree.norm(u) < 2.0) & (optax.tree.norm(u) > 0.0)

        return jax.lax.while_loop(small, lambda u: jax.tree.map(lambda x: 2 * x, u), start), state

    return optax.GradientTransformation(lambda params: (), update)


MATRICES = np.random.default_rng(2).normal(size=(3, 4, 3))
METHODS = {
    "adamw": (optax.adamw, "fused"),
    "adafactor": (
        partial(optax.adafactor, min_dim_size_to_factor=2, momentum=0.9),
        "general, forward mode",
    ),
    "muon": (contrib.muon, "general, forward mode"),
    "a while loop": (doubled_until_large, "general, forward mode"),
    "a custom keyword": (scaled_momentum, "fused"),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_rate_moves_by_the_slope_of_the_next_loss(name):
    factory, method = METHODS[name]
    tx = jd.hypergradient(
        factory,
        optax.sgd(0.01),
        tune={"learning_rate": jd.positive(0.1)},
        extra_args={"scale": 1.0},
    )
    assert f"; {method};" in jd.describe(tx)
    with jax.enable_x64(True):
        start = {"w": np.linspace(-1.0, 1.0, 12).reshape(4, 3)}
        path, states = run(tx, start, {"w": MATRICES}, scale=SCALES[:3])
        (rate,) = rates(states)

        @jax.jit
        def next_loss(log_rate):
            def plain(r):
                return optax.with_extra_args_support(factory(learning_rate=r))

            before = jax.tree.map(lambda x: x[0], path)
            state = plain(rate[0]).init(start)
            _, state = plain(rate[0]).update({"w": MATRICES[0]}, state, start, scale=SCALES[0])
            updates, _ = plain(jnp.exp(log_rate)).update(
                {"w": MATRICES[1]}, state, before, scale=SCALES[1]
            )
            return jnp.sum(MATRICES[2] * updates["w"])

        up, down = (next_loss(np.log(rate[1]) + move) for move in (1e-5, -1e-5))
        slope = float(up - down) / 2e-5
        np.testing.assert_allclose(np.log(rate[2] / rate[1]), -0.01 * slope, rtol=1e-6)


def test_a_hyperparameter_per_leaf_is_a_tower_per_leaf():
    def clipped(learning_rate, b1):
        return optax.chain(optax.clip_by_global_norm(0.7), optax.adam(learning_rate, b1))

    def make(wrap):
        return jd.hypergradient(
            clipped, optax.adam(0.1), tune={"learning_rate": wrap(0.1), "b1": wrap(0.9)}
        )

    leaves = {"a": (START, GRADS), "b": (START[:2], OTHERS[:, :2])}
    with jax.enable_x64(True):
        params, grads = ({k: v[i] for k, v in leaves.items()} for i in (0, 1))
        path, states = run(make(jd.per_leaf), params, grads)
        (learned,) = jd.get_hyperparams(states)
        for leaf, (start, gradients) in leaves.items():
            alone, alone_states = run(make(lambda start: start), start, gradients)
            (expected,) = jd.get_hyperparams(alone_states)
            assert_close(path[leaf], alone)
            assert_close({name: values[leaf] for name, values in learned.items()}, expected)


INSIDE = {
    "MultiSteps": lambda learning_rate: optax.MultiSteps(optax.adam(learning_rate), 2),
    "apply_if_finite": lambda learning_rate: optax.apply_if_finite(optax.adam(learning_rate), 3),
    "a mask": lambda learning_rate: optax.masked(
        optax.adam(learning_rate), {"w": True, "b": False}
    ),
    "moments in bf16": lambda learning_rate: optax.adam(learning_rate, mu_dtype=jnp.bfloat16),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", INSIDE)
def test_wrappers_inside_the_factory_work_as_outside(what, dtype):
    factory = INSIDE[what]
    tx = jd.hypergradient(factory, optax.sgd(0.0), tune={"learning_rate": 0.1})
    with jax.enable_x64(dtype == "float64"):
        params = {"w": jnp.asarray(START, dtype), "b": jnp.ones(2, dtype)}
        grads = {"w": jnp.asarray(GRADS, dtype), "b": jnp.asarray(OTHERS[:, :2], dtype)}
        plain = factory(jnp.asarray(0.1, dtype))
        path, _ = run(tx, params, grads)
        expected, _ = run(optax.chain(plain), params, grads)
        tolerance = 2e-2 if "bf16" in what else {"float32": 1e-6, "float64": 1e-12}[dtype]
        assert_close(path, expected, tolerance)


def test_with_multi_steps_inside_only_steps_that_move_the_parameters_are_learned_from():
    tx = jd.hypergradient(INSIDE["MultiSteps"], optax.sgd(0.1), tune={"learning_rate": 0.1})
    _, states = run(tx, START, GRADS)
    moved = np.diff(rates(states)[0]) != 0
    np.testing.assert_array_equal(moved, [False, True, False, True, False, True, False])


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, ()), lambda _, ct: (2 * ct,))


def test_a_factory_with_a_custom_vjp_is_differentiated_in_reverse_mode():
    def factory(learning_rate):
        return optax.sgd(doubled(learning_rate))

    tx = jd.hypergradient(factory, optax.sgd(0.01), tune={"learning_rate": 0.05})
    assert "general, reverse mode" in jd.describe(tx)
    plain = jd.hypergradient(optax.sgd, optax.sgd(0.01), tune={"learning_rate": 0.1})
    path, states = run(tx, START, GRADS)
    expected, expected_states = run(plain, START, GRADS)
    assert_close(path, expected, 1e-5)
    assert_close(2 * rates(states)[0], rates(expected_states)[0], 1e-5)


@pytest.mark.parametrize(("agents", "width"), [(1, 2), (3, blocks._NARROWEST)])
def test_training_with_a_tower_can_be_differentiated(agents, width, monkeypatch):
    monkeypatch.setattr(blocks, "_NARROWEST", width)
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={**RATE, "b1": 0.9, "b2": 0.99})

    def loss_after_training(scale):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(2 * params, state, params)
            return (params + updates, state), None

        params = jnp.asarray(START) * scale
        return jnp.sum(jax.lax.scan(step, (params, tx.init(params)), length=5)[0][0] ** 2)

    with jax.enable_x64(True):

        def total(scales):
            return jnp.sum(jax.vmap(loss_after_training)(scales))

        scales = jnp.linspace(1.0, 2.0, agents)
        slopes = jax.jit(jax.grad(total))(scales)
        up, down = (jax.vmap(loss_after_training)(scales + move) for move in (1e-6, -1e-6))
        np.testing.assert_allclose(slopes, (up - down) / 2e-6, rtol=1e-6)
