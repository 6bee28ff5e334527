"""Curves are means over seeds, and what was not finite is a gap in them."""

import numpy as np
import pytest

from experiments.runner.curves import curve, draw, lines_of

RECORDS = [
    {"line": "a", "step": 10, "seconds": 1.0, "loss": [4.0, 2.0], "rate": 0.5},
    {"line": "a", "step": 20, "seconds": 2.0, "loss": [None, 1.0]},
    {"line": "a", "step": 30, "seconds": 3.0, "loss": [1.0, 1.0]},
    {"line": "a", "step": 40, "seconds": 4.0, "loss": [2.0, 1.0]},
]


def test_a_curve_is_the_mean_over_seeds():
    found = curve(RECORDS, "loss")
    np.testing.assert_array_equal(found.steps, [10, 20, 30, 40])
    np.testing.assert_array_equal(found.seconds, [1, 2, 3, 4])
    np.testing.assert_array_equal(found.values, [3, np.nan, 1, 1.5])
    assert (found.best, found.last) == (1.0, 1.5)


def test_a_curve_goes_through_the_records_that_have_the_metric():
    found = curve(RECORDS, "rate")
    assert (found.steps.tolist(), found.values.tolist()) == ([10], [0.5])
    assert curve(RECORDS, "accuracy") is None
    assert curve([], "loss") is None
    assert np.isnan(curve([{"step": 1, "loss": 2.0}], "loss").seconds)


@pytest.mark.parametrize(
    ("target", "record"), [(3.0, 0), (2.99, 2), (1.0, 2), (0.99, None), (float("nan"), None)]
)
def test_a_target_is_reached_at_the_first_value_that_is_no_greater(target, record):
    assert curve(RECORDS, "loss").reaches(target) == record


def test_a_curve_of_nothing_finite_has_no_best_and_reaches_nothing():
    found = curve([{"step": 1, "loss": None}, {"step": 2, "loss": [None, 1.0]}], "loss")
    assert np.isnan(found.best)
    assert np.isnan(found.last)
    assert found.reaches(float("inf")) is None


def test_records_are_sorted_into_lines_in_the_order_in_which_they_came():
    records = [{"line": "b", "step": 1}, {"line": "a", "step": 1}, {"line": "b", "step": 2}]
    found = lines_of([*records, {"step": 3}])
    assert [*found] == ["b", "a"]
    assert found["b"] == [records[0], records[2]]


def drawn(*values, axes=("steps", "seconds")):
    x = np.arange(1.0, len(values[0]) + 1)
    curves = {f"run {i}": [(x, np.array(y))] * len(axes) for i, y in enumerate(values)}
    return draw(curves, axes, "loss")


def test_a_picture_has_a_panel_for_each_axis_and_a_curve_for_each_label(tmp_path):
    figure = drawn([1.0, 0.1], [2.0, 0.2])
    assert [panel.get_xlabel() for panel in figure.axes] == ["steps", "seconds"]
    assert [[*line.get_ydata()] for line in figure.axes[1].lines] == [[1.0, 0.1], [2.0, 0.2]]
    assert figure.axes[0].get_ylabel() == "loss"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["run 0", "run 1"]


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.0, 0.1], "log"), ([1.0, 0.0], "linear"), ([1.0, -1.0], "linear")],
)
def test_values_that_are_all_positive_are_drawn_in_logarithms(values, scale):
    assert drawn(values).axes[0].get_yscale() == scale


@pytest.mark.parametrize("values", [[], [1.0], [np.nan, np.nan], [np.nan, 1.0]], ids=repr)
def test_what_there_is_little_of_is_drawn_all_the_same(tmp_path, values):
    drawn(values).savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
