"""Central flows against closed forms, dense derivatives and the optimizers themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def valley(w, c):
    """A valley along y with curvature 18 + y across it, along x; its minimum is at y = c."""
    x, y = w
    return 0.5 * (18 + y) * x**2 + 0.1 * (y - c) ** 2


def iterates(loss, tx, w, batch, steps):
    """Returns the iterates of an optimizer, f[steps, ...]."""

    @jax.jit
    def run(w, batch):
        def step(carry, _):
            w, state = carry
            updates, state = tx.update(jax.grad(loss)(w, batch), state, w)
            return (w + updates, state), w

        return jax.lax.scan(step, (w, tx.init(w)), None, length=steps)[1]

    return run(jnp.asarray(w), batch)


STEPS = 300  # everywhere, so that tests with the same loss share a program
MOMENTA = {0.0: 0.1, 0.5: 0.15, 0.9: 0.19}  # with the learning rate that has the threshold 20


@pytest.mark.parametrize(("momentum", "rate"), MOMENTA.items())
def test_variance_with_one_eigenvalue_at_the_edge_equals_the_closed_form(momentum, rate):
    c, start = 2.5, np.array([0.3, 1.9])
    optimizer = jd.flows.sgd(rate, momentum)
    state, path = jd.central_flow(valley, start, c, optimizer, steps=STEPS, k=1)
    assert float(optimizer.threshold) == pytest.approx(20)
    end = slice(STEPS - 100, STEPS)
    np.testing.assert_allclose(path.eigenvalues[end, 0], 20, rtol=1e-6)
    np.testing.assert_allclose(path.variance[end], 0.2, rtol=1e-3)  # 0.4 (c - 2)
    np.testing.assert_allclose(path.predicted_loss[end] - path.loss[end], 2, rtol=1e-3)
    np.testing.assert_allclose(state.params[1], 2, rtol=1e-6)
    assert np.all(path.at_edge[end] == 1)
    assert np.all(path.complementarity_residual < 1e-10)

    if momentum > 0.5:
        return  # the optimizer's cycles grow in a valley as short as this one
    found = iterates(valley, optax.sgd(rate, momentum), start, c, 4000)[1000:]
    np.testing.assert_allclose(np.mean(found[:, 0] ** 2), 0.2, rtol=0.01)
    across = jax.vmap(valley, (0, None))(found, c) - 0.1 * (found[:, 1] - c) ** 2
    np.testing.assert_allclose(np.mean(across), 2, rtol=0.01)


def test_central_flow_equals_gradient_flow_below_the_edge():
    descent, adam = jd.flows.sgd(0.01, 0.5), jd.flows.adam(1e-5, eps=1e-12)
    for loss, batch, optimizer, start in (
        (valley, -0.1, descent, np.array([1.0, 1.5])),
        (bowl, np.array([2.0, 0.0]), adam, np.array([0.3, 5.0])),
    ):
        state, path = jd.central_flow(loss, start, batch, optimizer, steps=STEPS, k=1)
        gradient_flow, _ = jd.gradient_flow(loss, start, batch, optimizer, steps=STEPS, substeps=4)
        assert np.all(path.at_edge == 0)
        assert np.max(path.variance) < 1e-9
        np.testing.assert_allclose(state.params, gradient_flow.params, rtol=1e-9, atol=1e-20)
        np.testing.assert_allclose(state.m, gradient_flow.m, rtol=1e-8, atol=1e-12)
        if optimizer.adaptive:
            np.testing.assert_allclose(state.nu, gradient_flow.nu, rtol=1e-8, atol=1e-12)


def matrix_valley(w, C):
    """A valley with a curvature matrix across it, of the shape of C."""
    x, M = w["x"], w["M"]
    curvature = 18 * jnp.eye(len(C)) + (M + M.T) / 2
    return x @ curvature @ x / 2 - jnp.vdot(C, M)


ROTATION = np.array([[0.8, -0.6], [0.6, 0.8]])


@pytest.mark.parametrize("values", [(0.3, 0.1), (0.3, -0.1)])
def test_amplitudes_of_two_modes_are_the_positive_part_of_the_force(values):
    C = ROTATION * np.array(values) @ ROTATION.T
    start = {"x": np.array([0.1, 0.2]), "M": np.diag([0.3, -0.4])}
    state, path = jd.central_flow(matrix_valley, start, C, jd.flows.sgd(0.1), steps=STEPS, k=2)
    held = np.maximum(values, 0)
    np.testing.assert_allclose(path.amplitudes[-1], 2 * held, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(path.variance[-1], 2 * held.sum(), rtol=1e-3)
    assert path.at_edge[-1] == np.sum(held > 0)
    np.testing.assert_allclose(path.eigenvalues[-1][held > 0], 20, rtol=1e-6)
    if values[1] < 0:
        assert path.eigenvalues[-1, 1] < 17
        U = state.directions["x"][0]  # tells the sign of C's off-diagonal
        np.testing.assert_allclose(np.abs(U @ ROTATION[:, 0]), 1, rtol=1e-3)


def bowl(w, curvature):
    return jnp.sum(curvature * w**2) / 2


@pytest.mark.parametrize("curvature", [0.5, 40.0])
@pytest.mark.parametrize("b1", [None, 0.0, 0.9])
def test_adaptive_methods_oscillate_in_a_bowl_with_the_derived_amplitude(b1, curvature):
    """The step learning_rate (1 - b1) / (1 + b1) is twice the amplitude, and P = S / T."""
    # Without b1 the optimizer ends in a cycle of length 2. With b1, nu and the oscillation are
    # correlated, which the flow neglects; the error is about 1 - b2.
    rate, b2, accuracy = (0.02, 0.98, 0.1) if b1 else (0.02, 0.9, 1e-3)
    if b1 is None:
        optimizer, tx = jd.flows.rmsprop(rate, b2, 1e-12), optax.rmsprop(rate, b2, 1e-12)
    else:
        optimizer, tx = jd.flows.adam(rate, b1, b2, 1e-12), optax.adam(rate, b1, b2, 1e-12)
    b1 = b1 or 0.0
    amplitude = rate * (1 - b1) / (1 + b1) / 2
    start = np.array([0.002, 5.0])  # the loss does not depend on the other parameter
    curvatures = np.array([curvature, 0.0])
    state, path = jd.central_flow(bowl, start, curvatures, optimizer, steps=STEPS, k=1)
    np.testing.assert_allclose(path.variance[-1], amplitude**2, rtol=1e-3)
    np.testing.assert_allclose(path.eigenvalues[-1, 0], optimizer.threshold, rtol=1e-2)
    P = optimizer.preconditioner(state.nu, state.age)
    np.testing.assert_allclose(P[0], curvature / optimizer.threshold, rtol=1e-3)
    np.testing.assert_allclose(state.params, [0, 5], atol=1e-3 * amplitude)
    found = iterates(bowl, tx, start, curvatures, 3000)[-500:, 0]
    np.testing.assert_allclose(np.mean(found**2), amplitude**2, rtol=accuracy)


def curved(w, c):
    """A curved valley whose curvature depends on all coordinates."""
    x, y, z = w
    return 0.5 * (18 + y + 0.3 * jnp.sin(z)) * x**2 + 0.4 * x**3 - c * y + 0.5 * (z - x - 1) ** 2


def test_variance_in_a_curved_valley_equals_the_formula_with_dense_derivatives():
    c = 0.05
    optimizer = jd.flows.sgd(0.1)
    state, path = jd.central_flow(curved, np.array([0.1, 0, 0]), c, optimizer, steps=STEPS, k=2)
    w = state.params
    hessian = jax.jit(jax.hessian(curved))

    def top(w):
        return np.linalg.eigvalsh(hessian(w, c))[-1]

    ahead, behind = w + 1e-4 * np.eye(3), w - 1e-4 * np.eye(3)
    sharpening = np.array([top(a) - top(b) for a, b in zip(ahead, behind, strict=True)]) / 2e-4
    variance = -2 * jax.grad(curved)(w, c) @ sharpening / (sharpening @ sharpening)
    np.testing.assert_allclose(top(w), 20, rtol=1e-5)
    np.testing.assert_allclose(path.variance[-1], variance, rtol=1e-3)


def test_vmap_over_learning_rates_with_bfloat16_params_computes_in_float32():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        start = jnp.array([0.25, 1.875], jnp.bfloat16)

        def held(rate):
            optimizer = jd.flows.sgd(rate)
            state, path = jd.central_flow(valley, start, 6.0, optimizer, steps=STEPS, k=1)
            assert state.params.dtype == path.variance.dtype == jnp.float32
            return path.eigenvalues[-1, 0], path.variance[-1]

        eigenvalues, variances = jax.vmap(held)(jnp.array([0.1, 0.09]))
    thresholds = np.array([20, 2 / 0.09])
    np.testing.assert_allclose(eigenvalues, thresholds, rtol=1e-4)
    np.testing.assert_allclose(variances, 0.4 * (24 - thresholds), rtol=1e-2)


def test_a_non_finite_loss_leaves_the_state_unchanged():
    start = np.array([0.3, 1.9])
    state, path = jd.central_flow(valley, start, np.nan, jd.flows.sgd(0.1), steps=STEPS, k=1)
    np.testing.assert_array_equal(state.params, start)
    assert not np.any(path.finite)


def test_bad_arguments_raise():
    optimizer, start = jd.flows.sgd(0.1), np.array([0.1, 0.0])

    def run(**changes):
        return jd.central_flow(
            valley, start, 0.1, **{"optimizer": optimizer, "steps": 1, **changes}
        )

    with pytest.raises(ValueError, match="steps must be an integer at least 1, got 0"):
        run(steps=0)
    with pytest.raises(ValueError, match="substeps must be an integer at least 2, got 1"):
        run(substeps=1)
    with pytest.raises(ValueError, match=r"k must be an integer in \[1, 2\], got 3"):
        run(k=3)
    with pytest.raises(TypeError, match=r"optimizer must be one of jd\.flows"):
        run(optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match="loss_fn must return a real scalar"):
        jd.central_flow(lambda w, _: w, start, None, optimizer, steps=1)
