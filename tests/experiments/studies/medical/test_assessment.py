"""Choices depend on the validation part alone, and results on the test part alone."""

import numpy as np
import pytest
from scipy import special

from experiments.studies.medical.assessment import (
    HALF,
    PLATT,
    RAW,
    SENSITIVE,
    TEMPERATURE,
    YOUDEN,
    assess,
)
from experiments.studies.medical.decisions import confusion, sensitive_threshold, youden_threshold
from experiments.studies.medical.networks import Network
from experiments.studies.medical.recalibration import platt_scaling, temperature_scaling
from experiments.studies.medical.report import _notes_on_calibration
from experiments.studies.medical.roc import auc
from tests.experiments.studies.medical.drawn import draw


def part(seed, count=60):
    """Returns labels, the log-odds of the positive class and the probabilities of both classes."""
    labels, log_odds = draw(seed, positives=count, negatives=40, decimals=3)
    logits = np.column_stack([log_odds, np.zeros(len(labels))])  # class 0 is positive
    return labels == 1, log_odds, special.softmax(logits, axis=1)


def test_an_assessment_has_the_metrics_of_the_log_odds():
    (held_out, x, p), (labels, y, q) = part(0), part(1)
    found = assess((held_out, labels), (p, q), positive=0)
    np.testing.assert_allclose(found.log_odds, y, atol=1e-9)
    assert found.auc == pytest.approx(auc(labels, y))
    thresholds = {HALF: 0.0, YOUDEN: youden_threshold(held_out, x)}
    thresholds[SENSITIVE] = sensitive_threshold(held_out, x, 0.95)
    assert [*found.points] == [*thresholds]
    for name, threshold in thresholds.items():
        point = found.points[name]
        assert point.log_odds == pytest.approx(threshold)
        assert point.validation == confusion(held_out, x, threshold)
        assert point.test == confusion(labels, y, threshold)
    assert found.points[SENSITIVE].validation.sensitivity.value >= 0.95
    fits = {name: each.recalibration for name, each in found.calibrations.items()}
    assert fits[RAW] == (1, 0)
    assert fits[TEMPERATURE] == pytest.approx(temperature_scaling(held_out, x))
    assert fits[PLATT] == pytest.approx(platt_scaling(held_out, x))


def test_no_choice_depends_on_the_test_part():
    held_out, _, p = part(0)
    found = [assess((held_out, labels), (p, q), 0) for labels, _, q in (part(1), part(2, 30))]
    choices = [
        (
            [point.log_odds for point in each.points.values()],
            [point.validation for point in each.points.values()],
            [each.recalibration for each in each.calibrations.values()],
        )
        for each in found
    ]
    assert choices[0] == choices[1]
    assert found[0].auc != found[1].auc


def test_recalibration_repairs_probabilities_that_are_too_extreme():
    """Ten times the log-odds have the same ROC curve and decisions, but a higher Brier score."""
    parts = [part(seed) for seed in (0, 1)]
    labels = tuple(each[0] for each in parts)
    extreme = tuple(
        special.softmax(np.column_stack([10 * each[1], 0 * each[1]]), axis=1) for each in parts
    )
    plain = assess(labels, tuple(each[2] for each in parts), 0)
    found = assess(labels, extreme, 0)
    assert found.auc == pytest.approx(plain.auc)
    assert [point.test for point in found.points.values()] == [
        point.test for point in plain.points.values()
    ]
    scores = {name: each.brier for name, each in found.calibrations.items()}
    for name in (TEMPERATURE, PLATT):
        assert scores[name] < scores[RAW] - 0.02
        assert found.calibrations[name].brier == pytest.approx(plain.calibrations[name].brier)


def test_the_report_says_where_recalibration_is_worse():
    """Fitted where the disease is common, Platt scaling fails where it is rare."""
    rng = np.random.default_rng(0)
    labels = tuple(rng.uniform(size=2_000) < share for share in (0.9, 0.2))
    scores = [rng.normal(2.0 * each - 1) for each in labels]
    logits = [np.column_stack([2 * each, 0 * each]) for each in scores]
    found = assess(labels, tuple(special.softmax(each, axis=1) for each in logits), 0)
    *_, note = _notes_on_calibration([Network("Adam", "recipe", "adam", True, found)])
    assert note == (
        "Platt scaling raised the Brier score on the test part for 1 of 1 networks: Adam."
    )


def test_a_part_without_the_disease_or_without_numbers_is_refused():
    labels, _, p = part(0)
    with pytest.raises(ValueError, match="got 100 negative and 0 positive"):
        assess((labels, labels & False), (p, p), 0)
    with pytest.raises(ValueError, match="got 100 negative and 0 positive"):
        assess((labels & False, labels), (p, p), 0)
    with pytest.raises(ValueError, match=r"got \[nan, nan\] at position 0"):
        assess((labels, labels), (p, np.full_like(p, np.nan)), 0)
    with pytest.raises(ValueError, match="log_odds must be different from 0"):
        assess((labels, labels), (np.full_like(p, 0.5), p), 0)
