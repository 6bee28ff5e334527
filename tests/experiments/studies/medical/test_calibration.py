"""Calibration equals scikit-learn's, and its bias the mean over all labels."""

import itertools
import math

import numpy as np
import pytest
from sklearn import calibration, metrics

from experiments.studies.medical.calibration import (
    brier_score,
    calibration_error,
    log_loss,
    reliability,
)
from experiments.studies.medical.decisions import Proportion
from experiments.studies.medical.recalibration import sigmoid
from tests.experiments.studies.medical.drawn import draw


@pytest.mark.parametrize("seed", range(3))
def test_scores_and_curve_equal_scikit_learns(seed):
    labels, log_odds = draw(seed)
    p = sigmoid(log_odds)
    assert brier_score(labels, p) == pytest.approx(metrics.brier_score_loss(labels, p))
    assert log_loss(labels, log_odds) == pytest.approx(metrics.log_loss(labels, p))
    curve = reliability(labels, p)
    observed, predicted = calibration.calibration_curve(labels, p, n_bins=10)
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, predicted)
    assert curve.counts.sum() == len(labels)


def test_the_calibration_error_equals_a_loop_over_the_bins():
    labels, log_odds = draw(0)
    p = sigmoid(log_odds)
    p[:4] = 0.0, 1.0, 0.25, 0.5
    total = 0.0
    for b in range(4):
        members = [i for i in range(len(p)) if max(math.ceil(4 * p[i]) - 1, 0) == b]
        total += abs(sum(labels[i] - p[i] for i in members))
    found = calibration_error(labels, p, bins=4)
    assert found.value == pytest.approx(total / len(p), rel=1e-12)


def test_the_bias_equals_the_mean_over_all_labels():
    p = np.array([0.03, 0.2, 0.21, 0.4, 0.45, 0.8, 0.99, 1.0])
    mean = 0.0
    for labels in itertools.product((0, 1), repeat=len(p)):
        y = np.array(labels)
        error = sum(abs((y - p)[np.floor(3 * p).clip(max=2) == b].sum()) for b in range(3))
        mean += np.prod(np.where(y == 1, p, 1 - p)) * error / len(p)
    assert calibration_error([0, 1] * 4, p, bins=3).if_calibrated == pytest.approx(mean, rel=1e-12)


def test_the_estimate_of_a_calibrated_model_has_the_bias_as_its_mean():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=100)
    drawn = [calibration_error(rng.uniform(size=100) < p, p) for _ in range(200)]
    errors = [each.value for each in drawn]
    spread = np.std(errors) / len(errors) ** 0.5
    assert np.mean(errors) == pytest.approx(drawn[0].if_calibrated, abs=4 * spread)
    assert drawn[0].if_calibrated > 0.02


def test_the_intervals_of_the_curve_are_wilsons():
    curve = reliability([0, 1, 1, 0, 1], [0.1, 0.15, 0.8, 0.9, 0.85], bins=2)
    assert curve.counts.tolist() == [2, 3]
    wanted = [Proportion(1, 2).interval(), Proportion(2, 3).interval()]
    np.testing.assert_allclose(curve.intervals, wanted)


@pytest.mark.parametrize("measure", [brier_score, reliability, calibration_error])
@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([1, 1], [0.5, 0.6], "at least 1 example of each class, got 0 negative and 2 positive"),
        ([0, 1], [0.5, np.nan], "probabilities must be finite, got nan at position 1"),
        ([0, 1], [0.5, 1.5], r"probabilities must be in \[0, 1\], got 1.5 at position 1"),
    ],
)
def test_degenerate_inputs_are_refused(measure, labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        measure(labels, probabilities)


def test_a_number_of_bins_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"bins must be in \[1, inf\), got 0"):
        reliability([0, 1], [0.5, 0.6], bins=0)
