"""MNIST from its four IDX files: 60,000 + 10,000 handwritten digits of 28 x 28 pixels.

An IDX file is a big-endian header (two zero bytes, a type, the number of axes, then the
length of each axis as four bytes) and the entries, the last axis fastest.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to
document recognition", Proc. IEEE 86(11), 1998.
"""

import math
import os

import numpy as np

from experiments.data import files, images
from experiments.data.dataset import Dataset, Split
from experiments.data.files import File

SOURCE = "MNIST (Y. LeCun, C. Cortes, C. J. C. Burges; yann.lecun.com/exdb/mnist; CC BY-SA 3.0)"
_IMAGES_MAGIC, _LABELS_MAGIC = 0x803, 0x801


def load(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads MNIST, with the last sixth of the training images (10,000 of 60,000) as validation.

    Images are uint8[n, 28, 28, 1] from 0 to 255, labels i32[n] from 0 to 9. The files are
    `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`, gzipped or not, in the folder or in its subfolder `mnist`.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.

    Raises:
      DataError: a file is missing or invalid.
    """
    train, test = (_part(data_dir, part) for part in ("train", "t10k"))
    held_out = len(train.targets) // 6
    if not held_out:
        file = files.find(data_dir, "train-images-idx3-ubyte", SOURCE, subfolder="mnist")
        raise file.error(f"must hold at least 6 images, got {len(train.targets)}")
    parts = (
        images.select(train, slice(None, -held_out)),
        images.select(train, slice(-held_out, None)),
        test,
    )
    return Dataset.from_parts("mnist", parts, 10, SOURCE)


def _part(data_dir: str | os.PathLike[str] | None, part: str) -> Split:
    images_file, labels_file = (
        files.find(data_dir, f"{part}-{kind}-ubyte", SOURCE, subfolder="mnist")
        for kind in ("images-idx3", "labels-idx1")
    )
    return images.labeled(
        images_file,
        _idx(images_file, _IMAGES_MAGIC, axes=3),
        _idx(labels_file, _LABELS_MAGIC, axes=1),
        shapes=[(28, 28)],
        classes=10,
        labels_file=labels_file,
    )


def _idx(file: File, magic: int, axes: int) -> np.ndarray:
    """Reads the bytes of an IDX file in the shape of its header."""
    raw = file.contents()
    if raw[:4] != magic.to_bytes(4, "big"):
        raise file.error(
            f"must be an IDX file that starts with the magic number {magic}, got {raw[:4]!r}"
        )
    start = 4 + 4 * axes
    if len(raw) < start:
        raise file.error(f"must have an IDX header of {start} bytes, but ends after {len(raw)}")
    shape = tuple(int(length) for length in np.frombuffer(raw, ">u4", axes, offset=4))
    expected, held = math.prod(shape), len(raw) - start
    if held != expected:
        raise file.error(
            f"must hold the {expected} bytes of its header's shape {shape}, got {held}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
