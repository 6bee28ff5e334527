"""Calibration measures are exact, and calibrated forecasts pass."""

import numpy as np
import pytest
from scipy import stats

from experiments.studies.forecasting import calibration
from experiments.studies.forecasting.figures import draw_calibration
from experiments.studies.forecasting.losses import LEVELS

RNG = np.random.default_rng(0)


def test_coverage_counts_targets_within_the_central_intervals():
    quantiles = np.tile([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0], (8, 1))
    targets = np.array([0.0, -1.0, 1.0, 1.5, -2.5, 2.5, 3.5, -9.0])
    found = calibration.coverage(targets, quantiles)
    assert [each.value for each in found] == [3 / 8, 4 / 8, 6 / 8]
    below = calibration.reliability(targets, quantiles)
    assert [each.value * 8 for each in below] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("successes", "count"), [(3, 20), (0, 10), (10, 10)])
def test_the_interval_of_a_frequency_is_the_exact_binomial_one(successes, count):
    found = calibration.frequency(np.arange(count) < successes)
    assert found.value == successes / count
    low = stats.beta.ppf(0.025, successes, count - successes + 1) if successes else 0.0
    high = stats.beta.ppf(0.975, successes + 1, count - successes) if successes < count else 1.0
    assert (found.low, found.high) == pytest.approx((low, high))


def test_calibrated_gaussian_forecasts_cover_and_have_uniform_transforms():
    means, deviations = RNG.normal(size=4_000), np.exp(RNG.normal(size=4_000))
    targets = means + deviations * RNG.normal(size=4_000)
    moments = np.stack([means, deviations], axis=-1)
    quantiles = calibration.gaussian_quantiles(moments)
    for found, (low, high) in zip(
        calibration.coverage(targets, quantiles), calibration.CENTRAL, strict=True
    ):
        assert found.value == pytest.approx(high - low, abs=0.025)  # three standard errors
    assert stats.kstest(calibration.pit(targets, moments), "uniform").pvalue > 0.01
    narrow = moments * [1, 0.5]
    assert calibration.coverage(targets, calibration.gaussian_quantiles(narrow))[2].high < 0.7
    assert stats.kstest(calibration.pit(targets, narrow), "uniform").pvalue < 1e-6


def test_gaussian_quantiles_invert_the_distribution_function():
    found = calibration.gaussian_quantiles(np.array([[1.0, 3.0]]))
    np.testing.assert_allclose(stats.norm.cdf(found[0], 1, 3), LEVELS)


def test_targets_that_overlap_are_left_out_in_each_fold():
    folds = [np.arange(7), np.arange(10, 13)]
    assert calibration.separate(folds, 1).tolist() == [*range(7), 10, 11, 12]
    assert calibration.separate(folds, 5).tolist() == [0, 5, 10]


def test_the_figure_has_a_curve_for_each_method():
    frequencies = [calibration.frequency(np.arange(20) < 20 * level) for level in LEVELS]
    transforms = RNG.random(20)
    found = [
        calibration.Calibration("x", loss, method, horizon, [], frequencies, 1.0, transforms)
        for loss in ("quantiles", "Gaussian")
        for method in ("a", "b")
        for horizon in (1, 5)
    ]
    panels = draw_calibration(found, "x").axes
    assert len(panels) == 4
    for panel in panels:
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["a", "b"]
