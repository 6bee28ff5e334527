"""Step sizes for separable logistic regression keep their proven guarantees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from jaxdescent.stability.step_sizes.separable_data import GROWTH


def logistic(w, x):
    return jnp.mean(jax.nn.softplus(-x @ w))


def examples(seed, margin, n=12, d=3):
    """Returns rows y_i x_i of length at largest 1 whose first coordinate is the margin."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x *= np.sqrt(1 - margin**2) * rng.uniform(size=(n, 1)) / np.linalg.norm(x, axis=1)[:, None]
    x[:, 0] = margin
    return x


@jax.jit
def losses_at(rates, x):
    """Returns the losses of gradient descent from 0 with these learning rates."""

    def step(w, rate):
        value, grads = jax.value_and_grad(logistic)(w, x)
        return w - rate * grads, value

    w, values = jax.lax.scan(step, jnp.zeros(x.shape[1]), rates)
    return jnp.append(values, logistic(w, x))


def in_double(test):
    """Decorates a test to run in double precision."""

    @functools.wraps(test)
    def wide(*args, **kwargs):
        with jax.enable_x64(True):
            return test(*args, **kwargs)

    return wide


def test_the_large_constant_is_proportional_to_the_horizon():
    schedule = jd.step_sizes.large_constant(0.1, 16_000, multiple=2.0)
    assert float(schedule(0)) == float(schedule(10**6)) == pytest.approx(320.0)


@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_the_large_constant_for_a_short_horizon_is_the_stable_step(radius):
    def rate(horizon):
        return jd.step_sizes.large_constant(0.05 * radius, horizon, radius=radius)(0)

    assert float(rate(1_000)) == pytest.approx(4 / radius**2)
    assert float(rate(2_000)) == pytest.approx(5 / radius**2)


def test_step_sizes_are_finite_for_any_allowed_scale():
    for radius in (2e-15, 5e14):
        scale = {"margin": 0.5 * radius, "radius": radius}
        for rate in (
            jd.step_sizes.large_constant(horizon=1e300, multiple=1e300, **scale)(0),
            jd.step_sizes.large_constant(horizon=1, **scale)(0),
            jd.step_sizes.growing(**scale)(2**31 - 1),
        ):
            assert 0 < float(rate) < np.inf


def test_step_sizes_scale_with_the_data():
    """Data times r and parameters over r give the same problem, with steps over r^2."""
    for make in (
        lambda **scale: jd.step_sizes.large_constant(horizon=500, **scale),
        lambda **scale: jd.step_sizes.growing(**scale),
        lambda **scale: jd.step_sizes.growing(bound="asymptotic", **scale),
    ):
        unit, scaled = make(margin=0.2), make(margin=0.6, radius=3.0)
        for t in (0, 400, 1500):
            assert float(scaled(t)) == pytest.approx(float(unit(t)) / 9, rel=1e-4)


def test_arguments_can_be_traced_arrays():
    margins = jnp.array([0.1, 0.2, 0.3])
    for make in (
        lambda margin: jd.step_sizes.large_constant(margin, 100)(7),
        lambda margin: jd.step_sizes.growing(margin)(5_000),
    ):
        alone = [float(make(float(margin))) for margin in margins]
        np.testing.assert_allclose(make(margins), alone, rtol=1e-4)
        np.testing.assert_allclose(jax.jit(make)(margins), alone, rtol=1e-4)
        np.testing.assert_allclose(jax.jit(jax.vmap(make))(margins), alone, rtol=1e-4)


@in_double
def test_the_growing_step_solves_its_differential_equation():
    """The reference integrates the differential equation dS/dt = eta(S)."""
    margin, c = 0.3, GROWTH

    def bound(total):
        return (1 + np.log(margin**2 * total) ** 2 / 2) / (margin**2 * total)

    schedule = jax.jit(jd.step_sizes.growing(margin))
    total, dt = 4.0, 0.05  # at t = 1, after the first step of 4
    for i in range(int(2_000 / dt)):

        def step_size(s):
            return max(4.0, c / bound(s))

        middle = total + dt / 2 * step_size(total)
        total += dt * step_size(middle)
        if i % 4_000 == 3_999:
            t = 1 + (i + 1) * dt
            assert float(schedule(t)) == pytest.approx(step_size(total), rel=1e-3)
    assert float(schedule(t)) > 25


def test_the_growth_constant_is_the_largest_that_the_proof_allows():
    step = GROWTH * np.exp(GROWTH)
    assert 0.995 < step * np.exp(step) < 1


@pytest.mark.parametrize("margin", [0.05, 0.3, 0.999])
@in_double
def test_every_growing_step_satisfies_the_condition_of_the_proof(margin):
    """It is at largest 4, or eta B exp(eta B) <= 1 with B at the sum of the earlier steps."""
    rates = np.asarray(jd.step_sizes.growing(margin)(jnp.arange(int(50 / margin**2))))
    total = margin**2 * (np.cumsum(rates) - rates)
    grown = rates > 4.0 + 1e-9
    rates, total = rates[grown], total[grown]
    product = rates * (1 + np.log(total) ** 2 / 2) / total
    largest = np.max(product * np.exp(product))
    assert largest <= 1
    assert largest > 0.5  # close to the limit
    assert len(rates) > 10


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), margin=st.floats(0.25, 0.9))
@in_double
def test_the_loss_never_rises_with_growing_steps_and_stays_below_its_bound(seed, margin):
    x = examples(seed, margin)
    rates = jd.step_sizes.growing(margin)(jnp.arange(1_000))
    values = losses_at(rates, x)
    assert np.all(np.diff(values) <= 0)
    total = margin**2 * np.cumsum(rates)
    bound = (1 + np.log(total) ** 2 / 2) / total
    assert np.all(values[1:][total > 1] <= bound[total > 1])


@in_double
def test_the_proven_loss_is_a_stretched_exponential():
    """log(S) grows like (6 c margin^2 t)^(1/3)."""
    schedule = jd.step_sizes.growing(0.5)
    t = np.array([1e7, 8e7])
    logs = np.log(np.asarray(schedule(t)))
    q = (6 * GROWTH * 0.25 * t) ** (1 / 3)
    np.testing.assert_allclose(np.diff(logs), np.diff(q - 2 * np.log(q)), rtol=0.01)


@in_double
def test_the_asymptotic_step_grows_exponentially():
    schedule = jd.step_sizes.growing(0.5, bound="asymptotic")
    assert float(schedule(401)) / float(schedule(400)) == pytest.approx(np.exp(GROWTH / 4))


@pytest.mark.parametrize("bound", ["proven", "asymptotic"])
def test_growing_steps_stay_finite(bound):
    rates = jd.step_sizes.growing(0.9, bound=bound)(jnp.array([10**4, 10**6, 2**31 - 1]))
    assert rates.dtype == jnp.float32
    assert np.all(np.isfinite(rates))
    assert np.all(np.diff(rates) >= 0)
    assert float(rates[-1]) > 1e37


@functools.partial(jax.jit, static_argnames=("steps", "rule"))
def descend(rate, x, steps, rule="logistic"):
    """Returns the state, and the losses of the parameters and of their average, from 0."""
    tx = jd.step_sizes.step_over_loss(rate, loss=rule)
    loss = logistic if rule == "logistic" else exponential

    def step(carry, _):
        w, state = carry
        value, grads = jax.value_and_grad(loss)(w, x)
        updates, state = tx.update(grads, state, w, value=value)
        w = optax.apply_updates(w, updates)
        return (w, state), (value, loss(state.average, x))

    w = jnp.zeros(x.shape[1], x.dtype)
    (_, state), values = jax.lax.scan(step, (w, tx.init(w)), length=steps)
    return state, values


def exponential(w, x):
    return jnp.mean(jnp.exp(-x @ w))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    margin=st.floats(0.15, 0.9),
    rate=st.sampled_from([0.3, 1.0, 10.0, 100.0]),
)
@in_double
def test_the_average_with_the_exponential_loss_stays_below_its_bound(seed, margin, rate):
    x = jnp.asarray(examples(seed, margin))
    _, (values, averaged) = descend(rate, x, 100, "exponential")
    bound = np.exp(-rate / 2 * (margin**2 * np.arange(1, 101) - 1))
    moving = (values > 1e-300) & (bound > 1e-300)  # smaller numbers have few digits
    assert np.all(averaged[moving] <= bound[moving] * (1 + 1e-9))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), margin=st.floats(0.15, 0.9))
@in_double
def test_the_logistic_loss_never_rises_with_a_small_step_over_loss(seed, margin):
    values = descend(0.56, jnp.asarray(examples(seed, margin)), 100)[1][0]
    assert np.all(np.diff(values) <= 0)


@in_double
def test_phi_of_the_logistic_loss_is_not_convex():
    x = jnp.array([[1.0, 0.0], [0.0, 1.0]])

    def phi(z):
        return jnp.log(jnp.expm1(logistic(jnp.array([-z, 10.0]), x)))

    assert phi(10.0) > (phi(8.0) + phi(12.0)) / 2 + 2.5e-3


@in_double
def test_a_large_step_over_loss_raises_the_loss_and_ends_lower():
    x = jnp.asarray(examples(3, 0.2, n=40))
    small = descend(0.5, x, 60)[1]
    large = descend(50.0, x, 60)[1]
    assert np.any(np.diff(large[0]) > 0)
    assert large[1][-1] < 1e-3 * small[1][-1]


@in_double
def test_step_over_loss_is_gradient_descent_on_phi():
    x = jnp.asarray(examples(0, 0.3))

    def phi(w):
        return jnp.log(jnp.expm1(logistic(w, x)))

    tx = jd.step_sizes.step_over_loss(2.0)
    w = v = jnp.array([0.5, -1.0, 0.25])
    state, mean = tx.init(w), []
    for _ in range(5):
        mean.append(w)
        value, grads = jax.value_and_grad(logistic)(w, x)
        updates, state = tx.update(grads, state, w, value=value)
        w, v = w + updates, v - 2.0 * jax.grad(phi)(v)
        np.testing.assert_allclose(w, v, rtol=1e-10)
    np.testing.assert_allclose(state.average, np.mean(mean, 0), rtol=1e-12)


def test_the_exponential_rule_divides_by_the_loss_up_to_the_largest_learning_rate():
    tx = jd.step_sizes.step_over_loss(0.1, loss="exponential", max_learning_rate=0.4)
    w, grads = jnp.ones(2), jnp.array([1.0, -2.0])
    state = tx.init(w)
    for value, rate in ((0.5, 0.2), (0.25, 0.4), (0.01, 0.4), (1e-36, 0.4)):
        updates, state = tx.update(grads, state, w, value=jnp.float32(value))
        np.testing.assert_allclose(updates, -rate * grads, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_loss_of_0_stops_descent_with_finite_parameters(dtype):
    x = jnp.asarray(examples(0, 0.8), dtype)
    state, (values, averaged) = descend(20.0, x, 60)
    assert float(values[-1]) == 0.0
    assert int(state.skipped) > 0
    assert int(state.count) == 60
    assert state.average.dtype == jnp.float32
    assert np.all(np.isfinite(averaged))
    assert np.all(np.isfinite(state.average))


@pytest.mark.parametrize(
    ("dtype", "value", "gradient"), [(jnp.float32, 1e-37, 1.0), (jnp.float16, 1e-3, 10.0)]
)
def test_an_update_that_overflows_its_dtype_is_skipped_and_counted(dtype, value, gradient):
    tx, w = jd.step_sizes.step_over_loss(100.0), jnp.ones(2, dtype)
    updates, state = tx.update(jnp.full(2, gradient, dtype), tx.init(w), w, value=value)
    np.testing.assert_array_equal(updates, jnp.zeros_like(w))
    assert int(state.skipped) == 1


def test_learning_rates_can_be_injected():
    tx, w = optax.inject_hyperparams(jd.step_sizes.step_over_loss)(learning_rate=2.0), jnp.ones(2)
    updates, state = jax.jit(lambda state: tx.update(w, state, w, value=0.5))(tx.init(w))
    np.testing.assert_allclose(updates, -2.0 / (1 - np.exp(-0.5)), rtol=1e-6)
    assert state.hyperparams["max_learning_rate"] == np.inf


def test_parameters_can_be_a_python_number():
    tx = jd.step_sizes.step_over_loss(1.0, loss="exponential")
    updates, state = tx.update(0.5, tx.init(1.0), 1.0, value=0.5)
    assert float(updates) == -1.0
    assert float(state.average) == 1.0


@pytest.mark.parametrize("rule", ["logistic", "exponential"])
def test_a_loss_of_0_creates_no_intermediate_nan(rule):
    tx, w = jd.step_sizes.step_over_loss(1.0, loss=rule), jnp.ones(2)
    with jax.debug_nans(True):
        updates, _ = tx.update(jnp.zeros(2), tx.init(w), w, value=0.0)
    np.testing.assert_array_equal(updates, 0)


@pytest.mark.parametrize("rule", ["logistic", "exponential"])
@pytest.mark.parametrize(
    ("value", "gradient", "averaged"),
    [
        (np.nan, 1.0, False),
        (np.inf, 1.0, False),
        (0.0, 0.0, True),
        (-1.0, 1.0, True),
        (1e-39, 1e-39, True),
        (0.5, np.nan, True),
        (0.5, np.inf, True),
    ],
)
def test_unusable_losses_and_gradients_are_skipped_and_counted(rule, value, gradient, averaged):
    tx = jd.step_sizes.step_over_loss(1.0, loss=rule)
    w = jnp.ones(2)
    grads, value = jnp.full(2, gradient, jnp.float32), jnp.float32(value)
    updates, state = tx.update(grads, tx.init(w), 3 * w, value=value)
    np.testing.assert_array_equal(updates, 0)
    assert int(state.skipped) == 1
    assert int(state.count) == averaged
    np.testing.assert_array_equal(state.average, 3 if averaged else 1)


def test_strict_promotion_raises_no_error():
    with jax.numpy_dtype_promotion("strict"):
        tx = jd.step_sizes.step_over_loss(np.float64(0.1))
        w = jnp.ones(2, jnp.bfloat16)
        tx.update(w, tx.init(w), w, value=jnp.bfloat16(0.5))
        jd.step_sizes.growing(0.1)(jnp.int32(5))
        jd.step_sizes.large_constant(0.1, 10)(jnp.int32(5))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
def test_strict_promotion_accepts_traced_numbers_of_any_dtype(dtype, wide):
    constants = (
        lambda x: jd.step_sizes.large_constant(x, 10, radius=2.0)(5),
        lambda x: jd.step_sizes.large_constant(0.1, x, multiple=x)(5),
        lambda x: jd.step_sizes.growing(x, radius=2.0)(5),
        lambda x: jd.step_sizes.growing(0.1, radius=x)(5),
    )
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(wide):
        for constant in constants:
            rate = jax.eval_shape(constant, jax.ShapeDtypeStruct((), dtype))
            assert rate.dtype == jnp.result_type(float)


@pytest.mark.parametrize("bad", [0, -1.0, np.nan, np.inf, [1.0, 0.0]])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("horizon", lambda x: jd.step_sizes.large_constant(0.1, x)),
        ("margin", lambda x: jd.step_sizes.large_constant(x, 10)),
        ("multiple", lambda x: jd.step_sizes.large_constant(0.1, 10, multiple=x)),
        ("margin", lambda x: jd.step_sizes.growing(x)),
        ("radius", lambda x: jd.step_sizes.growing(0.1, radius=x)),
        ("learning_rate", lambda x: jd.step_sizes.step_over_loss(x)),
    ],
)
def test_numbers_out_of_range_are_named(name, make, bad):
    allowed = r"(a number )?in \((0, inf|1e-15, 1e\+15)\)|finite"
    with pytest.raises(ValueError, match=rf"{name} must be ({allowed}), got"):
        make(bad)


def test_other_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"margin must be in \(0, radius\], got 2.0 with radius=1"):
        jd.step_sizes.growing(2.0)
    with pytest.raises(ValueError, match="bound must be 'proven' or 'asymptotic', got 'none'"):
        jd.step_sizes.growing(0.1, bound="none")
    with pytest.raises(ValueError, match="loss must be 'logistic' or 'exponential', got 'hinge'"):
        jd.step_sizes.step_over_loss(0.1, loss="hinge")
    with pytest.raises(
        ValueError, match=r"max_learning_rate must be a number in \(0, inf\], got 0"
    ):
        jd.step_sizes.step_over_loss(0.1, max_learning_rate=0)
    with pytest.raises(ValueError, match=r"learning_rate must be a number in \(0, inf\), got \["):
        jd.step_sizes.step_over_loss([1.0, 2.0])
    for radius in (1e-20, 1e20):
        with pytest.raises(ValueError, match=r"radius must be in .* scale the data"):
            jd.step_sizes.growing(0.1 * radius, radius=radius)
    tx, w = jd.step_sizes.step_over_loss(0.1), jnp.ones(2)
    with pytest.raises(ValueError, match="needs value=, the loss"):
        tx.update(w, tx.init(w), w)
    with pytest.raises(ValueError, match="needs params"):
        tx.update(w, tx.init(w), value=1.0)
    with pytest.raises(ValueError, match=r"value must be a scalar, got shape \(2,\)"):
        tx.update(w, tx.init(w), w, value=w)
    with pytest.raises(TypeError, match="value must be a real number, got dtype complex64"):
        tx.update(w, tx.init(w), w, value=0.5 + 0.5j)
