"""Folds are consecutive, and examples stay within their part and match the prices."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import DataError, Series
from experiments.studies.forecasting.control import best_skill, control
from experiments.studies.forecasting.examples import make_examples
from experiments.studies.forecasting.folds import Fold, walk_forward

COLUMNS = ("Open", "High", "Low", "Close", "Volume")


def drawn(rows, seed=0):
    """Returns a series of prices that are drawn at random."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(0.02 * rng.normal(size=rows).cumsum())
    high, low = close * 1.02 ** rng.random(rows), close / 1.02 ** rng.random(rows)
    values = np.stack([close, high, low, close, np.ones(rows)], axis=1).astype(np.float32)
    times = np.datetime64("2000-01-01") + np.arange(rows)
    return Series("drawn", values, COLUMNS, times, Path("x"), "drawn at random")


@given(st.integers(100, 500), st.integers(1, 5))
def test_test_parts_are_consecutive_and_follow_all_rows_of_the_other_parts(rows, folds):
    found = walk_forward(rows, folds)
    assert len(found) == folds
    assert found[-1].test.stop == rows
    for fold in found:
        assert fold.train.start == 0
        assert (fold.train.stop, fold.validation.stop) == (fold.validation.start, fold.test.start)
        assert fold.test.stop - fold.test.start == rows // 10
    for one, following in itertools.pairwise(found):
        assert following.test.start == one.test.stop


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 0), "folds must be in [1, inf), got 0"),
        ((100, 9), "folds must leave rows in each part, got 9 folds of 100 rows"),
        ((100, 1, 0.0), "test must be in (0, 1), got 0.0"),
        ((100, 1, 0.1, 1.0), "validation must be in (0, 1), got 1.0"),
    ],
)
def test_folds_without_rows_are_refused(arguments, message):
    rows, folds, *shares = arguments
    named = dict(zip(("test", "validation"), shares, strict=False))
    with pytest.raises(ValueError, match=re.escape(message)):
        walk_forward(rows, folds, **named)


def test_examples_are_windows_of_returns_and_ranges_with_the_returns_that_follow():
    series = drawn(60)
    fold = Fold(slice(0, 30), slice(30, 45), slice(45, 60))
    examples = make_examples(series, fold, window=4, horizons=(1, 3))
    close, high, low = (series.values[:, i].astype(np.float64) for i in (3, 1, 2))
    for number, rows in enumerate(fold):
        inputs, targets = examples.dataset[1 + number]
        origins = examples.origins[number]
        # The return of the first row of a part would use the row before.
        assert origins.tolist() == list(range(rows.start + 4, rows.stop - 3))
        for origin, window, target in zip(origins, inputs, targets, strict=True):
            days = range(origin - 3, origin + 1)
            wanted = [[np.log(close[i] / close[i - 1]), np.log(high[i] / low[i])] for i in days]
            np.testing.assert_allclose(window, wanted, rtol=1e-5)
            after = [np.log(close[origin + h] / close[origin]) for h in (1, 3)]
            np.testing.assert_allclose(target, after, rtol=1e-5)


def test_the_normalization_is_of_the_training_rows():
    series = drawn(60)
    fold = Fold(slice(0, 30), slice(30, 45), slice(45, 60))
    dataset = make_examples(series, fold, window=4, horizons=(1, 3)).dataset
    returns = np.diff(np.log(series.values[:30, 3].astype(np.float64)))
    assert dataset.mean[0] == pytest.approx(returns.mean(), rel=1e-5)
    assert dataset.std[0] == pytest.approx(returns.std(), rel=1e-5)
    np.testing.assert_allclose(dataset.target_std, dataset.train.targets.std(0), rtol=1e-5)


def test_parts_without_a_whole_example_and_bad_prices_are_refused():
    series, fold = drawn(60), Fold(slice(0, 30), slice(30, 37), slice(37, 60))
    with pytest.raises(
        DataError, match="its validation part of 7 rows is too short, expected at l"
    ):
        make_examples(series, fold, window=4, horizons=(3,))
    values = series.values.copy()
    values[5, 3] = 0
    with pytest.raises(DataError, match=r"Close must be in \(0, inf\), got 0 on 2000-01-06"):
        make_examples(series._replace(values=values), fold)
    for horizons in ((), (0, 1), (5, 1)):
        with pytest.raises(ValueError, match="horizons must be in"):
            make_examples(series, fold, horizons=horizons)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_the_best_skill_on_the_control_is_the_share_that_a_regression_explains(horizon):
    prices = np.log(control(200_000, seed=1).values[:, 0].astype(np.float64))
    past, future = np.diff(prices)[:-horizon], prices[1 + horizon :] - prices[1:-horizon]
    explained = np.corrcoef(past, future)[0, 1] ** 2
    assert best_skill(horizon) == pytest.approx(explained, abs=0.01)
