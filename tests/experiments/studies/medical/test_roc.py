"""The ROC curve and its area equal scikit-learn's, and DeLong's error the sums over all pairs."""

import math

import numpy as np
import pytest
from sklearn import metrics

from experiments.studies.medical.roc import auc, midranks, normal_quantile, roc_curve
from tests.experiments.studies.medical.drawn import draw


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_curve_and_area_equal_scikit_learns(seed, decimals):
    labels, scores = draw(seed, decimals=decimals)
    wanted = metrics.roc_curve(labels, scores, drop_intermediate=False)
    for found, each in zip(roc_curve(labels, scores), wanted, strict=True):
        np.testing.assert_allclose(found, each, atol=1e-15)
    assert auc(labels, scores).value == pytest.approx(metrics.roc_auc_score(labels, scores))


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_the_standard_error_equals_delongs_sums_over_all_pairs(decimals):
    labels, scores = draw(0, decimals=decimals)
    high, low = scores[labels == 1].tolist(), scores[labels == 0].tolist()
    kernel = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in low] for x in high]
    m, n = len(high), len(low)
    area = sum(map(sum, kernel)) / (m * n)
    rows = [sum(row) / n for row in kernel]
    columns = [sum(row[j] for row in kernel) / m for j in range(n)]
    variance = sum((v - area) ** 2 for v in rows) / (m - 1) / m
    variance += sum((w - area) ** 2 for w in columns) / (n - 1) / n
    found = auc(labels, scores)
    assert found.value == pytest.approx(area, rel=1e-13)
    assert found.standard_error == pytest.approx(variance**0.5, rel=1e-12)
    margin = 1.959963984540054 * variance**0.5 / (area * (1 - area))
    ends = [math.log(end / (1 - end)) for end in (found.low, found.high)]
    middle = math.log(area / (1 - area))
    assert ends == pytest.approx([middle - margin, middle + margin], rel=1e-9)


def test_the_interval_agrees_with_the_bootstrap():
    labels, scores = draw(1, positives=80, negatives=60)
    high, low = scores[labels == 1], scores[labels == 0]
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(4_000):
        x, y = rng.choice(high, len(high)), rng.choice(low, len(low))
        ranks = midranks(np.concatenate([x, y]))[: len(x)]
        areas.append((ranks.sum() - len(x) * (len(x) + 1) / 2) / (len(x) * len(y)))
    found = auc(labels, scores)
    assert found.standard_error == pytest.approx(np.std(areas), rel=0.06)
    assert (found.low, found.high) == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.012)


def test_the_interval_covers_the_true_area():
    """The true area of normal scores at distance d is Phi(d / sqrt 2)."""
    true = 0.5 * (1 + math.erf(1.2 / 2))
    hits = 0
    for seed in range(400):
        found = auc(*draw(seed, positives=40, negatives=30, decimals=12))
        hits += found.low <= true <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_perfect_area_has_an_interval_that_shrinks_with_the_examples():
    ends = []
    for count in (5, 50, 500):
        labels = np.repeat([0, 1], count)
        found = auc(labels, np.arange(2 * count))
        assert (found.value, found.high, found.standard_error) == (1.0, 1.0, 0.0)
        reversed_order = auc(labels, -np.arange(2 * count))
        assert (reversed_order.low, reversed_order.high) == pytest.approx((0.0, 1 - found.low))
        area, spread = found.low, count - 1
        variance = area * (1 - area) / count**2
        variance *= 1 + spread * (1 - area) / (2 - area) + spread * area / (1 + area)
        assert 1 - area == pytest.approx(normal_quantile(0.95) * variance**0.5)
        ends.append(area)
    assert 0.5 < ends[0] < ends[1] < ends[2] < 1


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1, 1], [1, 2, 3], "at least 2 examples of each class, got 0 negative and 3 positive"),
        ([0, 1, 1], [1, 2, 3], "at least 2 examples of each class, got 1 negative and 2 positive"),
        ([0, 0, 1, 1], [0.5] * 4, "scores must have at least 2 values, got 0.5 for all 4"),
        ([0, 0, 1, 1], [1, np.nan, 2, 3], "scores must be finite, got nan at position 1"),
        ([0, 0, 1, 2], [1, 2, 3, 4], "labels must be 0 or 1, got 2 at position 3"),
        ([0, 0, 1, 1], [1, 2, 3], r"scores must be of shape \(4,\) as labels, got \(3,\)"),
        ([[0, 1]], [[1, 2]], r"labels must be of shape \(n,\), got \(1, 2\)"),
    ],
)
def test_degenerate_inputs_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        auc(labels, scores)


def test_a_confidence_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
        auc([0, 0, 1, 1], [1, 2, 3, 4], confidence=95)
