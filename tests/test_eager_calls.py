"""Updates that are called outside of `jax.jit` are traced once, and not kept alive."""

import gc
import weakref
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.eager_calls import compile_eager_calls
from tests.transformations import PROBES, TRANSFORMATIONS, make

TRACE = "/jax/core/compile/jaxpr_trace_duration"


@pytest.fixture(scope="module")
def traces():
    """A list that grows with each trace."""
    found, active = [], [True]

    def listen(event, _duration, **_):
        if active and event == TRACE:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    active.clear()


def doubled(traced):
    def update(updates, state, params=None, **extra):
        traced.append(updates)
        return jax.tree.map(lambda g: -2 * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_second_call_of_every_transformation_traces_nothing(name, traces):
    tx, params, grads = make(name), jnp.ones(3), jnp.full(3, 0.1)
    extra = {"value": 1.0, **({"batch": jnp.zeros(())} if name in PROBES else {})}
    state = tx.init(params)
    _, state = tx.update(grads, state, params, **extra)
    before = len(traces)
    assert before
    updates, _ = tx.update(grads, state, params, **extra)
    assert len(traces) == before
    assert np.isfinite(updates).all()


class Model(eqx.Module):
    weights: jax.Array
    table: jax.Array  # of integers, without a gradient
    activation: Callable

    def __call__(self, x):
        return self.activation(self.weights * x) + jnp.sum(self.table)


@pytest.mark.parametrize("whole", [False, True], ids=["parameters", "an Equinox model"])
def test_the_second_probe_compiles_nothing(whole):
    traced = [0]

    def loss(model, x):
        traced[-1] += isinstance(model.weights, jax.core.Tracer)
        return jnp.mean(model(x) ** 2)

    def loss_of_weights(weights, x):
        return loss(Model(weights, jnp.arange(100), jnp.tanh), x)

    model, x = Model(jnp.ones(3), jnp.arange(100), jnp.tanh), jnp.linspace(1.0, 2.0, 3)
    params = eqx.filter(model, eqx.is_inexact_array) if whole else model.weights
    function, at = (loss, model) if whole else (loss_of_weights, model.weights)
    probe = jd.stability_probe(function, jd.thresholds.sgd(0.1))
    state, opt_state = probe.init(params), optax.sgd(0.1).init(params)
    for step in range(3):
        at = jax.tree.map(lambda x: x, at)  # a new model, as a training step returns it
        state = probe.update(state, at, opt_state, params, x, step)
        traced.append(0)
    assert traced[0] > traced[1] == traced[2] <= 1  # the shape of the loss is checked each time
    np.testing.assert_allclose(state.log.sharpness[1:3], state.log.sharpness[0], rtol=1e-3)


def test_a_call_inside_jit_traces_the_update_itself():
    traced = []
    tx = jd.with_average(doubled(traced))

    @jax.jit
    def step(x, state):
        return tx.update(x, state, x)

    state = tx.init(jnp.ones(3))
    program = jax.make_jaxpr(step)(jnp.ones(3), state)
    (inner,) = (eqn.params["jaxpr"] for eqn in program.eqns)
    assert not [eqn for eqn in inner.eqns if eqn.params.get("name") == "update"]


def test_functions_of_the_model_and_none_can_be_passed():
    def update(updates, state, params, *, value_fn, other):
        assert other is None
        return value_fn(params) * updates, state

    inner = optax.GradientTransformationExtraArgs(lambda params: (), update)
    tx, x = jd.with_average(inner), jnp.ones(3)
    for factor in (2.0, 3.0):
        updates, _ = tx.update(x, tx.init(x), x, value_fn=partial(jnp.dot, factor * x), other=None)
        np.testing.assert_array_equal(updates, 3 * factor)


def test_an_update_that_branches_on_values_runs_as_it_is():
    def update(updates, state, params=None):
        return (updates if updates[0] > 0 else -updates), state

    eager = compile_eager_calls(update)
    for sign in (1.0, -1.0):
        np.testing.assert_array_equal(eager(jnp.full(2, sign), ())[0], 1.0)


def test_errors_are_the_update_s_own():
    tx = jd.with_average(optax.sgd(1.0))
    with pytest.raises(ValueError, match="needs params"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))


def test_programs_are_freed_with_the_transformation():
    scale = jnp.arange(3.0)

    def factory(learning_rate, scale=scale):
        return optax.chain(optax.stateless(lambda g, _: g * scale), optax.sgd(learning_rate))

    tx = jd.hypergradient(factory, optax.sgd(0.1), tune={"learning_rate": 0.1})
    tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))
    held = weakref.ref(tx.spec)
    del tx, factory
    gc.collect()
    assert held() is None
