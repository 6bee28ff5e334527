"""Windows contain the right rows, and no data leaks from a later part into an earlier one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import Series, prices, windows
from tests.experiments.data.disk import refused

COLUMNS = ("Open", "Close")


def series(rows):
    """Returns a series whose row i is i and 1000 + i."""
    values = np.stack([np.arange(rows), 1000 + np.arange(rows)], axis=1).astype(np.float32)
    times = np.datetime64("2000-01-01") + np.arange(rows)
    return Series("x", values, COLUMNS, times, Path("x.csv"), "the fields")


@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from(COLUMNS), st.integers(100, 140))
def test_a_window_is_followed_by_its_horizon_within_its_part(window, horizon, target, rows):
    data = windows(series(rows), window, horizon, target=target, validation=0.2, test=0.3)
    starts = 0, int(rows * 0.5 + 1e-6), int(rows * 0.7 + 1e-6), rows
    for part, first, end in zip(data[1:4], starts, starts[1:], strict=False):
        count = end - first - window - horizon + 1
        assert part.inputs.shape == (count, window, 2)
        assert part.targets.shape == (count, horizon)
        past = first + np.arange(count)[:, None] + np.arange(window)
        future = first + np.arange(count)[:, None] + window + np.arange(horizon)
        np.testing.assert_array_equal(part.inputs[..., 0], past)
        np.testing.assert_array_equal(part.inputs[..., 1], 1000 + past)
        offset = 1000 * COLUMNS.index(target)
        np.testing.assert_array_equal(part.targets, offset + future)
        assert future.max() == end - 1


def test_the_normalization_uses_the_training_rows_only():
    data = windows(series(100), 3, 2, validation=0.2, test=0.2)
    rows = np.arange(60)
    np.testing.assert_allclose(data.mean, [rows.mean(), 1000 + rows.mean()], rtol=1e-6)
    np.testing.assert_allclose(data.std, [rows.std()] * 2, rtol=1e-6)
    np.testing.assert_allclose(data.target_mean, [1000 + rows.mean()], rtol=1e-6)
    np.testing.assert_allclose(data.target_std, [rows.std()], rtol=1e-6)
    inputs, targets = data.normalized(data.test)
    np.testing.assert_allclose(inputs[0, 0], (80 - rows.mean()) / rows.std(), rtol=1e-5)
    np.testing.assert_allclose(targets[0, 0], (83 - rows.mean()) / rows.std(), rtol=1e-5)


def test_later_rows_do_not_affect_the_training_part():
    plain = series(100)
    shaken = plain._replace(values=plain.values.copy())
    shaken.values[70:] = -1e6
    one, other = (windows(each, 5, 3) for each in (plain, shaken))
    np.testing.assert_array_equal(one.train.inputs, other.train.inputs)
    np.testing.assert_array_equal(one.train.targets, other.train.targets)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.target_std, other.target_std)


def test_windows_are_read_only_views_of_the_series():
    whole = series(100)
    data = windows(whole, 10, 2)
    assert np.shares_memory(data.train.inputs, whole.values)
    with pytest.raises(ValueError, match="read-only"):
        data.train.inputs[0] = 0


def test_a_share_of_0_gives_a_part_without_windows():
    data = windows(series(50), 4, 2, validation=0.0, test=0.0)
    assert [part.inputs.shape for part in data[1:4]] == [(45, 4, 2), (0, 4, 2), (0, 4, 2)]
    assert [part.targets.shape for part in data[1:4]] == [(45, 2), (0, 2), (0, 2)]
    assert len(data.whole().targets) == 45


def test_the_shortest_valid_series_gives_one_window_per_part():
    data = windows(series(15), 3, 2, validation=1 / 3, test=1 / 3)
    assert [len(part.inputs) for part in data[1:4]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "validation", "title", "held"),
    [(14, 1 / 3, "training", 4), (40, 0.1, "validation", 4), (0, 0.0, "training", 0)],
)
def test_a_series_shorter_than_its_window_is_refused(rows, validation, title, held):
    with refused("x.csv", f"its {title} part of {held} rows", "at least 5", "3", "2", "fields"):
        windows(series(rows), 3, 2, validation=validation, test=1 / 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 0}, r"window must be an integer in \[1, inf\), got 0"),
        ({"window": 2.5}, r"window must be an integer in \[1, inf\), got 2.5"),
        ({"horizon": 0}, r"horizon must be an integer in \[1, inf\), got 0"),
        ({"target": "Adj"}, "target must be one of Open, Close, got 'Adj'"),
        ({"validation": -1}, "validation must be"),
    ],
)
def test_arguments_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        windows(series(100), **{"window": 3, **options})


def test_google_in_windows():
    data = windows(prices.goog(), 20, 5)
    assert (data.name, data.classes) == ("goog", 0)
    inputs, targets = data.normalized(data.train)
    assert abs(inputs.mean()) < 0.1
    assert abs(targets.std() - 1) < 0.1
