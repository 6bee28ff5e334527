"""Curves are means over seeds, with nan for non-finite values."""

import numpy as np
import pytest

from experiments.runner.curves import by_series, curve, draw

RECORDS = [
    {"series": "a", "step": 10, "seconds": 1.0, "loss": [4.0, 2.0], "rate": 0.5},
    {"series": "a", "step": 20, "seconds": 2.0, "loss": [None, 1.0]},
    {"series": "a", "step": 30, "seconds": 3.0, "loss": [1.0, 1.0]},
    {"series": "a", "step": 40, "seconds": 4.0, "loss": [2.0, 1.0]},
]


@pytest.mark.parametrize("value", ["high", {}, [], [[1], [2, 3]], None])
def test_a_value_that_is_not_made_of_numbers_is_nan(value):
    found = curve([{"step": 1, "loss": value}, {"step": 2, "loss": [1.0, 3.0]}], "loss")
    assert np.isnan(found.values[0])
    assert found.values[1] == 2.0


def test_a_curve_is_the_mean_over_seeds():
    found = curve(RECORDS, "loss")
    np.testing.assert_array_equal(found.steps, [10, 20, 30, 40])
    np.testing.assert_array_equal(found.seconds, [1, 2, 3, 4])
    np.testing.assert_array_equal(found.values, [3, np.nan, 1, 1.5])
    assert (found.best, found.last) == (1.0, 1.5)


def test_a_curve_uses_only_records_with_the_metric():
    found = curve(RECORDS, "rate")
    assert (found.steps.tolist(), found.values.tolist()) == ([10], [0.5])
    assert curve(RECORDS, "accuracy") is None
    assert curve([], "loss") is None
    assert np.isnan(curve([{"step": 1, "loss": 2.0}], "loss").seconds)


@pytest.mark.parametrize(
    ("target", "record"), [(3.0, 0), (2.99, 2), (1.0, 2), (0.99, None), (float("nan"), None)]
)
def test_a_target_is_reached_at_the_first_value_at_or_below_it(target, record):
    assert curve(RECORDS, "loss").reaches(target) == record


def test_a_curve_without_finite_values_has_no_best_and_reaches_no_target():
    found = curve([{"step": 1, "loss": None}, {"step": 2, "loss": [None, 1.0]}], "loss")
    assert np.isnan(found.best)
    assert np.isnan(found.last)
    assert found.reaches(float("inf")) is None


def test_records_are_grouped_by_series_in_order():
    records = [{"series": "b", "step": 1}, {"series": "a", "step": 1}, {"series": "b", "step": 2}]
    found = by_series([*records, {"step": 3}])
    assert [*found] == ["b", "a"]
    assert found["b"] == [records[0], records[2]]


def drawn(*values, axes=("steps", "seconds")):
    x = np.arange(1.0, len(values[0]) + 1)
    curves = {f"run {i}": [(x, np.array(y))] * len(axes) for i, y in enumerate(values)}
    return draw(curves, axes, "loss")


def test_a_figure_has_a_panel_for_each_axis_and_a_curve_for_each_label(tmp_path):
    figure = drawn([1.0, 0.1], [2.0, 0.2])
    assert [panel.get_xlabel() for panel in figure.axes] == ["steps", "seconds"]
    assert [[*line.get_ydata()] for line in figure.axes[1].lines] == [[1.0, 0.1], [2.0, 0.2]]
    assert figure.axes[0].get_ylabel() == "loss"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["run 0", "run 1"]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 0.1], "log"),
        ([1.0, 0.2], "linear"),
        ([1.0, 0.0], "linear"),
        ([1.0, -1.0], "linear"),
        ([np.nan, 1.0, 0.1], "log"),
    ],
)
def test_positive_values_that_span_a_decade_have_a_logarithmic_axis(values, scale):
    assert drawn(values).axes[0].get_yscale() == scale


def test_curves_that_end_far_apart_have_a_logarithmic_horizontal_axis():
    def scale(last):
        curves = {"short": [(np.array([1.0, 2.0]),) * 2], "long": [(np.array([1.0, last]),) * 2]}
        return draw(curves, ["steps"], "loss").axes[0].get_xscale()

    assert (scale(39.0), scale(40.0)) == ("linear", "log")


def test_the_target_is_a_line_with_its_value_in_each_panel():
    x = np.array([1.0, 2.0])
    figure = draw({"run": [(x, x), (x, x)]}, ("steps", "seconds"), "loss", 1.5)
    assert [[*panel.lines[-1].get_ydata()] for panel in figure.axes] == [[1.5, 1.5]] * 2
    assert figure.axes[-1].texts[0].get_text() == "target 1.5"


def test_twelve_curves_differ_in_color_or_style_and_leave_room_for_the_panels():
    x = np.array([1.0, 2.0])
    few = draw({f"run {i}": [(x, x)] for i in range(3)}, ["steps"], "loss")
    many = draw({f"run {i}, {'x' * 40}": [(x, x)] for i in range(12)}, ["steps"], "loss")
    lines = many.axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
    assert many.get_figheight() - few.get_figheight() == pytest.approx(0.22 * 11)


@pytest.mark.parametrize("values", [[], [1.0], [np.nan, np.nan], [np.nan, 1.0]], ids=repr)
def test_curves_with_few_or_no_values_are_drawn(tmp_path, values):
    drawn(values).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
