"""References equal explicit loops, and their constants have the least error on the grid."""

import numpy as np
import pytest

from experiments.studies.forecasting import references, spreads
from experiments.studies.forecasting.losses import LEVELS, gaussian_nll, quantile_loss

RNG = np.random.default_rng(0)
PRICES = 3 + 0.02 * RNG.normal(size=120).cumsum()
# Returns that drift, so that Holt's method fits a trend above 0.
TRENDING = PRICES + 0.01 * RNG.normal(size=120).cumsum().cumsum()


def holt(prices, a, b):
    """Returns the forecasts of the next price by Holt's method, one row after another."""
    level, trend, forecasts = prices[0], 0.0, []
    for price in prices[1:]:
        forecasts.append(level + trend)
        new = a * price + (1 - a) * (level + trend)
        level, trend = new, b * (new - level) + (1 - b) * trend
    return np.array(forecasts), level, trend


def test_references_equal_explicit_loops():
    origins = np.array([70, 90, 119])
    found = references.reference_forecasts(TRENDING, 60, origins, (1, 5))
    smoothing = references.fit_smoothing(TRENDING[:60], trend=False)
    trend = references.fit_smoothing(TRENDING[:60], trend=True)
    assert smoothing[1] == 0 < trend[1]
    for row, t in enumerate(origins):
        past = TRENDING[: t + 1]
        for column, h in enumerate((1, 5)):
            assert found["last value"][row, column] == 0
            slope = np.mean(np.diff(past))
            assert found["drift"][row, column] == pytest.approx(h * slope, rel=1e-9)
            for name, constants in (("exponential smoothing", smoothing), ("Holt", trend)):
                _, level, b = holt(past, *constants)
                assert found[name][row, column] == pytest.approx(level + h * b - past[-1])


@pytest.mark.parametrize("trend", [False, True])
def test_the_fit_has_the_least_squared_one_step_error_of_the_grid(trend):
    def error(a, b):
        return np.mean((holt(PRICES, a, b)[0] - PRICES[1:]) ** 2)

    trends = references.TRENDS[::4] if trend else [0.0]
    best = error(*references.fit_smoothing(PRICES, trend=trend))
    assert best <= min(error(a, b) for a in references.LEVELS[::3] for b in trends) * (1 + 1e-12)


def test_a_random_walk_is_smoothed_least_and_noise_about_a_level_most():
    rng = np.random.default_rng(1)
    walk, noise = rng.normal(size=3_000).cumsum(), rng.normal(size=3_000)
    assert references.fit_smoothing(walk, trend=False)[0] >= 0.94
    assert references.fit_smoothing(noise, trend=False)[0] == references.LEVELS[0]


def test_holt_with_a_trend_of_0_is_exponential_smoothing_in_closed_form():
    levels, trends = references.holt_states(PRICES, 0.3, 0.0)
    weights = 0.3 * 0.7 ** np.arange(119)
    closed = weights @ PRICES[:0:-1] + 0.7**119 * PRICES[0]
    assert levels[-1] == pytest.approx(closed)
    assert not trends.any()


def test_moving_variance_is_a_weighted_sum_of_squares():
    returns = RNG.normal(size=60)
    found = spreads.moving_variance(returns, np.array(0.9))
    weights = 0.1 * 0.9 ** np.arange(40)
    closed = weights @ returns[:19:-1] ** 2 + 0.9**40 * np.mean(returns[:20] ** 2)
    assert len(found) == 41
    assert found[-1] == pytest.approx(closed)


def test_constant_spreads_are_the_training_parts_quantiles_and_root_mean_square():
    train, origins = np.arange(20, 60), np.arange(70, 110)
    found = spreads.spread_forecasts(PRICES, train, origins, (1, 5), LEVELS)
    quantiles, moments = found[spreads.CONSTANT]
    five = PRICES[train + 5] - PRICES[train]
    np.testing.assert_allclose(quantiles[7, 1], np.quantile(five, LEVELS))
    np.testing.assert_allclose(moments[7, 1], [0, np.sqrt(np.mean(five**2))])
    # On the training part nothing constant has a lower loss.
    targets = five[:, None]
    for shift in (-1e-3, 1e-3):
        moved = quantile_loss(targets, quantiles[:, 1:] + shift).mean()
        assert quantile_loss(targets, quantiles[:, 1:]).mean() < moved
        wider = moments[:, 1:] * (1 + shift)
        assert gaussian_nll(targets, moments[:, 1:]).mean() < gaussian_nll(targets, wider).mean()


def test_moving_spreads_follow_the_volatility():
    rng = np.random.default_rng(2)
    volatility = np.where(np.arange(2_000) // 200 % 2, 0.03, 0.01)
    returns = volatility * rng.normal(size=2_000)
    prices = np.append(0, returns.cumsum())
    train, origins = np.arange(20, 1_000), np.arange(1_000, 1_990)
    found = spreads.spread_forecasts(prices, train, origins, (1, 5), LEVELS)
    deviations = found[spreads.MOVING][1][:, :, 1]
    inside = origins % 200 > 100  # the volatility has been the same for long
    ratio = deviations[inside, 0] / volatility[origins[inside]]
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert np.median(deviations[:, 1] / deviations[:, 0]) == pytest.approx(5**0.5, abs=0.15)
    targets = prices[origins + 1][:, None] - prices[origins, None]
    moving, constant = (
        gaussian_nll(targets, found[name][1][:, :1]).mean()
        for name in (spreads.MOVING, spreads.CONSTANT)
    )
    assert moving < constant - 0.05


def test_the_decay_has_the_highest_likelihood_of_the_grid():
    returns = RNG.normal(size=400) * np.repeat([1.0, 3.0], 200)

    def loss(decay):
        variance, total = np.mean(returns[:20] ** 2), 0.0
        for value in returns[20:]:
            total += np.log(variance) + value**2 / variance
            variance = decay * variance + (1 - decay) * value**2
        return total

    assert spreads.fit_decay(returns) == min(spreads.DECAYS, key=loss)
