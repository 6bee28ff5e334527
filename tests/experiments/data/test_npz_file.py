"""A user's arrays become a data set, or are refused in one line that says what to change."""

import numpy as np
import pytest

from experiments.data import DataError, npz_file
from tests.experiments.data.disk import npz, pictures

X, Y = np.arange(60, dtype=np.float64).reshape(30, 2), np.arange(30) % 3
PARTS = {"x_train": X, "y_train": Y, "x_test": X[:6] + 100, "y_test": Y[:6]}


@pytest.fixture
def load(tmp_path):
    def load_arrays(task=None, **arrays):
        path = tmp_path / "my.npz"
        path.write_bytes(npz(**arrays))
        return npz_file.load(path, task=task)

    return load_arrays


def test_one_pair_of_arrays_is_divided_by_class(load):
    data = load(x=X, y=Y)
    assert [np.bincount(part.targets).tolist() for part in data[1:4]] == [[6] * 3, [2] * 3, [2] * 3]
    assert data.train.inputs.dtype == np.float32
    for inputs, target in zip(*data.whole(), strict=True):
        assert Y[int(inputs[0]) // 2] == target
    assert data.source == (
        "the file my.npz of 30 examples: classification, as y holds int64 "
        "(--task regression predicts the number)"
    )


def test_parts_that_are_given_stay_as_they_are(load):
    data = load(**PARTS)
    np.testing.assert_array_equal(data.test.inputs, X[:6] + 100)
    assert [len(part.targets) for part in data[1:4]] == [24, 6, 6]
    data = load(**PARTS, x_validation=X[:3] - 100, y_validation=Y[:3])
    np.testing.assert_array_equal(data.train.inputs, X)
    np.testing.assert_array_equal(data.validation.inputs, X[:3] - 100)


@pytest.mark.parametrize(
    ("y", "task", "labels"),
    [
        (np.array(["b", "a"] * 15), None, ("a", "b")),
        (np.array([7, 3] * 15)[:, None], None, ("3", "7")),
        (np.array([True, False] * 15), None, ("False", "True")),
        (np.array([1.0, 2.0] * 15), "classification", ("1", "2")),
        (np.array([1.0, 2.0] * 15), None, ()),
        (np.array([7, 3] * 15), "regression", ()),
        (np.ones((30, 4)), None, ()),
    ],
)
def test_the_type_of_the_targets_decides_the_task_unless_it_is_given(load, y, task, labels):
    data = load(task, x=X, y=y)
    assert (data.labels, data.classes) == (labels, len(labels))
    if not labels:
        assert data.train.targets.shape == (18, y.shape[1] if y.ndim == 2 else 1)


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (pictures(30, 4, 5), (4, 5, 1), np.uint8),
        (pictures(30, 4, 5, 3), (4, 5, 3), np.uint8),
        (np.ones((30, 4, 5, 3)), (4, 5, 3), np.float32),
        (np.ones((30, 7, 2)), (7, 2), np.float32),
    ],
)
def test_pictures_and_sequences_keep_their_shape(load, x, shape, dtype):
    data = load(x=x, y=Y)
    assert data.train.inputs.shape == (18, *shape)
    assert data.train.inputs.dtype == dtype


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"data": X, "labels": Y}, ["must hold the arrays x and y, or x_train", "data, labels"]),
        ({"x": X}, ["it holds x"]),
        ({"x": X, **PARTS}, ["it holds x, x_test, x_train, y_test, y_train"]),
        ({"x_train": X, "y_train": Y}, ["it holds x_train, y_train"]),
        ({**PARTS, "x_validation": X}, ["with x_validation and y_validation"]),
        ({"x": X[:9], "y": Y}, ["y must have a row for each of the 9 in x, got the shape (30,)"]),
        ({"x": X[:, 0], "y": Y}, ["x must have shape [n, features]", "got (30,)"]),
        ({"x": X.astype(str), "y": Y}, ["x must hold numbers"]),
        (
            {"x": np.where(X == 9, np.nan, X), "y": Y},
            ["got nan at [4, 1] (1 of 60 are not finite)"],
        ),
        (
            {"x": X, "y": np.where(Y == 1, np.inf, Y)},
            ["y must hold finite numbers", "inf at [1, 0]"],
        ),
        ({"x": np.zeros((30, 3, 8, 8)), "y": Y}, ["move the axis of channels to the end"]),
        ({"x": X, "y": np.arange(30)}, ["at least 3 examples of each class", "--task regression"]),
        ({"x": X, "y": np.zeros(30, int)}, ["at least two classes, got [0]"]),
        ({"x": X, "y": np.eye(3, dtype=int)[Y]}, ["shape [n] for classification, got (30, 3)"]),
        ({"x": X[:9], "y": Y[:9]}, ["at least 11 examples to divide, got 9"]),
        ({**PARTS, "y_test": Y[:6] + 1}, ["y_test must have the classes of y_train, got 3, too"]),
        ({**PARTS, "x_test": X[:6, :1]}, ["x_test must have examples of the shape (2,) as in"]),
        (
            {"x": np.arange(60).reshape(30, 2) + 2**60, "y": Y},
            ["x[..., 0] must have a spread that float32 resolves", f"near {2**60}", "subtract an"],
        ),
        ({"x": X, "y": 0.5 + 2e9 + Y}, ["y[..., 0] must have a spread that float32 resolves"]),
        ({"x": X, "y": Y.astype(complex)}, ["y must hold texts or numbers"]),
    ],
)
def test_unsuitable_arrays_are_refused_in_one_line(load, tmp_path, arrays, words):
    with pytest.raises(DataError) as caught:
        load(**arrays)
    assert str(caught.value).startswith(f"{tmp_path / 'my.npz'}: ")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("other", [np.int64, np.uint64])
def test_large_whole_numbers_are_different_classes(load, other):
    y = np.array([2**53, 2**53 + 1] * 15)
    data = load(x_train=X, y_train=y, x_test=X[:6], y_test=y[:6].astype(other))
    assert data.labels == (str(2**53), str(2**53 + 1))
    assert data.test.targets.tolist() == [0, 1] * 3
    with pytest.raises(DataError, match=r"must hold classes up to 2\^53"):
        load("classification", x=X, y=y * 2.0)


def test_a_task_that_does_not_fit_the_targets_is_refused(load):
    with pytest.raises(DataError, match="must hold numbers with --task regression, got texts"):
        load("regression", x=X, y=np.array(["b", "a"] * 15))
    with pytest.raises(DataError, match="texts or whole numbers with --task classification"):
        load("classification", x=X, y=Y + 0.5)
