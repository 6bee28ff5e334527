"""At its threshold a step of each optimizer has spectral radius 1, and P is what it divides by."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from jaxdescent.stability import thresholds

RATE = 0.05
GRADIENT = {"w": jnp.array([3.0, -0.2, 0.05]), "b": jnp.array([-1.5])}

momentum = functools.partial(optax.sgd, RATE, 0.8)
MOMENTUM_METHODS = {
    "gd": (optax.sgd(RATE), thresholds.sgd(RATE)),
    "gd, nesterov": (optax.sgd(RATE, nesterov=True), thresholds.sgd(RATE, nesterov=True)),
    "polyak": (momentum(), thresholds.sgd(RATE, 0.8)),
    "nesterov": (momentum(nesterov=True), thresholds.sgd(RATE, 0.8, nesterov=True)),
}
OUTSIDE = {"decay": 0.7, "eps": 1e-3, "eps_in_sqrt": False}
ADAPTIVE_METHODS = {
    "rmsprop": (optax.rmsprop(RATE), thresholds.rmsprop(RATE)),
    "rmsprop, eps outside": (optax.rmsprop(RATE, **OUTSIDE), thresholds.rmsprop(RATE, **OUTSIDE)),
    "rmsprop, unbiased": (
        optax.rmsprop(RATE, 0.7, bias_correction=True, initial_scale=1.0),
        thresholds.rmsprop(RATE, 0.7),
    ),
    "rmsprop, momentum": (
        optax.rmsprop(RATE, momentum=0.8),
        thresholds.rmsprop(RATE, momentum=0.8),
    ),
    "rmsprop, nesterov": (
        optax.rmsprop(RATE, momentum=0.8, nesterov=True),
        thresholds.rmsprop(RATE, momentum=0.8, nesterov=True),
    ),
    "adam": (optax.adam(RATE), thresholds.adam(RATE)),
    "adam, other numbers": (
        optax.adam(RATE, 0.5, 0.7, eps=1e-3, eps_root=1e-2),
        thresholds.adam(RATE, 0.5, 0.7, eps=1e-3, eps_root=1e-2),
    ),
}


def is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def floats(tree):
    """Returns the floating-point numbers of a tree of scalars as one array."""
    return jnp.stack([leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)])


def with_floats(tree, row):
    numbers = iter(row)
    return jax.tree.map(lambda leaf: next(numbers) if is_float(leaf) else leaf, tree)


def radius(tx, state, curvature):
    """Returns the spectral radius of a step on curvature x^2 / 2, linearized at x = 0."""
    start = jnp.zeros(()), state

    def step(row):
        x, state = with_floats(start, row)
        updates, state = tx.update(curvature * x, state, x)
        return floats((x + updates, state))

    return np.max(np.abs(np.linalg.eigvals(jax.jacobian(step)(floats(start)))))


def with_second_moments(tx):
    """Returns the state after some gradients, with zeros except for the second moments."""
    state = tx.init(jnp.zeros(()))
    for gradient in (0.3, -0.2, 0.5):
        _, state = tx.update(jnp.float64(gradient), state, jnp.zeros(()))

    def kept(path):
        return getattr(path[-1], "name", "") in ("nu", "count")

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if kept(path) else jnp.zeros_like(leaf), state
    )


@pytest.mark.parametrize("name", [*MOMENTUM_METHODS, *ADAPTIVE_METHODS])
def test_a_step_at_the_threshold_has_spectral_radius_1(name):
    tx, threshold = {**MOMENTUM_METHODS, **ADAPTIVE_METHODS}[name]
    with jax.enable_x64(True):
        bound = threshold.max_sharpness(jnp.float64(RATE), None)
        state = tx.init(jnp.zeros(()))
        if threshold.preconditioner:
            state = with_second_moments(tx)
            _, after = tx.update(jnp.zeros(()), state, jnp.zeros(()))
            bound *= threshold.preconditioner(after)
        np.testing.assert_allclose(radius(tx, state, bound), 1.0, rtol=1e-10)
        assert radius(tx, state, 0.999 * bound) < 1 - 1e-5
        assert radius(tx, state, 1.001 * bound) > 1 + 1e-5


PLAIN = [name for name in ADAPTIVE_METHODS if "momentum" not in name and "nesterov" not in name]


@pytest.mark.parametrize("name", PLAIN)
def test_the_preconditioner_is_the_divisor_of_the_update(name):
    tx, threshold = ADAPTIVE_METHODS[name]
    params = jax.tree.map(jnp.zeros_like, GRADIENT)
    state = tx.init(params)
    for scale in (1.0, 0.3, -2.0):
        gradient = jax.tree.map(lambda g, scale=scale: scale * g, GRADIENT)
        updates, state = tx.update(gradient, state, params)
    divided = optax.tree.get(state, "mu", default=gradient)
    found = threshold.preconditioner(state)
    expected = jax.tree.map(lambda m, u: -RATE * m / u, divided, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_the_preconditioner_is_float32_for_bfloat16_parameters():
    tx, params = optax.adam(RATE), jnp.zeros(3, jnp.bfloat16)
    _, state = tx.update(jnp.zeros(3, jnp.bfloat16), tx.init(params), params)
    found = thresholds.adam(RATE).preconditioner(state)
    np.testing.assert_allclose(found, np.full(3, 1e-9), rtol=1e-5)
    assert found.dtype == jnp.float32


METHODS = {**MOMENTUM_METHODS, **ADAPTIVE_METHODS, "sam": (optax.sgd(RATE), thresholds.sam(RATE))}


@pytest.mark.parametrize("name", METHODS)
def test_thresholds_work_under_strict_promotion(name):
    tx, threshold = METHODS[name]
    params = {"w": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2)}
    state = jax.eval_shape(tx.init, params)
    with jax.numpy_dtype_promotion("strict"):
        found = jax.eval_shape(lambda g: threshold.max_sharpness(jnp.float32(RATE), g), params)
        assert found.dtype == jnp.float32
        if threshold.preconditioner:
            found = jax.eval_shape(threshold.preconditioner, state)
            assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}


def test_sam_at_its_threshold_reverses_the_top_direction():
    """On a quadratic whose gradient is an eigenvector, a step multiplies by -1."""
    with jax.enable_x64(True):
        x, rho = jnp.array([0.0, 0.7]), 0.05
        for curvature in (1.0, 30.0):
            scales = jnp.array([0.1, curvature])

            def grad(x, scales=scales):
                return scales * x

            rate = float(thresholds.sam(rho=rho).max_learning_rate(curvature, grad(x)))
            ascent = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
            tx = optax.contrib.sam(optax.sgd(rate), ascent, opaque_mode=True)
            updates, _ = tx.update(grad(x), tx.init(x), x, grad_fn=lambda x, _, grad=grad: grad(x))
            np.testing.assert_allclose(x + updates, -x, rtol=1e-12)


def test_sam_without_ascent_is_gradient_descent_and_has_threshold_0_at_a_minimum():
    threshold = thresholds.sam(rho=0.0)
    assert float(threshold.max_sharpness(0.1, GRADIENT)) == pytest.approx(20.0)
    assert float(thresholds.sam(rho=1e-7).max_sharpness(0.1, GRADIENT)) == pytest.approx(20.0)
    assert float(thresholds.sam().max_sharpness(0.1, jnp.zeros(3))) == 0.0


@pytest.mark.parametrize("length", [1e-25, 1e25])
def test_the_threshold_of_sam_does_not_square_long_or_short_gradients(length):
    found = thresholds.sam(rho=0.05).max_sharpness(0.1, length * jnp.array([0.6, 0.8]))
    expected = 40 / (1 + np.sqrt(1 + 0.4 / (0.1 * length)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@given(rate=st.floats(1e-6, 1e3), scale=st.floats(1e-4, 1e4))
@settings(max_examples=20, deadline=None)
def test_max_learning_rate_is_the_inverse_of_max_sharpness(name, rate, scale):
    threshold = METHODS[name][1]
    grads = jax.tree.map(lambda g: np.float32(scale) * g, GRADIENT)
    bound = threshold.max_sharpness(np.float32(rate), grads)
    assert float(threshold.max_learning_rate(bound, grads)) == pytest.approx(rate, rel=1e-4)


def test_adam_and_momentum_have_the_published_thresholds():
    assert float(thresholds.adam().max_sharpness(1.0, None)) == pytest.approx(38.0)
    assert float(thresholds.sgd(momentum=0.9).max_sharpness(1.0, None)) == pytest.approx(3.8)
    assert float(
        thresholds.sgd(momentum=0.9, nesterov=True).max_sharpness(1.0, None)
    ) == pytest.approx(3.8 / 2.8)


def test_the_learning_rate_equals_the_rate_of_the_update():
    """The learning rate is a number, a schedule, injected, or tuned by a tower."""
    params = jnp.zeros(2)
    schedule = optax.linear_schedule(0.1, 0.0, 10)
    learned = thresholds.FromState(lambda s: jd.get_hyperparams(s)[0]["learning_rate"])
    tower = jd.hypergradient(optax.sgd, optax.sgd(0.5), tune={"learning_rate": jd.positive(0.1)})
    injected = optax.inject_hyperparams(optax.sgd)
    for tx, threshold in (
        (optax.sgd(0.1), thresholds.sgd(0.1)),
        (optax.sgd(schedule), thresholds.sgd(schedule)),
        (injected(schedule), thresholds.sgd()),
        (optax.chain(optax.clip(9.0), injected(0.1)), thresholds.sgd()),
        (tower, thresholds.sgd(learned)),
    ):
        state = tx.init(params)
        for count in range(3):
            updates, state = tx.update(jnp.ones(2), state, params)
            used = -updates[0]
            assert float(threshold.learning_rate(state, count)) == pytest.approx(float(used))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: thresholds.sgd(0.0), "learning_rate must be in (0, inf), got 0.0"),
        (lambda: thresholds.sgd(0.1, 1.0), "momentum must be in [0, 1), got 1.0"),
        (lambda: thresholds.sgd(0.1, -0.1, nesterov=True), "momentum must be in [0, 1), got -0.1"),
        (lambda: thresholds.sgd(0.1, 0.9, "yes"), "nesterov must be True or False, got 'yes'"),
        (lambda: thresholds.rmsprop(0.1, 1.5), "decay must be in [0, 1), got 1.5"),
        (lambda: thresholds.rmsprop(0.1, eps=0.0), "eps must be in (0, inf), got 0.0"),
        (lambda: thresholds.adam(0.1, b1=1.0), "b1 must be in [0, 1), got 1.0"),
        (lambda: thresholds.adam(0.1, b2=-1.0), "b2 must be in [0, 1), got -1.0"),
        (lambda: thresholds.adam(0.1, eps=-1e-8), "eps must be in (0, inf), got -1e-08"),
        (lambda: thresholds.adam(0.1, eps_root=-1.0), "eps_root must be in [0, inf), got -1.0"),
        (lambda: thresholds.sam(0.1, rho=-0.1), "rho must be in [0, inf), got -0.1"),
        (
            lambda: thresholds.adam().preconditioner(optax.sgd(0.1).init(jnp.zeros(2))),
            "the optimizer's state must hold one state of optax.scale_by_adam, got 0",
        ),
        (
            lambda: thresholds.rmsprop().preconditioner(optax.adam(0.1).init(jnp.zeros(2))),
            "the optimizer's state must hold one state of optax.scale_by_rms, got 0",
        ),
        (
            lambda: thresholds.sgd().learning_rate(optax.sgd(0.1).init(jnp.zeros(2)), 0),
            "pass the optimizer's learning_rate to the threshold",
        ),
    ],
)
def test_bad_arguments_raise(make, words):
    with pytest.raises(ValueError, match=r".*") as error:
        make()
    assert words in str(error.value)


def test_sam_without_gradients_raises():
    with pytest.raises(ValueError, match=r"the threshold of SAM depends on their norm"):
        jd.thresholds.sam(0.1).max_sharpness(0.1, None)


def test_before_the_first_step_adam_has_a_finite_preconditioner():
    state = optax.adam(0.1).init(jnp.ones(3))
    np.testing.assert_allclose(jd.thresholds.adam(0.1).preconditioner(state), 1e-9, rtol=1e-4)


def test_the_threshold_of_a_float16_learning_rate_does_not_overflow():
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=jnp.float16(1e-4))
    threshold = jd.thresholds.adam()
    rate = threshold.learning_rate(tx.init(jnp.ones(3, jnp.float16)), jnp.int32(0))
    np.testing.assert_allclose(threshold.max_sharpness(rate, None), 3.8e5, rtol=1e-2)
