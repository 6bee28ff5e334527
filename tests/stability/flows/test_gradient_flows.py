"""Gradient flows against the optimizers and an ODE solver."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import jaxdescent as jd
from jaxdescent.stability.flows.optimizers import ema_weight

START = {"a": np.array([0.5, -0.3]), "b": np.array(0.8)}


def loss(params, scale):
    x, y = params["a"]
    return scale * jnp.tanh(x * y - 0.3) ** 2 + (params["b"] ** 2 - x) ** 2 / 2


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


OPTIMIZERS = {
    "descent": (jd.flows.sgd(0.1), optax.sgd(0.1)),
    "momentum": (jd.flows.sgd(0.02, 0.9), optax.sgd(0.02, 0.9)),
    "rmsprop": (jd.flows.rmsprop(1e-2, 0.95, 1e-6), optax.rmsprop(1e-2, 0.95, 1e-6)),
    "adam": (jd.flows.adam(1e-2, 0.8, 0.99, 1e-5), optax.adam(1e-2, 0.8, 0.99, 1e-5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_flow_with_one_substep_equals_the_optimizer(name):
    ours, theirs = OPTIMIZERS[name]
    state, path = jd.gradient_flow(loss, START, 1.5, ours, steps=30, substeps=1)

    def step(carry, _):
        params, moments = carry
        value, grads = jax.value_and_grad(loss)(params, 1.5)
        updates, moments = theirs.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    params = jax.tree.map(jnp.asarray, START)
    (params, _), losses = jax.lax.scan(step, (params, theirs.init(params)), None, length=30)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9), state.params, params)
    np.testing.assert_allclose(path.loss, losses, rtol=1e-9)


def derivatives(optimizer):
    """Returns dw/dt, dm/dt, dnu/dt as in the module's header, and the state after half a step."""
    rates = [-np.log(b) if b else np.inf for b in (optimizer.b1, optimizer.b2)]

    def derivative(t, y):
        w, m, nu = y.reshape(3, 3)
        g = np.asarray(gradient(w))
        P = optimizer.preconditioner(nu, t + 0.5)
        m = m if optimizer.b1 else g
        dm = rates[0] * (g - m) if optimizer.b1 else 0 * g
        dnu = rates[1] * (g**2 - nu) if optimizer.adaptive else 0 * g
        return np.concatenate([-optimizer.learning_rate * m / P, dm, dnu])

    w = np.array([0.5, -0.3, 0.8])
    g = np.asarray(gradient(w))
    return derivative, np.concatenate(
        [w, ema_weight(optimizer.b1, 0.5) * g, ema_weight(optimizer.b2, 0.5) * g**2]
    )


@jax.jit
def gradient(w):
    return jax.grad(lambda w: loss({"a": w[:2], "b": w[2]}, 1.5))(w)


@pytest.mark.parametrize(("name", "order"), [("descent", 1), ("momentum", 2), ("adam", 2)])
def test_many_substeps_converge_to_the_differential_equation(name, order):
    optimizer, _ = OPTIMIZERS[name]
    derivative, start = derivatives(optimizer)
    exact = solve_ivp(derivative, (0, 10), start, rtol=1e-10, atol=1e-12).y[:3, -1]
    errors = []
    for substeps in (16, 32):
        state, _ = jd.gradient_flow(loss, START, 1.5, optimizer, steps=10, substeps=substeps)
        found = np.append(state.params["a"], state.params["b"])
        errors.append(np.linalg.norm(found - exact))
    assert errors[1] < 2e-3 * np.linalg.norm(exact - start[:3])
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_iterates_shrink_below_the_threshold_and_grow_above_it(momentum):
    optimizer = jd.flows.sgd(0.1, momentum)
    tx = optax.sgd(0.1, momentum)

    def last(curvature):
        def step(carry, _):
            x, state = carry
            updates, state = tx.update(curvature * x, state)
            return (x + updates, state), None

        x = jnp.ones(())
        return jnp.abs(jax.lax.scan(step, (x, tx.init(x)), None, length=1000)[0][0])

    below, above = jax.vmap(last)(optimizer.threshold * jnp.array([0.98, 1.02]))
    assert below < 1e-3
    assert above > 1e3


def test_adams_threshold_is_38_over_the_learning_rate():
    assert float(jd.flows.adam(0.5).threshold) == pytest.approx(76)


def test_half_precision_is_computed_in_float32():
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), START)
    state, _ = jd.gradient_flow(loss, params, 1.5, jd.flows.sgd(0.1), steps=2, substeps=2)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}


def test_a_non_finite_loss_stops_the_flow_at_its_last_state():
    def cliff(w, _):
        return jnp.where(w > 0.9, w**2, jnp.nan)

    state, path = jd.gradient_flow(cliff, 1.0, None, jd.flows.sgd(0.01), steps=10, substeps=2)
    assert np.isfinite(state.params)
    assert np.isfinite(state.m)
    assert path.finite[0]
    assert not path.finite[-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jd.flows.sgd(0.0), r"learning_rate must be in \(0, inf\), got 0.0"),
        (lambda: jd.flows.sgd(0.1, 1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: jd.flows.sgd(0.1, 0.9, nesterov=True), "nesterov must be False, got True"),
        (lambda: jd.flows.sgd(0.1, 0.9, nesterov=1), "nesterov must be False, got 1"),
        (lambda: jd.flows.rmsprop(0.1, -0.1), r"decay must be in \[0, 1\), got -0.1"),
        (lambda: jd.flows.adam(0.1, b2=1.0), r"b2 must be in \[0, 1\), got 1.0"),
        (lambda: jd.flows.adam(0.1, eps=-1.0), r"eps must be in \[0, inf\), got -1.0"),
    ],
)
def test_bad_optimizer_arguments_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_arguments_raise():
    sgd = jd.flows.sgd(0.1)
    with pytest.raises(ValueError, match="steps must be an integer at least 1, got 0"):
        jd.gradient_flow(loss, START, 1.5, sgd, steps=0)
    with pytest.raises(ValueError, match="substeps must be an integer at least 1, got 0"):
        jd.gradient_flow(loss, START, 1.5, sgd, steps=1, substeps=0)
    with pytest.raises(TypeError, match=r"optimizer must be one of jd\.flows"):
        jd.gradient_flow(loss, START, 1.5, optax.sgd(0.1), steps=1)
    with pytest.raises(ValueError, match="loss_fn must return a real scalar"):
        jd.gradient_flow(lambda w, _: w, jnp.ones(2), None, sgd, steps=1)
    with pytest.raises(ValueError, match="params must have real floating-point leaves"):
        jd.gradient_flow(lambda w, _: jnp.sum(w) / 2, jnp.arange(2), None, sgd, steps=1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("substeps", [4, 16])
def test_integration_is_stable_up_to_its_own_threshold(momentum, substeps):
    """It is `substeps` times the optimizer's threshold, with momentum `substeps`^2 times."""
    optimizer = jd.flows.sgd(0.1, momentum)
    decay = float(optimizer.b1) ** (1 / substeps)
    bound = 2 * (1 + decay) * substeps / (float(optimizer.learning_rate) * (1 - decay))
    assert bound / float(optimizer.threshold) == pytest.approx(
        substeps if not momentum else substeps**2, rel=1e-2
    )

    def loss(w, s):
        return 0.5 * s * w**2

    ends = []
    for ratio in (0.98, 1.02):
        state, _ = jd.gradient_flow(
            loss, jnp.array(1.0), jnp.float32(ratio * bound), optimizer, steps=60, substeps=substeps
        )
        ends.append(abs(float(state.params)))
    assert ends[0] < 10
    assert ends[1] > 1e3 or not np.isfinite(ends[1])
