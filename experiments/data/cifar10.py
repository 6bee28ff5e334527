"""CIFAR-10: 50,000 + 10,000 color images of 32 x 32 pixels in ten classes.

Read from the official Python batches, or from an npz archive with `train_images`,
`train_labels`, `test_images` and `test_labels`. The batches are pickles, which can run any code.
This unpickler creates only NumPy arrays and built-in containers.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import io
import os
import pickle
from typing import Any

import numpy as np

from experiments.data import files, images
from experiments.data.dataset import Dataset, Split
from experiments.data.files import File

SOURCE = "CIFAR-10 (A. Krizhevsky, 2009; www.cs.toronto.edu/~kriz/cifar.html)"
_FOLDER = "cifar-10-batches-py"
_SHAPE = (32, 32, 3)


def load(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads CIFAR-10, with the last tenth of each class's training images as validation.

    Images are uint8[n, 32, 32, 3] from 0 to 255 (red, green, blue), labels i32[n] from 0 to
    9; 45,000, 5,000 and 10,000 of them. The files are `data_batch_1` to `data_batch_5` and
    `test_batch`, in the folder or in its subfolder `cifar-10-batches-py` (as unpacked from
    `cifar-10-python.tar.gz`), or else `cifar10.npz`.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.

    Raises:
      DataError: a file is missing or invalid, or a batch contains other objects than arrays and
        containers.
    """
    base = files.folder(data_dir, _FOLDER, SOURCE)
    if not any((place / "data_batch_1").exists() for place in (base / _FOLDER, base)):
        if (base / "cifar10.npz").exists():
            return _from_npz(base, "cifar10")
        missing = "missing, expected this folder of batches, or cifar10.npz beside it"
        raise File(base / _FOLDER, SOURCE).error(missing)
    names = [f"data_batch_{number}" for number in range(1, 6)]
    found = [files.find(base, name, SOURCE, subfolder=_FOLDER) for name in (*names, "test_batch")]
    *train, test = [_batch(file) for file in found]
    joined = Split(*(np.concatenate(arrays) for arrays in zip(*train, strict=True)))
    return _divided("cifar10", found[0], joined, test)


def load_subset(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a subset of CIFAR-10 from `cifar10_subset.npz`, divided like `load`.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.

    Raises:
      DataError: the file is missing or invalid.
    """
    return _from_npz(data_dir, "cifar10_subset")


def _from_npz(data_dir: str | os.PathLike[str] | None, name: str) -> Dataset:
    file = files.find(data_dir, f"{name}.npz", SOURCE)
    keys = [f"{part}_{kind}" for part in ("train", "test") for kind in ("images", "labels")]
    arrays = file.arrays(keys)
    train, test = (
        images.labeled(
            file,
            arrays[f"{part}_images"],
            arrays[f"{part}_labels"],
            shapes=[_SHAPE],
            classes=10,
            part=part,
        )
        for part in ("train", "test")
    )
    return _divided(name, file, train, test)


def _divided(name: str, file: File, train: Split, test: Split) -> Dataset:
    held_out = images.last_of_each_class(train.targets, 10)
    if not held_out.any():
        raise file.error("must hold at least 10 training images of some class")
    parts = images.select(train, ~held_out), images.select(train, held_out), test
    return Dataset.from_parts(name, parts, 10, SOURCE)


class _NumpyOnly(pickle.Unpickler):
    """Unpickles arrays and built-in containers, and refuses all other objects.

    A pickle could try to modify the returned callables. Two of them are immutable built-ins of
    NumPy, and the third is created for each call.
    """

    def find_class(self, module_name: str, global_name: str) -> Any:
        match module_name, global_name:
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return np.zeros(1).__reduce__()[0]
            case "numpy", "dtype":
                # The official pickles have integer flags; some versions of NumPy warn about them.
                return lambda name, *flags: np.dtype(name, *map(bool, flags))
        message = f"it asks for {module_name}.{global_name}, which is not allowed"
        raise pickle.UnpicklingError(message)


def _batch(file: File) -> Split:
    """Reads a batch: bytes [n, 3072], one channel after another, and a list of labels."""
    raw = file.contents()
    try:
        batch = _NumpyOnly(io.BytesIO(raw), encoding="bytes").load()
    # For invalid bytes, the unpickler can raise almost any exception.
    except Exception as error:
        raise file.error(
            f"must be a CIFAR-10 batch, a pickle of arrays and containers, but "
            f"{files.reason(error)}"
        ) from error
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise file.error("must be a pickled dict with the keys b'data' and b'labels'")
    data, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(data, np.ndarray) or data.shape[1:] != (3072,):
        raise file.error("b'data' must be an array of shape (n, 3072)")
    try:
        labels = np.asarray(labels)
    except ValueError as error:
        raise file.error("b'labels' must be a list of integers") from error
    pixels = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images.labeled(file, pixels, labels, shapes=[_SHAPE], classes=10)
