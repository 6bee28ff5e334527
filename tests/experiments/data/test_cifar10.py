"""CIFAR-10 from Python batches and from npz: synthetic, broken and real files."""

import os
import pickle
import struct
from functools import partial

import numpy as np
import pytest

from experiments.data import cifar10
from tests.experiments.data.disk import npz, pictures, real, refused, write

BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
LABELS = [label for label in range(10) for _ in range(4)]


def planes(images):
    """Returns pixels in the official layout: all red, then all green, then all blue values."""
    return np.stack([image.transpose(2, 0, 1).ravel() for image in images])


def batch(data, labels, protocol=4):
    return pickle.dumps({b"data": data, b"labels": labels}, protocol)


def python_2_batch(data, labels, align=0):
    """Returns a batch in the opcodes of the official files, which were written by Python 2."""

    def text(raw):
        return b"U" + bytes([len(raw)]) + raw  # SHORT_BINSTRING

    def long_text(raw):
        return b"T" + struct.pack("<I", len(raw)) + raw  # BINSTRING

    def whole(number):
        return b"J" + struct.pack("<i", number)  # BININT

    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n"
    empty = reconstruct + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K" + bytes([align]) + b"K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + whole(-1) + whole(-1) + b"K\x00tb"
    shape = b"".join(map(whole, data.shape)) + b"\x86"
    state = b"(K\x01" + shape + dtype + b"\x89" + long_text(data.tobytes()) + b"tb"
    items = b"".join(b"K" + bytes([label]) for label in labels)
    listed = b"](" + items + b"e"
    return b"\x80\x02}(" + text(b"data") + empty + state + text(b"labels") + listed + b"u."


def folder(base, changed=None, *, subfolder="cifar-10-batches-py", made_by=batch):
    """Writes the six batches with changes; None omits a batch."""
    for seed, name in enumerate(BATCHES):
        raw = made_by(planes(pictures(40, 32, 32, 3, seed=seed)), LABELS)
        raw = (changed or {}).get(name, raw)
        if raw is not None:
            write(base / subfolder / name, raw)
    return base


@pytest.mark.parametrize("subfolder", ["cifar-10-batches-py", ""])
@pytest.mark.parametrize("made_by", [batch, python_2_batch, partial(python_2_batch, align=1)])
def test_batches_are_read(tmp_path, subfolder, made_by):
    data = cifar10.load(folder(tmp_path, subfolder=subfolder, made_by=made_by))
    train = np.concatenate([pictures(40, 32, 32, 3, seed=seed) for seed in range(5)])
    # Each class has twenty images, so the last two of the last batch are held out.
    held_out = np.zeros(200, bool)
    held_out[160:] = [i % 4 >= 2 for i in range(40)]
    np.testing.assert_array_equal(data.train.inputs, train[~held_out])
    np.testing.assert_array_equal(data.validation.inputs, train[held_out])
    np.testing.assert_array_equal(data.test.inputs, pictures(40, 32, 32, 3, seed=5))
    np.testing.assert_array_equal(data.train.targets, np.tile(LABELS, 5)[~held_out])
    np.testing.assert_array_equal(data.validation.targets, np.repeat(np.arange(10), 2))
    np.testing.assert_array_equal(data.test.targets, LABELS)
    assert data.train.inputs.flags.c_contiguous
    assert (data.name, data.classes, data.mean.shape) == ("cifar10", 10, (3,))


@pytest.mark.parametrize("protocol", [3, 4])
def test_batches_of_other_protocols_are_read(tmp_path, protocol):
    data = cifar10.load(folder(tmp_path, made_by=lambda *args: batch(*args, protocol)))
    np.testing.assert_array_equal(data.test.inputs, pictures(40, 32, 32, 3, seed=5))


@pytest.mark.parametrize("name", BATCHES[1:])
def test_a_missing_batch_is_refused(tmp_path, name):
    folder(tmp_path, {name: None})
    with refused(tmp_path / name, "missing", "cifar-10-batches-py", "cs.toronto.edu"):
        cifar10.load(tmp_path)


def test_a_folder_without_batches_is_refused(tmp_path):
    with refused(tmp_path / "cifar-10-batches-py", "missing", "cifar10.npz", "cs.toronto.edu"):
        cifar10.load(tmp_path)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_contains_code_is_refused_without_running_it(tmp_path):
    sprung = tmp_path / "sprung"
    for trap in (Trap(open, str(sprung), "w"), Trap(os.mkdir, str(sprung))):
        path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
        folder(tmp_path, {path.name: batch(trap, LABELS)})
        with refused(path, "which is not allowed"):
            cifar10.load(tmp_path)
        assert not sprung.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("os", "system"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.lib", "_reconstruct"),
    ],
)
def test_other_names_in_a_pickle_are_refused(tmp_path, module, name):
    raw = f"c{module}\n{name}\n.".encode()
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    folder(tmp_path, {path.name: raw})
    with refused(path, f"asks for {module}.{name}, which is not allowed"):
        cifar10.load(tmp_path)


def test_a_truncated_batch_is_refused(tmp_path):
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    whole = batch(planes(pictures(2, 32, 32, 3)), [1, 2])
    folder(tmp_path)
    for end in [*range(0, 200, 7), len(whole) // 2, len(whole) - 1]:
        write(path, whole[:end])
        with refused(path, "must be a CIFAR-10 batch"):
            cifar10.load(tmp_path)


DATA = planes(pictures(3, 32, 32, 3))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"<!DOCTYPE html>", ["pickle"]),
        (pickle.dumps([DATA]), ["b'data'", "b'labels'"]),
        (pickle.dumps({b"data": DATA}), ["b'labels'"]),
        (pickle.dumps({"data": DATA, "labels": [0, 1, 2]}), ["b'data'"]),
        (batch(DATA[:, 1:], [0, 1, 2]), ["(n, 3072)"]),
        (batch(DATA.astype(float), [0, 1, 2]), ["uint8"]),
        (batch(DATA.tolist(), [0, 1, 2]), ["must be an array", "(n, 3072)"]),
        (batch(DATA, [0, 1]), ["3 images", "got 2"]),
        (batch(DATA, [0, 1, 10]), ["[0, 9]", "got 10"]),
        (batch(DATA, [0, 1, -1]), ["[0, 9]", "got -1"]),
        (batch(DATA, [0, 1, "two"]), ["integers"]),
        (batch(DATA, [0, [1], 2]), ["list of integers"]),
        (batch(DATA[:0], []), ["at least one"]),
    ],
)
def test_an_invalid_batch_is_refused(tmp_path, raw, words):
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    folder(tmp_path, {path.name: raw})
    with refused(path, *words):
        cifar10.load(tmp_path)


def archive(**changed):
    arrays = {
        "train_images": pictures(200, 32, 32, 3, seed=1),
        "train_labels": np.tile(np.arange(10), 20).astype(np.uint8),
        "test_images": pictures(20, 32, 32, 3, seed=2),
        "test_labels": np.arange(20).astype(np.uint8) % 10,
        **changed,
    }
    return npz(**{key: array for key, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("name", "load"), [("cifar10", cifar10.load), ("cifar10_subset", cifar10.load_subset)]
)
def test_an_archive_is_read(tmp_path, name, load):
    write(tmp_path / f"{name}.npz", archive())
    data = load(tmp_path)
    images = pictures(200, 32, 32, 3, seed=1)
    np.testing.assert_array_equal(data.train.inputs, images[:180])
    np.testing.assert_array_equal(data.validation.inputs, images[180:])
    np.testing.assert_array_equal(data.test.inputs, pictures(20, 32, 32, 3, seed=2))
    np.testing.assert_array_equal(data.train.targets, np.tile(np.arange(10), 18))
    assert data.name == name


def test_batches_are_preferred_to_an_archive(tmp_path):
    write(folder(tmp_path) / "cifar10.npz", archive())
    assert len(cifar10.load(tmp_path).test.targets) == 40


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"test_labels": None}, ["test_labels", "it holds train_images"]),
        ({"train_images": pictures(200, 3, 32, 32)}, ["train images", "(200, 3, 32, 32)"]),
        ({"test_labels": np.arange(19) % 10}, ["test labels", "20 images", "got 19"]),
        ({"test_labels": np.full(20, 10)}, ["test labels", "[0, 9]", "got 10"]),
        ({"train_images": pictures(9, 32, 32, 3), "train_labels": np.zeros(9, int)}, ["10"]),
    ],
)
def test_an_invalid_archive_is_refused(tmp_path, changed, words):
    path = write(tmp_path / "cifar10_subset.npz", archive(**changed))
    with refused(path, *words):
        cifar10.load_subset(tmp_path)


def test_a_missing_archive_is_refused(tmp_path):
    with refused(tmp_path / "cifar10_subset.npz", "missing", "cs.toronto.edu"):
        cifar10.load_subset(tmp_path)


def test_the_real_subset_has_equally_many_images_per_class():
    data = cifar10.load_subset(real("cifar10_subset.npz"))
    counts = [np.bincount(part.targets).tolist() for part in data[1:4]]
    assert counts == [[450] * 10, [50] * 10, [100] * 10]
    # The published means of all 50,000 images in [0, 1]; the subset is a tenth of them.
    np.testing.assert_allclose(data.mean / 255, [0.4914, 0.4822, 0.4465], atol=0.01)
    np.testing.assert_allclose(data.std / 255, [0.2470, 0.2435, 0.2616], atol=0.01)


def test_real_batches_have_their_published_sizes_and_scale():
    data = cifar10.load(real("cifar-10-batches-py"))
    assert [len(part.targets) for part in data[1:4]] == [45_000, 5_000, 10_000]
    np.testing.assert_allclose(data.mean / 255, [0.4914, 0.4822, 0.4465], atol=0.002)
