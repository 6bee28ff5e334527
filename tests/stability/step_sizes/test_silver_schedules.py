"""Silver steps: values, guarantees, and horizons without a guarantee."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from experiments.studies.step_sizes import worst_cases

RHO = 1 + np.sqrt(2)
needs_pep = pytest.mark.skipif(
    not worst_cases.has_pepit(), reason="needs PEPit: pip install 'jaxdescent[pep]'"
)


def steps_of(schedule, n):
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(n)))


def silver_of(n):
    """Returns n steps by the recursion of the source: s, then 1 + rho^(k - 1), then s again."""
    steps = []
    for k in range(n.bit_length()):
        steps = [*steps, 1 + RHO ** (k - 1), *steps]
    return np.array(steps[:n])


def test_the_closed_form_equals_the_recursion(x64):
    np.testing.assert_allclose(steps_of(jd.step_sizes.silver(4.0), 255), silver_of(255) / 4)


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_the_sum_of_a_block_is_a_power_of_rho(x64, k):
    total = steps_of(jd.step_sizes.silver(1.0), 2**k - 1).sum()
    assert total == pytest.approx(RHO**k - 1, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_a_huber_function_attains_the_guarantee(k):
    steps = silver_of(2**k - 1)
    assert worst_cases.gap_lower_bound(steps) == pytest.approx(1 / (2 + 4 * steps.sum()), abs=1e-12)


@needs_pep
@pytest.mark.parametrize("n", [1, 3, 7, 15])
def test_the_guarantee_is_the_exact_worst_case(x64, n):
    steps = steps_of(jd.step_sizes.silver(1.0), n)
    assert worst_cases.gap(steps) == pytest.approx(1 / (2 + 4 * steps.sum()), abs=1e-6)


@pytest.mark.parametrize("n", [4, 8, 16, 1024])
def test_the_loss_just_after_a_long_step_is_as_high_as_after_one_step(x64, n):
    gap = worst_cases.gap_lower_bound(steps_of(jd.step_sizes.silver(1.0), n))
    assert gap == pytest.approx((1 - np.sqrt(2)) ** 2 / 2, rel=1e-9)
    with pytest.warns(UserWarning, match=rf"horizon={n} stops .*use horizon={n - 1} or horizon="):
        jd.step_sizes.silver(1.0, horizon=n)


def test_a_horizon_warns_where_constant_steps_are_better(x64):
    steps = steps_of(jd.step_sizes.silver(1.0), 255)
    warned, worse = [], []
    for n in range(1, 256):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            jd.step_sizes.silver(1.0, horizon=n)
        warned += [n] * bool(caught)
        worse += [n] * bool(worst_cases.gap_lower_bound(steps[:n], 512) > 1 / (4 * n + 2))
    assert warned == worse
    assert {4, 8, 16, 17, 18, 20, 24} <= {*worse}
    assert not {2**k - 1 for k in range(1, 9)} & {*worse}


def test_a_smoothness_1_percent_too_small_diverges(x64):
    steps = steps_of(jd.step_sizes.silver(1.0), 1023)
    assert np.prod(np.abs(1 - steps)) < 1e-3
    assert np.prod(np.abs(1 - 1.01 * steps)) > 1e3


def test_steps_after_the_horizon_are_short():
    steps = steps_of(jd.step_sizes.silver(2.0, horizon=7), 9)
    np.testing.assert_allclose(steps, [*silver_of(7) / 2, 0.5, 0.5], rtol=1e-6)


def test_counts_saturate_instead_of_overflowing():
    schedule = jd.step_sizes.silver(1.0)
    last = jnp.array(2**31 - 1)
    assert schedule(last) == schedule(last - 1) == pytest.approx(np.sqrt(2))
    assert schedule(jnp.array(2**30 - 1)) == pytest.approx(1 + RHO**29, rel=1e-6)


def strongly_convex(n, ratio):
    """Returns a block of n steps and z, by the recursion of the source."""

    def psi(t):
        return (1 + t / ratio) / (1 + t)

    z, steps = ratio, [psi(ratio)]
    while len(steps) < n:
        s = 1 - z + np.sqrt(1 + (1 - z) ** 2)
        y, z = z / s, z * s
        steps = [*steps[:-1], psi(y), *steps[:-1], psi(z)]
    return np.array(steps), z


@pytest.mark.parametrize("block", [1, 2, 16])
def test_the_strongly_convex_closed_form_equals_the_recursion(x64, block):
    schedule = jd.step_sizes.silver_strongly_convex(3.2, 0.1, block)
    expected, _ = strongly_convex(block, 0.1 / 3.2)
    np.testing.assert_allclose(3.2 * steps_of(schedule, 3 * block), np.tile(expected, 3))


def test_default_blocks_have_the_published_length(x64):
    schedule = jd.step_sizes.silver_strongly_convex(1.0, 1e-3)  # 2^floor(log_rho(1000 / 3)) = 64
    expected, _ = strongly_convex(64, 1e-3)
    np.testing.assert_allclose(steps_of(schedule, 128), np.tile(expected, 2))


def test_equal_curvatures_need_a_single_step():
    assert jd.step_sizes.silver_strongly_convex(4.0, 4.0)(0) == 0.25


@needs_pep
def test_strongly_convex_steps_contract_by_the_guaranteed_factor(x64):
    ratio = 0.1 / 3.2
    steps = steps_of(jd.step_sizes.silver_strongly_convex(1.0, ratio, 8), 8)
    _, z = strongly_convex(8, ratio)
    exact = worst_cases.squared_distance(steps, ratio)
    assert exact == pytest.approx(((1 - z) / (1 + z)) ** 2, abs=1e-6)
    assert exact == pytest.approx(0.2214496833, abs=1e-6)  # documentation of PEPit 0.5.1


def test_the_smoothness_may_be_traced_and_an_array():
    builds = (
        jd.step_sizes.silver,
        lambda L: jd.step_sizes.silver_strongly_convex(L, L / 100),
        lambda L: jd.step_sizes.obs_f(L, 5),
        jd.step_sizes.anytime,
    )
    for build in builds:
        traced = jax.jit(lambda L, count, build=build: build(L)(count))
        for count in (0, 3):
            both = np.asarray(traced(jnp.array([1.0, 2.0]), count))
            assert both[0] == pytest.approx(2 * both[1], rel=1e-5)
        assert traced._cache_size() == 1


def test_each_curvature_of_an_array_has_its_own_block(x64):
    mu = np.array([0.1, 1e-3])
    schedule = jd.step_sizes.silver_strongly_convex(1.0, mu)
    steps = steps_of(schedule, 64)
    np.testing.assert_allclose(steps[:, 0], np.tile(strongly_convex(2, 0.1)[0], 32))
    np.testing.assert_allclose(steps[:, 1], strongly_convex(64, 1e-3)[0])


def test_a_schedule_works_in_an_optimizer_of_any_precision():
    with jax.numpy_dtype_promotion("strict"):
        schedule = jd.step_sizes.silver(jnp.array(2.0, jnp.bfloat16))
        for dtype in (jnp.float32, jnp.bfloat16):
            tx = optax.sgd(schedule)
            x = jnp.ones(2, dtype)
            updates, state = tx.update(x, tx.init(x))
            updates, _ = tx.update(x, state)
            assert updates.dtype == dtype
            np.testing.assert_allclose(updates.astype(float), -1.0, rtol=1e-2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: jd.step_sizes.silver(0.0), r"smoothness must be in \(0, inf\), got 0.0"),
        (lambda: jd.step_sizes.silver(jnp.array([1.0, -1.0])), r"smoothness must be in \(0, inf\)"),
        (lambda: jd.step_sizes.silver(float("nan")), "smoothness must be finite, got nan"),
        (lambda: jd.step_sizes.silver(1.0, 0), "horizon must be an integer at least 1, got 0"),
        (lambda: jd.step_sizes.obs_f(-1.0, 3), r"smoothness must be in \(0, inf\), got -1.0"),
        (lambda: jd.step_sizes.obs_f(1.0, 0), r"horizon must be an integer in \[1, 16384\], got 0"),
        (
            lambda: jd.step_sizes.obs_f(1.0, 16385),
            r"horizon must be an integer in \[1, 16384\], got 16385",
        ),
        (lambda: jd.step_sizes.anytime(0), r"smoothness must be in \(0, inf\), got 0"),
        (
            lambda: jd.step_sizes.silver_strongly_convex(1.0, 1.5),
            r"strong_convexity must be in \(0, smoothness\], got 1.5 with smoothness 1.0",
        ),
        (
            lambda: jd.step_sizes.silver_strongly_convex(1.0, 0.0),
            r"strong_convexity must be in \(0, inf\), got 0.0",
        ),
        (
            lambda: jd.step_sizes.silver_strongly_convex(1.0, 0.1, 6),
            "block must be a power of 2, got 6",
        ),
        (lambda: jd.step_sizes.guarded(abs, 0.0), r"smoothness must be in \(0, inf\), got 0.0"),
        (lambda: jd.step_sizes.guarded(abs, np.ones(2)), "smoothness must be a number, got sha"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("horizon", [3.0, True, "3"])
def test_a_horizon_must_be_an_integer(horizon):
    with pytest.raises(ValueError, match="horizon must be an integer at least 1, got "):
        jd.step_sizes.silver(1.0, horizon)


def test_a_horizon_beyond_every_count_has_no_effect():
    for horizon in (2**31 - 1, 2**40 - 1):
        steps = jd.step_sizes.silver(1.0, horizon=horizon)
        assert float(steps(2**20 - 1)) == pytest.approx(1 + RHO**19, rel=1e-5)


def test_a_strongly_convex_schedule_accepts_arrays_of_counts_and_curvatures():
    counts = jnp.arange(12).reshape(3, 4)
    for smoothness in (3.2, jnp.array([1.0, 3.2, 7.0, 50.0])):
        for block in (None, 4):
            steps = jd.step_sizes.silver_strongly_convex(smoothness, 0.1, block)
            each = jnp.stack([jnp.broadcast_to(steps(n), 4) for n in range(12)])
            columns = jnp.tile(jnp.arange(4), 3)
            expected = each[jnp.arange(12), columns].reshape(3, 4)
            np.testing.assert_allclose(steps(counts), expected, rtol=1e-6)
