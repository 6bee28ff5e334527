"""The chaotic series satisfy their equations."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from experiments.data import chaotic


def test_mackey_glass_is_a_plain_loop_of_eulers_method():
    n, warmup, delays = 300, 50, (17, 25, 12)
    x = [1.2] * 26  # as long as the largest delay, and the present
    for step in range(warmup + n):
        tau = delays[max(0, step - warmup) // 100]
        late = x[-1 - tau]
        x.append(x[-1] + 0.2 * late / (1 + late**10) - 0.1 * x[-1])
    found = chaotic.mackey_glass(n, delays=delays, warmup=warmup)
    np.testing.assert_array_equal(found, x[-n:])


def test_mackey_glass_has_the_closed_form_within_the_first_delay():
    limit = 2 * 1.2 / (1 + 1.2**10)
    k = np.arange(1, 18)
    np.testing.assert_allclose(
        chaotic.mackey_glass(17, warmup=0), limit + (1.2 - limit) * 0.9**k, rtol=1e-13
    )


@pytest.mark.parametrize("rho", [28.0, 40.0])
def test_lorenz_agrees_with_scipy_before_errors_have_grown(rho):
    found = chaotic.lorenz(100, rhos=(rho,), warmup=0)

    def slope(_, point):
        x, y, z = point
        return [10 * (y - x), x * (rho - z) - y, x * y - 8 / 3 * z]

    times = 0.02 * np.arange(1, 101)
    solved = solve_ivp(slope, (0, 2), (1, 1, 1), "DOP853", times, rtol=1e-12, atol=1e-12)
    error = np.abs(found - solved.y[0])
    assert error.max() < 0.02  # of a range of about 40
    assert error[:8].max() < 1e-4


def test_lorenz_stays_at_its_fixed_points_and_follows_a_change_of_rho():
    height = np.sqrt(8 / 3 * 27)
    still = chaotic.lorenz(50, start=(height, height, 27.0), warmup=0)
    np.testing.assert_allclose(still, height, rtol=1e-12)
    changed = chaotic.lorenz(60, rhos=(28.0, 40.0, 22.0), start=(height, height, 27.0), warmup=5)
    np.testing.assert_allclose(changed[:20], height, rtol=1e-12)
    assert abs(changed[20] - height) > 1e-2


def test_series_are_on_their_attractors():
    for series, low, high in (
        (chaotic.mackey_glass(25_000), 0.2, 1.4),
        (chaotic.mackey_glass(25_000, delays=(17, 25, 12)), 0.2, 1.45),
        (chaotic.lorenz(25_000), -20, 20),
    ):
        assert low < series.min() < series.max() < high
        scaled = chaotic.standardized(series)
        assert scaled.dtype == np.float32
        assert scaled.mean() == pytest.approx(0, abs=1e-4)
        assert scaled.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        (lambda: chaotic.mackey_glass(0), "n must be an integer at least 1, got 0"),
        (
            lambda: chaotic.mackey_glass(5, delays=(17, 0)),
            "delays must be an integer at least 1, got 0",
        ),
        (lambda: chaotic.lorenz(5, warmup=-1), "warmup must be an integer at least 0, got -1"),
        (lambda: chaotic.mackey_glass(5, delays=()), "delays must hold at least one value"),
        (lambda: chaotic.lorenz(5, rhos=()), "rhos must hold at least one value"),
    ],
)
def test_bad_arguments_are_refused(generate, message):
    with pytest.raises(ValueError, match=message):
        generate()
