"""Labeled images are checked."""

from pathlib import Path

import numpy as np
import pytest

from experiments.data import images
from experiments.data.files import File
from tests.experiments.data.disk import pictures, refused

FILE = File(Path("pictures"), "the fields")
LABELS = File(Path("labels"), "the fields")


def labeled(pixels, labels, **options):
    options = {"shapes": [(4, 5), (4, 5, 3)], "classes": 3, **options}
    return images.labeled(FILE, pixels, np.asarray(labels), **options)


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_images_get_a_channel_axis_and_labels_one_axis(channels, column, dtype):
    pixels = pictures(3, 4, 5, *channels)
    labels = np.array([2, 0, 1], dtype)
    split = labeled(pixels, labels[:, None] if column else labels)
    assert split.inputs.shape == (3, 4, 5, *(channels or (1,)))
    np.testing.assert_array_equal(split.inputs.reshape(pixels.shape), pixels)
    assert split.targets.tolist() == [2, 0, 1]
    assert split.targets.dtype == np.int32


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (pictures(3, 4, 4), ["(n, 4, 5)", "(3, 4, 4)"]),
        (pictures(3, 4, 5, 4), ["(n, 4, 5, 3)", "(3, 4, 5, 4)"]),
        (pictures(3, 4, 5).astype(np.float32), ["uint8", "float32"]),
        (np.uint8(3), ["()"]),
        (pictures(0, 4, 5), ["at least one"]),
    ],
)
def test_invalid_images_are_refused(pixels, words):
    with refused("pictures", "val images", *words):
        labeled(pixels, [0, 1, 2], part="val")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1], ["3 images", "got 2"]),
        ([0, 1, 2, 0], ["3 images", "got 4"]),
        ([0, 3, 1], ["[0, 2]", "got 3", "position 1"]),
        ([0, 1, -1], ["[0, 2]", "got -1", "position 2"]),
        ([0.0, 1.0, 2.0], ["integers", "float64"]),
        ([[0, 1], [1, 0], [0, 0]], ["(n, 1)", "(3, 2)"]),
        (np.zeros((3, 1, 1), int), ["(n, 1)", "(3, 1, 1)"]),
        (1, ["(n,)", "()"]),
        (["a", "b", "c"], ["integers"]),
        ([2**64, 0, 1], ["integers", "object"]),
    ],
)
def test_invalid_labels_are_refused(labels, words):
    with refused("pictures", "labels must be", *words):
        labeled(pictures(3, 4, 5), labels)


def test_the_error_for_labels_of_another_file_names_that_file():
    with refused("labels", "3 images of pictures"):
        images.labeled(
            FILE,
            pictures(3, 4, 5),
            np.array([0]),
            shapes=[(4, 5)],
            classes=3,
            labels_file=LABELS,
        )


def test_the_last_examples_of_each_class_are_selected_in_proportion():
    labels = np.random.default_rng(0).integers(0, 5, 1000)
    marked = images.last_of_each_class(labels, 10)
    for label in range(5):
        members = np.flatnonzero(labels == label)
        count = len(members) // 10
        np.testing.assert_array_equal(np.flatnonzero(marked & (labels == label)), members[-count:])


def test_a_class_with_too_few_examples_gives_no_selection():
    assert not images.last_of_each_class(np.array([0] * 9 + [1] * 5), 10).any()
