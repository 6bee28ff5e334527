"""Data sets are separable, with certified margins."""

import numpy as np
import pytest

from experiments.studies.logistic import data_sets


@pytest.mark.parametrize("angle", [0.1, 0.7, 1.5])
def test_the_margin_of_two_points_is_the_cosine_of_half_the_angle(angle):
    points = np.array([[np.cos(angle), np.sin(angle)], [np.cos(angle), -np.sin(angle)]])
    np.testing.assert_allclose(data_sets.margin_bounds(points), np.cos(angle), rtol=1e-12)


def test_a_point_inside_the_polytope_does_not_change_the_margin():
    points = np.array([[0.6, 0.8], [0.6, -0.8], [0.9, 0.1], [0.8, -0.3]])
    np.testing.assert_allclose(data_sets.margin_bounds(points), 0.6, rtol=1e-12)


def test_no_direction_has_a_margin_above_the_upper_bound():
    rng = np.random.default_rng(0)
    x = data_sets.draw_examples(30, 3, 0.1, rng)
    low, high = data_sets.margin_bounds(x)
    assert low <= high * (1 + 1e-12)
    assert high - low < 1e-12
    directions = rng.normal(size=(20_000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    best = (x @ directions.T).min(0).max()
    assert 0.9 * low < best <= high


def test_drawn_examples_have_about_the_requested_margin():
    for n, features, margin in data_sets.DRAWN:
        x = data_sets.draw_examples(n, features, margin, np.random.default_rng(1))
        low, _ = data_sets.margin_bounds(x)
        assert low > 0.8 * margin
        normal, *_ = np.linalg.qr(np.random.default_rng(1).normal(size=(features, features)))
        assert 0.8 * margin < np.min(x @ normal[0]) < 1.5 * margin


def test_inseparable_examples_have_a_lower_bound_of_at_most_0():
    low, _ = data_sets.margin_bounds(np.array([[1.0, 0.0], [-1.0, 0.1], [0.0, -1.0]]))
    assert low <= 0


def test_all_twenty_data_sets_are_separable_with_unique_names_and_norm_1():
    sets = data_sets.load_data_sets(20, seed=0)
    assert len({each.name for each in sets}) == 20
    for each in sets:
        assert np.linalg.norm(each.examples, axis=1).max() == pytest.approx(1.0)
        assert 0.02 < each.margin <= each.upper_bound * (1 + 1e-12)
        assert each.upper_bound - each.margin < 1e-10
