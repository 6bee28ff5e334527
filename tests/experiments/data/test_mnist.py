"""MNIST from IDX files: synthetic, broken and real files."""

import numpy as np
import pytest

from experiments.data import mnist
from tests.experiments.data.disk import idx, pictures, real, refused, write

COUNTS = {"train": 30, "t10k": 12}


def contents():
    """Returns the bytes of four small files."""
    made = {}
    for part, count in COUNTS.items():
        made[f"{part}-images-idx3-ubyte"] = idx(pictures(count, 28, 28, seed=count))
        made[f"{part}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    return made


def folder(base, changed=None, *, zipped=False, subfolder=""):
    """Writes the four files with changes; None omits a file."""
    for name, raw in {**contents(), **(changed or {})}.items():
        if raw is not None:
            write(base / subfolder / (f"{name}.gz" if zipped else name), raw, zipped=zipped)
    return base


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("subfolder", ["mnist", ""])
def test_written_files_are_read(tmp_path, zipped, subfolder):
    data = mnist.load(folder(tmp_path, zipped=zipped, subfolder=subfolder))
    train, test = pictures(30, 28, 28, seed=30), pictures(12, 28, 28, seed=12)
    np.testing.assert_array_equal(data.train.inputs[..., 0], train[:25])
    np.testing.assert_array_equal(data.validation.inputs[..., 0], train[25:])
    np.testing.assert_array_equal(data.test.inputs[..., 0], test)
    np.testing.assert_array_equal(data.train.targets, np.arange(25) % 10)
    np.testing.assert_array_equal(data.validation.targets, np.arange(25, 30) % 10)
    np.testing.assert_array_equal(data.test.targets, np.arange(12) % 10)
    assert data.train.inputs.dtype == np.uint8
    assert data.train.targets.dtype == np.int32
    assert (data.name, data.classes, data.mean.shape) == ("mnist", 10, (1,))


@pytest.mark.parametrize("name", contents())
def test_a_missing_file_is_refused(tmp_path, name):
    folder(tmp_path, {name: None})
    with refused(tmp_path / name, "missing", "in its folder mnist", "yann.lecun.com"):
        mnist.load(tmp_path)


@pytest.mark.parametrize("name", contents())
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused(tmp_path, name, zipped):
    full = contents()[name]
    path = write(folder(tmp_path) / name, full)
    for end in {0, 3, 4, 7, 8, 15, len(full) - 1} & set(range(len(full))):
        write(path, full[:end], zipped=zipped)
        with refused(path, "IDX" if end < 16 and "images" in name else "must", "MNIST"):
            mnist.load(tmp_path)


def test_a_header_with_another_count_is_refused(tmp_path):
    name = "train-images-idx3-ubyte"
    folder(tmp_path, {name: contents()[name] + b"\0"})
    with refused(tmp_path / name, "23520 bytes", "(30, 28, 28)", "got 23521"):
        mnist.load(tmp_path)


def test_a_header_with_a_huge_shape_needs_no_memory(tmp_path):
    name = "train-images-idx3-ubyte"
    raw = contents()[name]
    folder(tmp_path, {name: raw[:4] + b"\xff" * 12 + raw[16:]})
    with refused(tmp_path / name, "(4294967295, 4294967295, 4294967295)"):
        mnist.load(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [b"<!DOCTYPE html>\n<html>", idx(np.arange(30)), idx(pictures(30, 28, 28), magic=0xD03)],
    ids=["a web page", "labels", "floats"],
)
def test_another_magic_number_is_refused(tmp_path, raw):
    name = "train-images-idx3-ubyte"
    folder(tmp_path, {name: raw})
    with refused(tmp_path / name, "magic number 2051", repr(raw[:4])):
        mnist.load(tmp_path)


def test_a_different_number_of_labels_is_refused(tmp_path):
    name = "t10k-labels-idx1-ubyte"
    folder(tmp_path, {name: idx(np.arange(11) % 10)})
    with refused(tmp_path / name, "12 images of t10k-images-idx3-ubyte", "got 11"):
        mnist.load(tmp_path)


def test_a_label_out_of_range_is_refused(tmp_path):
    name = "train-labels-idx1-ubyte"
    folder(tmp_path, {name: idx(np.where(np.arange(30) == 7, 10, 1))})
    with refused(tmp_path / name, "[0, 9]", "got 10", "position 7"):
        mnist.load(tmp_path)


def test_images_of_another_size_are_refused(tmp_path):
    name = "train-images-idx3-ubyte"
    folder(tmp_path, {name: idx(pictures(30, 28, 27))})
    with refused(tmp_path / name, "(n, 28, 28)", "(30, 28, 27)"):
        mnist.load(tmp_path)


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_images_are_refused(tmp_path, count):
    changed = {
        "train-images-idx3-ubyte": idx(pictures(count, 28, 28)),
        "train-labels-idx1-ubyte": idx(np.zeros(count)),
    }
    folder(tmp_path, changed)
    with refused(tmp_path / "train-images-idx3-ubyte", "at least"):
        mnist.load(tmp_path)


@pytest.fixture(scope="module")
def real_mnist():
    return mnist.load(real("mnist"))


def test_the_real_parts_have_their_published_sizes_and_counts(real_mnist):
    assert [len(part.targets) for part in real_mnist[1:4]] == [50_000, 10_000, 10_000]
    train = np.concatenate([real_mnist.train.targets, real_mnist.validation.targets])
    published = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train).tolist() == published
    published = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(real_mnist.test.targets).tolist() == published
    assert train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_the_real_images_have_the_published_scale(real_mnist):
    # The published 0.1307 and 0.3081 are for all 60,000 training images in [0, 1].
    pixels = np.concatenate([real_mnist.train.inputs, real_mnist.validation.inputs]) / np.float32(
        255
    )
    assert round(float(pixels.mean(dtype=np.float64)), 4) == 0.1307
    assert round(float(pixels.std(dtype=np.float64)), 4) == 0.3081
    train = real_mnist.train.inputs
    np.testing.assert_allclose(real_mnist.mean, [train.mean(dtype=np.float64)], rtol=1e-6)
    np.testing.assert_allclose(real_mnist.std, [train.std(dtype=np.float64)], rtol=1e-6)
