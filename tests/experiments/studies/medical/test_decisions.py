"""Counts equal scikit-learn's, intervals SciPy's, and thresholds the best of all by trial."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from experiments.studies.medical.decisions import (
    Proportion,
    confusion,
    sensitive_threshold,
    youden_threshold,
)
from tests.experiments.studies.medical.drawn import draw


def rates(labels, scores, threshold):
    """Returns sensitivity and specificity, by a loop over the examples."""
    found = [0, 0, 0, 0]
    for label, score in zip(labels, scores, strict=True):
        found[2 * int(label) + int(score >= threshold)] += 1
    return found[3] / (found[2] + found[3]), found[0] / (found[0] + found[1])


def candidates(scores):
    """Returns a threshold for each different set of decisions."""
    return [*sorted(set(scores)), np.inf]


@pytest.mark.parametrize("threshold", [-np.inf, 0.0, 0.5, 1.3, np.inf])
def test_the_counts_equal_scikit_learns(threshold):
    labels, scores = draw(0)
    found = confusion(labels, scores, threshold)
    true_negatives, false_positives, false_negatives, true_positives = metrics.confusion_matrix(
        labels, scores >= threshold
    ).ravel()
    assert found == (true_positives, false_negatives, false_positives, true_negatives)
    assert (found.sensitivity.value, found.specificity.value) == rates(labels, scores, threshold)
    assert found.accuracy.value == metrics.accuracy_score(labels, scores >= threshold)


@pytest.mark.parametrize("trials", [1, 7, 234])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_equal_scipys(trials, confidence):
    for successes in {0, 1, trials // 3, trials}:
        wanted = stats.binomtest(successes, trials).proportion_ci(confidence, "wilson")
        found = Proportion(successes, trials).interval(confidence)
        assert found == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_youdens_threshold_has_the_largest_index(seed, decimals):
    labels, scores = draw(seed, decimals=decimals)
    tried = [sum(rates(labels, scores, each)) for each in candidates(scores)]
    chosen = youden_threshold(labels, scores)
    sensitivity, specificity = rates(labels, scores, chosen)
    assert sensitivity + specificity == pytest.approx(max(tried), abs=1e-12)
    best = [each for each, index in zip(candidates(scores), tried, strict=True)
            if index >= max(tried) - 1e-12]  # fmt: skip
    assert sensitivity == max(rates(labels, scores, each)[0] for each in best)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wanted", [0.5, 0.95, 1.0])
def test_the_sensitive_threshold_has_the_highest_specificity(seed, wanted):
    labels, scores = draw(seed)
    sensitivity, specificity = rates(labels, scores, sensitive_threshold(labels, scores, wanted))
    assert sensitivity >= wanted
    tried = [rates(labels, scores, each) for each in candidates(scores)]
    assert specificity == max(each[1] for each in tried if each[0] >= wanted)


def test_thresholds_lie_between_scores():
    labels, scores = [0, 0, 1, 1], [1.0, 2.0, 4.0, 8.0]
    assert youden_threshold(labels, scores) == 3.0
    assert sensitive_threshold(labels, scores, 0.5) == 6.0
    neighbors = np.array([1.0, np.nextafter(1.0, 2.0)])
    threshold = youden_threshold([0, 1], neighbors)
    assert (neighbors >= threshold).tolist() == [False, True]


def test_reversed_scores_call_all_examples_positive():
    found = confusion([1, 0], [1.0, 2.0], youden_threshold([1, 0], [1.0, 2.0]))
    assert (found.sensitivity.value, found.specificity.value) == (1.0, 0.0)


def test_degenerate_inputs_are_refused():
    for choose in (youden_threshold, sensitive_threshold):
        with pytest.raises(ValueError, match="at least 1 example of each class, got 2 negative"):
            choose([0, 0], [1.0, 2.0])
        with pytest.raises(ValueError, match="scores must be finite, got inf at position 0"):
            choose([0, 1], [np.inf, 2.0])
    with pytest.raises(ValueError, match=r"sensitivity must be in \(0, 1\], got 95"):
        sensitive_threshold([0, 1], [1.0, 2.0], 95)
    with pytest.raises(ValueError, match="threshold must be a number, got nan"):
        confusion([0, 1], [1.0, 2.0], np.nan)
    with pytest.raises(ValueError, match="got 0 negative and 2 positive"):
        confusion([1, 1], [1.0, 2.0], 1.5)
