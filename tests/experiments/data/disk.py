"""Helpers for tests of data: writing files and checking errors."""

import contextlib
import gzip
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from experiments.data import DataError

BESIDE = Path(__file__).parents[4] / "shared" / "data"
REAL = Path(os.environ.get("JAXDESCENT_DATA") or BESIDE)


def real(name):
    """Returns the folder of real data, or skips the test and names the missing file."""
    if not (REAL / name).exists():
        pytest.skip(f"{name} is missing: set JAXDESCENT_DATA to a folder that holds it")
    return REAL


@contextlib.contextmanager
def refused(path, *words, own=False):
    """Expects a one-line error that names the file and its source, and contains the words.

    A user's own file has no source.
    """
    with pytest.raises(DataError) as caught:
        yield
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{path}: "), message
    assert ("get it from" in message) == (not own)
    for word in words:
        assert word in message, (word, message)


def write(path, contents, *, zipped=False):
    """Writes bytes or text and returns the path."""
    raw = contents.encode() if isinstance(contents, str) else contents
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    return path


def idx(array, magic=None):
    """Returns the bytes of an IDX file."""
    magic = 0x800 + array.ndim if magic is None else magic
    header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def npz(**arrays):
    """Returns the bytes of an npz archive."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def pictures(count, *shape, seed=0):
    """Returns random images in bytes."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
