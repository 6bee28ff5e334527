"""MedMNIST from npz: synthetic, broken and real files."""

import numpy as np
import pytest

from experiments.data import medmnist
from tests.experiments.data.disk import npz, pictures, real, refused, write

COUNTS = {"train": 12, "val": 5, "test": 7}


def archive(shape=(28, 28), classes=2, **changed):
    arrays = {}
    for seed, (prefix, count) in enumerate(COUNTS.items()):
        arrays[f"{prefix}_images"] = pictures(count, *shape, seed=seed)
        arrays[f"{prefix}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    arrays |= changed
    return npz(**{key: array for key, array in arrays.items() if array is not None})


@pytest.mark.parametrize("name", medmnist.CLASSES)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_written_files_are_read(tmp_path, name, channels):
    classes = medmnist.CLASSES[name]
    write(tmp_path / f"{name}.npz", archive((28, 28, *channels), classes))
    data = medmnist.load(name, tmp_path)
    for seed, (part, count) in enumerate(zip(data[1:4], COUNTS.values(), strict=True)):
        images = pictures(count, 28, 28, *channels, seed=seed)
        np.testing.assert_array_equal(part.inputs, images.reshape(count, 28, 28, -1))
        np.testing.assert_array_equal(part.targets, np.arange(count) % classes)
    assert (data.name, data.classes) == (name, classes)
    assert data.mean.shape == (channels or (1,))


def test_the_numbers_of_classes_equal_the_published_ones():
    published = {"path": 9, "derma": 7, "oct": 4, "pneumonia": 2, "retina": 5, "breast": 2}
    published |= {"blood": 8, "tissue": 8, "organa": 11, "organc": 11, "organs": 11}
    assert {f"{name}mnist": count for name, count in published.items()} == medmnist.CLASSES


def test_larger_images_have_a_separate_file(tmp_path):
    write(tmp_path / "breastmnist_64.npz", archive((64, 64)))
    assert medmnist.load("breastmnist", tmp_path, size=64).train.inputs.shape == (12, 64, 64, 1)
    with refused(tmp_path / "breastmnist.npz", "missing", "medmnist.com"):
        medmnist.load("breastmnist", tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"val_labels": None}, ["val_labels", "it holds train_images"]),
        ({"val_images": pictures(5, 32, 32)}, ["val images", "(n, 28, 28)", "(5, 32, 32)"]),
        ({"test_labels": np.zeros((6, 1), int)}, ["test labels", "7 images", "got 6"]),
        ({"train_labels": np.full((12, 1), 2)}, ["train labels", "[0, 1]", "got 2"]),
        ({"train_labels": np.zeros((12, 14), int)}, ["train labels", "(n, 1)", "(12, 14)"]),
        ({"test_images": pictures(7, 28, 28, 3)}, ["all be gray or all be colored"]),
    ],
)
def test_an_invalid_archive_is_refused(tmp_path, changed, words):
    path = write(tmp_path / "pneumoniamnist.npz", archive(**changed))
    with refused(path, *words):
        medmnist.load("pneumoniamnist", tmp_path)


@pytest.mark.parametrize("name", ["chestmnist", "mnist", ""])
def test_an_unknown_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"name must be one of pathmnist, .*, got '{name}'$"):
        medmnist.load(name, tmp_path)


def test_an_unknown_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"size must be one of 28, 64, 128, 224, got 32$"):
        medmnist.load("breastmnist", tmp_path, size=32)


def test_the_real_x_rays_have_their_published_sizes_and_counts():
    data = medmnist.load("pneumoniamnist", real("pneumoniamnist.npz"))
    assert [len(part.targets) for part in data[1:4]] == [4708, 524, 624]
    counts = [np.bincount(part.targets).tolist() for part in data[1:4]]
    assert counts == [[1214, 3494], [135, 389], [234, 390]]
    assert data.train.inputs.shape == (4708, 28, 28, 1)
