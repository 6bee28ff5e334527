"""Triangular waves against the published formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd


def published(t, low, high, half):
    """Returns cycle and height by the formula of L. N. Smith's paper."""
    cycle = np.floor(1 + t / (2 * half))
    x = np.abs(t / half - 2 * cycle + 1)
    return cycle, np.maximum(0, 1 - x) * (high - low)


@pytest.mark.parametrize("half", [1, 5, 2_000])
def test_the_wave_equals_the_published_formula(half):
    t = np.arange(0, 7 * half, max(half // 7, 1))
    cycle, height = published(t, 0.1, 0.6, half)

    def make(**factors):
        return jd.step_sizes.cyclical(0.1, 0.6, half, **factors)(jnp.asarray(t))

    np.testing.assert_allclose(make(), 0.1 + height, rtol=1e-5)
    np.testing.assert_allclose(make(per_cycle=0.5), 0.1 + height / 2 ** (cycle - 1), rtol=1e-5)
    np.testing.assert_allclose(make(per_step=0.999), 0.1 + height * 0.999**t, rtol=1e-4)


def test_the_phase_is_exact_after_ten_million_periods():
    schedule = jd.step_sizes.cyclical(0.1, 0.6, 5)
    t = 10**7 * 10 + jnp.arange(10)
    np.testing.assert_allclose(schedule(t), schedule(jnp.arange(10)), rtol=1e-6)


def test_step_sizes_can_be_traced_arrays():
    def make(low):
        return jd.step_sizes.cyclical(low, 2 * low, 4)(2)

    lows = jnp.array([0.1, 1.0])
    np.testing.assert_allclose(make(lows), 1.5 * lows, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(make))(lows), 1.5 * lows, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 5), r"low must be in \(0, inf\)"),
        ((0.5, 0.1, 5), r"high must be in \[low, inf\), got 0.1 with low=0.5"),
        ((0.1, 0.5, 0), r"half_period must be an integer in \[1, 1073741823\], got 0"),
        ((0.1, 0.5, 2.5), "half_period must be an integer in .*, got 2.5"),
        ((0.1, 0.5, 2**30), "half_period must be an integer in .*, got 1073741824"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        jd.step_sizes.cyclical(*arguments)
    for factor, bad in (("per_cycle", 0.0), ("per_cycle", 2.0), ("per_step", 1.001)):
        with pytest.raises(ValueError, match=rf"{factor} must be in \(0, 1\], got {bad}"):
            jd.step_sizes.cyclical(0.1, 0.5, 5, **{factor: bad})


def test_the_longest_period_fits_an_int32_count():
    schedule = jd.step_sizes.cyclical(0.25, 0.5, 2**30 - 1)
    assert float(schedule(jnp.int32(2**30 - 1))) == 0.5
    assert float(schedule(jnp.int32(2**31 - 2))) == 0.25
