"""Finding and reading data files; every failure is one line that says what to do.

Such a line names the file, says what was expected of it, and where the data set is to be
had. A file may be gzipped or not whatever its name says: browsers unpack some on the way.
"""

import csv
import gzip
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

VARIABLE = "JAXDESCENT_DATA"


class DataError(ValueError):
    """Data that is missing or not what it should be, told in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class File(NamedTuple):
    """A file of a data set, on disk or bundled with a package.

    Attributes:
      path: where it is, or what it is called.
      source: where the data set comes from: a citation and a license.
    """

    path: Path
    source: str

    def error(self, problem: str) -> DataError:
        """The error that says what is wrong with this file."""
        return DataError(f"{self.path}: {problem}; get it from {self.source}")

    def contents(self) -> bytes:
        """The bytes, gunzipped if they were gzipped.

        Raises:
          DataError: the file cannot be read, or is a gzip that ends early or is damaged.
        """
        try:
            raw = self.path.read_bytes()
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror or reason(error)}") from error
        if not raw.startswith(b"\x1f\x8b"):
            return raw
        try:
            return gzip.decompress(raw)
        except EOFError as error:
            raise self.error("must be a whole gzip file, but it ends early") from error
        except (OSError, zlib.error) as error:
            raise self.error(
                f"must be a whole gzip file, but it is damaged: {reason(error)}"
            ) from error

    def text(self) -> str:
        r"""The text, as Python's `open` reads it: any line end becomes `\n`.

        A byte order mark at the start is no part of the text.

        Raises:
          DataError: as for `contents`, or the bytes are not UTF-8.
        """
        raw = self.contents()
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = raw[error.start]
            raise self.error(
                f"must be UTF-8 text, got the byte 0x{byte:02x} at offset {error.start}"
            ) from error
        return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows of a CSV file that are not blank, each with its line number, from 1.

        Raises:
          DataError: as for `text`, or the file is not CSV.
        """
        reader = csv.reader(io.StringIO(self.text()))
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise self.error(f"line {reader.line_num} must be CSV, but {reason(error)}") from error

    def number(self, line: int, text: str) -> float:
        """The finite number that a field of a line holds.

        Raises:
          DataError: it holds none.
        """
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"line {line} must hold finite numbers, got {text!r}")
        return value

    def arrays(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """The named arrays of an npz archive; no pickled objects are ever loaded.

        Raises:
          DataError: the file cannot be read, is not an npz archive, or lacks a key.
        """
        raw = self.contents()
        # The directory of a zip file is its end.
        if not zipfile.is_zipfile(io.BytesIO(raw)):
            raise self.error("must be an npz archive; it is not one, or it ends early")
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
                held = archive.files
                arrays = {key: archive[key] for key in keys if key in held}
        # A damaged archive fails in zipfile, zlib or NumPy's own header, each in its own way.
        except Exception as error:
            raise self.error(
                f"must be a whole npz archive of arrays, but {reason(error)}"
            ) from error
        if len(arrays) < len(keys):
            raise self.error(
                f"must hold the arrays {', '.join(keys)}; it holds {', '.join(held) or 'none'}"
            )
        return arrays


def reason(error: Exception) -> str:
    """What an exception says, or its name if it says nothing."""
    return str(error) or type(error).__name__


def folder(data_dir: str | os.PathLike[str] | None, wanted: str, source: str) -> Path:
    """The folder of data files: the one given, or the environment's `JAXDESCENT_DATA`.

    Args:
      data_dir: a folder, or None for the environment's.
      wanted: what will be looked for, for the message.
      source: where that is to be had, for the message.

    Raises:
      DataError: neither is given, or it is no folder.
    """
    given = data_dir if data_dir is not None else os.environ.get(VARIABLE)
    if not given:
        raise DataError(
            f"{wanted}: no folder to look in; give --data-dir or set {VARIABLE} to a folder "
            f"that holds it; get it from {source}"
        )
    path = Path(given).expanduser()
    if not path.is_dir():
        raise DataError(
            f"{path}: must be a folder that holds {wanted}, but is "
            f"{'a file' if path.exists() else 'missing'}; get it from {source}"
        )
    return path


def find(
    data_dir: str | os.PathLike[str] | None, name: str, source: str, *, subfolder: str = ""
) -> File:
    """The named file, or the same with `.gz`, in the folder or in its subfolder.

    Args:
      data_dir: a folder, or None for the environment's `JAXDESCENT_DATA`.
      name: the file's usual name.
      source: where it is to be had: a citation and a license.
      subfolder: where it may be instead; looked into first.

    Raises:
      DataError: there is no such folder or file.
    """
    base = folder(data_dir, name, source)
    places = [base / subfolder, base] if subfolder else [base]
    for place in places:
        for path in (place / name, place / f"{name}.gz"):
            if path.exists():
                return File(path, source)
    also = f" or in its folder {subfolder}" if subfolder else ""
    raise DataError(
        f"{base / name}: missing, expected here{also}, plain or with .gz; get it from {source}"
    )
