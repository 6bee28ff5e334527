"""Central flows against closed forms, dense derivatives and the optimizers themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def valley(w, c):
    """Across it, x, the curvature is 18 + y, and y is drawn to c."""
    x, y = w
    return 0.5 * (18 + y) * x**2 + 0.1 * (y - c) ** 2


def iterates(loss, tx, w, batch, steps):
    """The optimizer's own, f[steps, ...]."""

    @jax.jit
    def run(w, batch):
        def step(carry, _):
            w, state = carry
            updates, state = tx.update(jax.grad(loss)(w, batch), state, w)
            return (w + updates, state), w

        return jax.lax.scan(step, (w, tx.init(w)), None, length=steps)[1]

    return run(jnp.asarray(w), batch)


STEPS = 300  # in all of one loss, so that they share a program
MOMENTA = {0.0: 0.1, 0.5: 0.15, 0.9: 0.19}  # with the rate for a threshold of 20


@pytest.mark.parametrize(("momentum", "rate"), MOMENTA.items())
def test_one_eigenvalue_is_held_by_the_variance_of_the_closed_form(momentum, rate):
    c, start = 2.5, np.array([0.3, 1.9])
    flowing = jd.flows.sgd(rate, momentum)
    state, path = jd.central_flow(valley, start, c, flowing, steps=STEPS, k=1)
    assert float(flowing.threshold) == pytest.approx(20)
    end = slice(STEPS - 100, STEPS)
    np.testing.assert_allclose(path.eigenvalues[end, 0], 20, rtol=1e-6)
    np.testing.assert_allclose(path.variance[end], 0.2, rtol=1e-3)  # 0.4 (c - 2)
    np.testing.assert_allclose(path.predicted_loss[end] - path.loss[end], 2, rtol=1e-3)
    np.testing.assert_allclose(state.params[1], 2, rtol=1e-6)
    assert np.all(path.at_edge[end] == 1)
    assert np.all(path.complementarity_residual < 1e-10)

    if momentum > 0.5:
        return  # the optimizer's own cycles grow in a valley as short as this one
    found = iterates(valley, optax.sgd(rate, momentum), start, c, 4000)[1000:]
    np.testing.assert_allclose(np.mean(found[:, 0] ** 2), 0.2, rtol=0.01)
    across = jax.vmap(valley, (0, None))(found, c) - 0.1 * (found[:, 1] - c) ** 2
    np.testing.assert_allclose(np.mean(across), 2, rtol=0.01)


def test_below_the_edge_it_is_the_gradient_flow():
    descent, adam = jd.flows.sgd(0.01, 0.5), jd.flows.adam(1e-5, eps=1e-12)
    for loss, batch, flowing, start in (
        (valley, -0.1, descent, np.array([1.0, 1.5])),
        (bowl, np.array([2.0, 0.0]), adam, np.array([0.3, 5.0])),
    ):
        state, path = jd.central_flow(loss, start, batch, flowing, steps=STEPS, k=1)
        calm, _ = jd.gradient_flow(loss, start, batch, flowing, steps=STEPS, substeps=4)
        assert np.all(path.at_edge == 0)
        assert np.max(path.variance) < 1e-9
        np.testing.assert_allclose(state.params, calm.params, rtol=1e-9, atol=1e-20)
        np.testing.assert_allclose(state.m, calm.m, rtol=1e-8, atol=1e-12)
        if flowing.adaptive:
            np.testing.assert_allclose(state.nu, calm.nu, rtol=1e-8, atol=1e-12)


def matrix_valley(w, C):
    """The same with as many dimensions across as C has rows, and a curvature matrix."""
    x, M = w["x"], w["M"]
    curvature = 18 * jnp.eye(len(C)) + (M + M.T) / 2
    return x @ curvature @ x / 2 - jnp.vdot(C, M)


TURN = np.array([[0.8, -0.6], [0.6, 0.8]])


@pytest.mark.parametrize("values", [(0.3, 0.1), (0.3, -0.1)])
def test_two_eigenvalues_are_held_by_the_positive_part_of_what_pushes(values):
    C = TURN * np.array(values) @ TURN.T
    start = {"x": np.array([0.1, 0.2]), "M": np.diag([0.3, -0.4])}
    state, path = jd.central_flow(matrix_valley, start, C, jd.flows.sgd(0.1), steps=STEPS, k=2)
    held = np.maximum(values, 0)
    np.testing.assert_allclose(path.amplitudes[-1], 2 * held, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(path.variance[-1], 2 * held.sum(), rtol=1e-3)
    assert path.at_edge[-1] == np.sum(held > 0)
    np.testing.assert_allclose(path.eigenvalues[-1][held > 0], 20, rtol=1e-6)
    if values[1] < 0:
        assert path.eigenvalues[-1, 1] < 17
        U = state.directions["x"][0]  # and the sign of C's off-diagonal is in its direction
        np.testing.assert_allclose(np.abs(U @ TURN[:, 0]), 1, rtol=1e-3)


def bowl(w, curvature):
    return jnp.sum(curvature * w**2) / 2


@pytest.mark.parametrize("curvature", [0.5, 40.0])
@pytest.mark.parametrize("b1", [None, 0.0, 0.9])
def test_adaptive_methods_settle_in_a_bowl_at_an_amplitude_of_their_rate(b1, curvature):
    """The step is learning_rate (1 - b1) / (1 + b1), twice the amplitude; P = S / T."""
    # Without b1 the optimizer ends in a cycle of two. With it, nu and the oscillation are
    # correlated, which the flow neglects: an error of the size of 1 - b2.
    rate, b2, accuracy = (0.02, 0.98, 0.1) if b1 else (0.02, 0.9, 1e-3)
    if b1 is None:
        flowing, tx = jd.flows.rmsprop(rate, b2, 1e-12), optax.rmsprop(rate, b2, 1e-12)
    else:
        flowing, tx = jd.flows.adam(rate, b1, b2, 1e-12), optax.adam(rate, b1, b2, 1e-12)
    b1 = b1 or 0.0
    amplitude = rate * (1 - b1) / (1 + b1) / 2
    start = np.array([0.002, 5.0])  # the other parameter is one that the loss does not read
    bent = np.array([curvature, 0.0])
    state, path = jd.central_flow(bowl, start, bent, flowing, steps=STEPS, k=1)
    np.testing.assert_allclose(path.variance[-1], amplitude**2, rtol=1e-3)
    np.testing.assert_allclose(path.eigenvalues[-1, 0], flowing.threshold, rtol=1e-2)
    P = flowing.preconditioner(state.nu, state.age)
    np.testing.assert_allclose(P[0], curvature / flowing.threshold, rtol=1e-3)
    np.testing.assert_allclose(state.params, [0, 5], atol=1e-3 * amplitude)
    found = iterates(bowl, tx, start, bent, 3000)[-500:, 0]
    np.testing.assert_allclose(np.mean(found**2), amplitude**2, rtol=accuracy)


def curved(w, c):
    """A valley whose direction turns, and whose curvature depends on all coordinates."""
    x, y, z = w
    return 0.5 * (18 + y + 0.3 * jnp.sin(z)) * x**2 + 0.4 * x**3 - c * y + 0.5 * (z - x - 1) ** 2


def test_a_valley_that_turns_obeys_the_formula_with_dense_derivatives():
    c = 0.05
    flowing = jd.flows.sgd(0.1)
    state, path = jd.central_flow(curved, np.array([0.1, 0, 0]), c, flowing, steps=STEPS, k=2)
    w = state.params
    hessian = jax.jit(jax.hessian(curved))
    top = lambda w: np.linalg.eigvalsh(hessian(w, c))[-1]
    ahead, behind = w + 1e-4 * np.eye(3), w - 1e-4 * np.eye(3)
    sharpening = np.array([top(a) - top(b) for a, b in zip(ahead, behind, strict=True)]) / 2e-4
    variance = -2 * jax.grad(curved)(w, c) @ sharpening / (sharpening @ sharpening)
    np.testing.assert_allclose(top(w), 20, rtol=1e-5)
    np.testing.assert_allclose(path.variance[-1], variance, rtol=1e-3)


def test_rates_are_mapped_over_by_vmap_in_single_precision_from_half():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        start = jnp.array([0.25, 1.875], jnp.bfloat16)

        def held(rate):
            flowing = jd.flows.sgd(rate)
            state, path = jd.central_flow(valley, start, 6.0, flowing, steps=STEPS, k=1)
            assert state.params.dtype == path.variance.dtype == jnp.float32
            return path.eigenvalues[-1, 0], path.variance[-1]

        eigenvalues, variances = jax.vmap(held)(jnp.array([0.1, 0.09]))
    thresholds = np.array([20, 2 / 0.09])
    np.testing.assert_allclose(eigenvalues, thresholds, rtol=1e-4)
    np.testing.assert_allclose(variances, 0.4 * (24 - thresholds), rtol=1e-2)


def test_a_loss_that_is_not_finite_leaves_the_state_where_it_was():
    start = np.array([0.3, 1.9])
    state, path = jd.central_flow(valley, start, np.nan, jd.flows.sgd(0.1), steps=STEPS, k=1)
    np.testing.assert_array_equal(state.params, start)
    assert not np.any(path.finite)


def test_bad_arguments_are_refused():
    flowing, start = jd.flows.sgd(0.1), np.array([0.1, 0.0])
    run = lambda **changes: jd.central_flow(
        valley, start, 0.1, **{"optimizer": flowing, "steps": 1, **changes}
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
        jd.central_flow(lambda w, _: w, start, None, flowing, steps=1)
