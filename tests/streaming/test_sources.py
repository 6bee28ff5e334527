"""Chunks from arrays, iterators and files."""

import gzip

import numpy as np
import pytest

import jaxdescent as jd
from jaxdescent.streaming.sources import PROBLEMS

S = jd.streaming
ROWS = [([float(i), -1.0], i % 3) for i in range(5)]


def problem_of(chunk):
    return [PROBLEMS[p - 1] if p else "" for p in chunk.problems[: chunk.length]]


def test_arrays_iterators_and_files_give_the_same_chunks(tmp_path):
    x, y = (np.array(each) for each in zip(*ROWS, strict=True))
    text = "".join(f"{a},{b},c{label}\n" for (a, b), label in ROWS)
    (tmp_path / "plain.csv").write_text("first, second, class\n" + text)
    with gzip.open(tmp_path / "packed.csv.gz", "wt") as file:
        file.write(text)
    classes = ("c0", "c1", "c2")
    sources = [
        (x, y),
        iter(ROWS),
        S.csv_examples(tmp_path / "plain.csv", label="class", classes=classes),
        S.csv_examples(tmp_path / "packed.csv.gz", classes=classes),
    ]
    for source in sources:
        found = list(S.chunks(source, 2))
        assert [chunk.length for chunk in found] == [2, 2, 1]
        assert {(chunk.features.shape, chunk.labels.shape) for chunk in found} == {((2, 2), (2,))}
        assert np.array_equal(np.concatenate([c.features[: c.length] for c in found]), x)
        assert np.array_equal(np.concatenate([c.labels[: c.length] for c in found]), y)


def test_rows_that_do_not_fit_are_marked():
    rows = [
        ([1.0], 0),  # the shape is the most common one
        ([1.0, 2.0], 0),
        ([1.0, "x"], 1),
        ([1.0, 2.0], "UP"),
        ([1.0, 2.0, 3.0], 0),
        ([1.0, 2.0], None),
        ([3.0, 4.0], 1),
    ]
    (chunk,) = S.chunks(rows, 8)
    assert problem_of(chunk) == ["width", "", "features", "label", "width", "label", ""]
    assert chunk.features[6].tolist() == [3.0, 4.0]


def test_a_wrong_first_row_does_not_decide_about_the_stream():
    rows = [([9.0], 0), *[([1.0, 2.0], 1)] * 4]
    marks = [problem_of(chunk)[0] for chunk in S.chunks(rows, 1)]
    assert marks == ["", "width", "", "", ""]  # most examples so far have another shape
    marks = [problem_of(chunk)[0] for chunk in S.chunks(rows, 1, features=2)]
    assert marks == ["width", "", "", "", ""]
    with pytest.raises(ValueError, match="features must be an integer at least 1, got 0"):
        S.chunks(rows, 1, features=0)


def test_arrays_of_text_are_not_features():
    rows = [(np.array(["a", "b"]), 0), (np.array(["1", "2"]), 0), (np.array([None, "y"]), 1)]
    (chunk,) = S.chunks(rows, 3)
    assert problem_of(chunk) == ["features", "", "features"]
    assert chunk.features.dtype == float
    assert chunk.features[1].tolist() == [1.0, 2.0]


def test_a_file_of_a_spreadsheet_begins_with_a_number(tmp_path):
    path = tmp_path / "exported.csv"
    path.write_text("1,2,0\n", encoding="utf-8-sig")
    assert list(S.csv_examples(path)) == [([1.0, 2.0], 0.0)]


def test_a_file_with_faulty_cells_gives_nan_and_unknown_labels(tmp_path):
    path = tmp_path / "faulty.csv"
    path.write_text("1,x,UP,2020-01-02\n1,2,SIDEWAYS,2020-01-01\n\n1\n")
    rows = list(S.csv_examples(path, label=2, classes=("DOWN", "UP"), time=3))
    assert [row[1] for row in rows[:2]] == [1, -1]
    assert np.isnan(rows[0][0][1])
    assert rows[0][2] - rows[1][2] == 24 * 3600
    (chunk,) = S.chunks(rows, 4)
    assert problem_of(chunk) == ["", "", "width"]


def test_rows_before_an_error_of_the_source_come_first():
    def faulty():
        yield from ROWS[:3]
        raise OSError("the connection ended")

    found = S.chunks(faulty(), 2)
    assert [next(found).length, next(found).length] == [2, 1]
    with pytest.raises(OSError, match="the connection ended"):
        next(found)


def test_an_empty_stream_is_refused_or_allowed():
    for source in (iter(()), (np.ones((0, 2)), np.ones(0))):
        with pytest.raises(ValueError, match="source must have at least one example"):
            next(S.chunks(source, 2))
    assert list(S.chunks([], 2, allow_empty=True)) == []


def test_time_stamps_travel_with_the_examples():
    times = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "datetime64[D]")
    rows = [([0.0], 0, time) for time in times]
    for source in (rows, (np.zeros((3, 1)), np.zeros(3), times)):
        first, second = S.chunks(source, 2)
        assert first.times.tolist() == times[:2].tolist()
        assert second.times[0] == times[2]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("stream.csv", TypeError, "csv_examples reads a file"),
        (3, TypeError, "source must be a tuple of arrays or an iterable"),
        ((np.ones((3, 2)), np.ones(2)), ValueError, "as many labels"),
        ((np.ones((3, 2)),), ValueError, "two or three arrays"),
        ([1.0], TypeError, "an example must be a tuple"),
    ],
)
def test_wrong_sources_are_refused(source, error, message):
    with pytest.raises(error, match=message):
        next(S.chunks(source, 2))
    with pytest.raises(ValueError, match="length must be an integer at least 1, got 0"):
        S.chunks(ROWS, 0)


def test_columns_that_do_not_exist_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match=r"must be columns of \['x', 'y'\], got 'z'"):
        next(S.csv_examples(tmp_path / "a.csv", label="z"))
    with pytest.raises(ValueError, match=r"must be in \[-2, 2\), got 2"):
        next(S.csv_examples(tmp_path / "a.csv", label=2))
    with pytest.raises(ValueError, match="header must be True"):
        S.csv_examples(tmp_path / "a.csv", label="z", header=False)
    with pytest.raises(ValueError, match=r"label must be an integer .* got 1.5"):
        S.csv_examples(tmp_path / "a.csv", label=1.5)


@pytest.mark.parametrize("classes", ["UP", (0, 1), ("UP", "UP"), ()])
def test_classes_must_be_different_strings(classes):
    with pytest.raises(ValueError, match="classes must be a sequence of different strings"):
        S.csv_examples("a.csv", classes=classes)


@pytest.mark.parametrize(("count", "delay"), [(1, 1), (2, 1), (2, 3)])
def test_previous_labels_are_the_labels_that_have_arrived(count, delay):
    labels = [1, 0, 1, 1, 0, 0, 1]
    rows = [([0.5], label) for label in labels]
    found = list(S.with_previous_labels(rows, count, delay=delay, missing=-1))
    for t, (features, label) in enumerate(found):
        known = [labels[i] if i >= 0 else -1 for i in range(t - delay, t - delay - count, -1)]
        assert features.tolist() == [0.5, *known]
        assert label == labels[t]


def test_previous_labels_leave_wrong_features_for_the_chunks():
    rows = [([0.5], 1), (["x"], 0), ([0.5], "UP"), ([0.5], 1)]
    (chunk,) = S.chunks(S.with_previous_labels(rows, 1), 4)
    assert problem_of(chunk) == ["", "features", "label", ""]
    assert chunk.features[2:].tolist() == [[0.5, 0.0], [0.5, 0.0]]
    with pytest.raises(TypeError, match="source must be an iterable"):
        S.with_previous_labels(3, 1)
    with pytest.raises(ValueError, match="missing must be finite, got nan"):
        S.with_previous_labels(rows, 1, missing=float("nan"))
