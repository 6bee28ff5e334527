"""Recalibrations equal scikit-learn's logistic regression without penalty."""

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from experiments.studies.medical.recalibration import (
    platt_scaling,
    positive_log_odds,
    sigmoid,
    temperature_scaling,
)
from tests.experiments.studies.medical.drawn import draw


def regression(labels, scores, weights=None, *, intercept):
    """Returns scikit-learn's slope and intercept."""
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, fit_intercept=intercept)
    model.fit(scores[:, None], labels, weights)
    return model.coef_[0, 0], float(model.intercept_[0]) if intercept else 0.0


@pytest.mark.parametrize(
    ("fit", "intercept"), [(temperature_scaling, False), (platt_scaling, True)]
)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0])
def test_the_fit_equals_scikit_learns(fit, intercept, scale):
    labels, scores = draw(0)
    found = fit(labels, scale * scores, smooth=False)
    wanted = regression(labels, scores, intercept=intercept)
    assert (found.slope * scale, found.intercept) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("fit", "intercept"), [(temperature_scaling, False), (platt_scaling, True)]
)
@pytest.mark.parametrize("separated", [False, True])
def test_platts_targets_equal_weighted_pairs_of_labels(fit, intercept, separated):
    labels, scores = draw(0)
    if separated:
        scores = np.where(labels == 1, abs(scores) + 0.1, -abs(scores))
    targets = np.where(labels == 1, 24 / 25, 1 / 19)  # of 23 positive and 17 negative examples
    both = np.concatenate([np.ones(40), np.zeros(40)])
    weights = np.concatenate([targets, 1 - targets])
    wanted = regression(both, np.tile(scores, 2), weights, intercept=intercept)
    found = fit(labels, scores)
    assert (found.slope, found.intercept) == pytest.approx(wanted, rel=1e-5)


def test_the_intercept_undoes_the_weights_of_classes():
    """Log-odds that are too low by a constant, as after a weighted loss, are moved back by it."""
    rng = np.random.default_rng(0)
    true = rng.normal(1.0, 2.0, 20_000)
    labels = rng.uniform(size=len(true)) < sigmoid(true)
    found = platt_scaling(labels, true - np.log(3))
    assert found.slope == pytest.approx(1, abs=0.05)
    assert found.intercept == pytest.approx(np.log(3), abs=0.1)
    slope = temperature_scaling(labels, 4 * true)
    assert slope.temperature == pytest.approx(4, rel=0.05)
    np.testing.assert_allclose(slope.log_odds(4 * true), slope.slope * 4 * true)


@pytest.mark.parametrize("fit", [temperature_scaling, platt_scaling])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_scores_that_separate_the_classes_need_platts_targets(fit, sign, gap):
    scores = sign * np.array([-2.0, -gap, gap, 2.0])
    with pytest.raises(ValueError, match=r"log_odds must overlap .*; set smooth=True"):
        fit([0, 0, 1, 1], scores, smooth=False)
    assert np.sign(fit([0, 0, 1, 1], scores).slope) == sign


def test_log_odds_keep_the_digits_of_both_probabilities():
    logits = np.array([[0.0, 0.0], [0.0, 40.0], [70.0, 0.0], [1.0, 3.0]])
    probabilities = special.softmax(logits, axis=1).astype(np.float32)
    assert probabilities[1, 1] == 1.0
    for positive in (0, 1):
        difference = logits[:, positive] - logits[:, 1 - positive]
        np.testing.assert_allclose(positive_log_odds(probabilities, positive), difference, 1e-5)
    assert np.isfinite(positive_log_odds([[0.0, 1.0]], 0)).all()


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.ones((3, 3)) / 3, r"must be of shape \(n, 2\), got \(3, 3\)"),
        ([[0.5, 0.5], [0.5, 0.6]], r"with the sum 1, got \[0.5, 0.6\] at position 1"),
        ([[np.nan, np.nan]], r"got \[nan, nan\] at position 0"),
        ([[-0.5, 1.5]], r"must be in \[0, 1\] with the sum 1, got \[-0.5, 1.5\]"),
    ],
)
def test_other_probabilities_are_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        positive_log_odds(probabilities, 1)


def test_degenerate_scores_are_refused():
    with pytest.raises(
        ValueError, match=r"log_odds must have at least 2 values, got 0\.5 for all 2"
    ):
        platt_scaling([0, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match="log_odds must be different from 0"):
        temperature_scaling([0, 1], [0.0, 0.0])
    for fit in (platt_scaling, temperature_scaling):
        with pytest.raises(ValueError, match="got 0 negative and 2 positive"):
            fit([1, 1], [0.5, 0.6])
        with pytest.raises(ValueError, match="log_odds must be finite, got nan at position 1"):
            fit([0, 1], [0.5, np.nan])
