"""Data sets are separable, by margins that carry their certificate."""

import numpy as np
import pytest

from experiments.studies.logistic import data_sets as separable


@pytest.mark.parametrize("angle", [0.1, 0.7, 1.5])
def test_the_margin_of_two_points_is_the_cosine_of_half_the_angle(angle):
    points = np.array([[np.cos(angle), np.sin(angle)], [np.cos(angle), -np.sin(angle)]])
    np.testing.assert_allclose(separable.margin_of(points), np.cos(angle), rtol=1e-12)


def test_a_point_within_the_others_reach_does_not_change_the_margin():
    points = np.array([[0.6, 0.8], [0.6, -0.8], [0.9, 0.1], [0.8, -0.3]])
    np.testing.assert_allclose(separable.margin_of(points), 0.6, rtol=1e-12)


def test_bounds_of_the_margin_hold_whatever_direction_is_tried():
    rng = np.random.default_rng(0)
    x = separable.drawn(30, 3, 0.1, rng)
    low, high = separable.margin_of(x)
    assert low <= high * (1 + 1e-12)
    assert high - low < 1e-12
    directions = rng.normal(size=(20_000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    best = (x @ directions.T).min(0).max()
    assert 0.9 * low < best <= high


def test_drawn_examples_are_about_as_far_from_a_hyperplane_as_planted():
    for n, features, planted in separable.PLANTED:
        x = separable.drawn(n, features, planted, np.random.default_rng(1))
        low, _ = separable.margin_of(x)
        assert low > 0.8 * planted
        normal, *_ = np.linalg.qr(np.random.default_rng(1).normal(size=(features, features)))
        assert 0.8 * planted < np.min(x @ normal[0]) < 1.5 * planted


def test_what_nothing_separates_has_no_margin():
    low, _ = separable.margin_of(np.array([[1.0, 0.0], [-1.0, 0.1], [0.0, -1.0]]))
    assert low <= 0


def test_all_twenty_are_separable_named_and_of_length_one():
    sets = separable.data_sets(20, seed=0)
    assert len({each.name for each in sets}) == 20
    for each in sets:
        assert np.linalg.norm(each.examples, axis=1).max() == pytest.approx(1.0)
        assert 0.02 < each.margin <= each.above * (1 + 1e-12)
        assert each.above - each.margin < 1e-10
