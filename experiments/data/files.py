"""Finding and reading data files, with error messages of one line.

A message names the file, what was expected, and where to get the data set. Files may be gzipped
regardless of their name, because some browsers unpack downloads.
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
from typing import Any, NamedTuple

import numpy as np

VARIABLE = "JAXDESCENT_DATA"


class DataError(ValueError):
    """Data is missing or invalid. The message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class File(NamedTuple):
    """A file of a data set, on disk or bundled with a package.

    Attributes:
      path: the file's path, or its name.
      source: the data set's source: a citation and a license; "" for a user's own file.
    """

    path: Path
    source: str = ""

    def error(self, problem: str) -> DataError:
        """Creates an error that describes a problem with this file."""
        advice = f"; get it from {self.source}" if self.source else ""
        return DataError(f"{self.path}: {problem}{advice}")

    def contents(self) -> bytes:
        """Returns the bytes, decompressed if they are gzipped.

        Raises:
          DataError: the file cannot be read, or is a truncated or damaged gzip file.
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
        r"""Returns the text with line ends `\n`, without a byte order mark at the start.

        Raises:
          DataError: as for `contents`, or the bytes are not UTF-8.
        """
        raw = self.contents()
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = raw[error.start]
            advice = "" if self.source else "; save it as UTF-8"
            raise self.error(
                f"must be UTF-8 text, got the byte 0x{byte:02x} at offset {error.start}{advice}"
            ) from error
        return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")

    def rows(self, delimiters: str = ",") -> Iterator[tuple[int, list[str]]]:
        """Yields the non-blank rows of a CSV file with their line numbers, from 1.

        Args:
          delimiters: characters that may separate cells, of which a file uses the one with the
            most cells in its first line.

        Raises:
          DataError: as for `text`, or the file is not CSV.
        """
        text = self.text()
        first_line = text.lstrip("\n").partition("\n")[0]
        cells = [len(next(csv.reader([first_line], delimiter=each), ())) for each in delimiters]
        delimiter = delimiters[int(np.argmax(cells))]
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise self.error(f"line {reader.line_num} must be CSV, but {reason(error)}") from error

    def number(self, line: int, text: str) -> float:
        """Converts a field of a line to a finite number.

        Raises:
          DataError: the field is not a finite number.
        """
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"line {line} must hold finite numbers, got {text!r}")
        return value

    def arrays(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns named arrays of an npz archive, without unpickling objects.

        Raises:
          DataError: the file cannot be read, is not an npz archive, or lacks a key.
        """
        arrays, held = self._archive(keys)
        if len(arrays) < len(keys):
            raise self.error(
                f"must hold the arrays {', '.join(keys)}; it holds {', '.join(held) or 'none'}"
            )
        return arrays

    def keys(self) -> set[str]:
        """Returns the names of the arrays in an npz archive; raises as `arrays` does."""
        return {*self._archive(())[1]}

    def _archive(self, keys: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
        """Returns the named arrays that an npz archive has, and the names of all its arrays."""
        raw = self.contents()
        # The directory of a zip file is at its end.
        if not zipfile.is_zipfile(io.BytesIO(raw)):
            raise self.error("must be an npz archive; it is not one, or it ends early")
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
                held = archive.files
                return {key: self._array(archive, key) for key in keys if key in held}, held
        except DataError:
            raise
        # A damaged archive can raise exceptions of zipfile, zlib or NumPy.
        except Exception as error:
            raise self.error(
                f"must be a whole npz archive of arrays, but {reason(error)}"
            ) from error

    def _array(self, archive: Any, key: str) -> np.ndarray:
        try:
            return archive[key]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise self.error(
                f"{key} must hold numbers or texts, got objects; convert it with astype(float) or "
                "astype(str)"
            ) from error


def reason(error: Exception) -> str:
    """Returns an exception's message, or its type's name if there is no message."""
    return str(error) or type(error).__name__


def has_folder(data_dir: str | os.PathLike[str] | None) -> bool:
    """True if a folder of data files is given, as `data_dir` or in `JAXDESCENT_DATA`."""
    return data_dir is not None or bool(os.environ.get(VARIABLE))


def folder(data_dir: str | os.PathLike[str] | None, wanted: str, source: str) -> Path:
    """Returns the folder of data files: `data_dir`, or the environment's `JAXDESCENT_DATA`.

    Args:
      data_dir: a folder, or None for the environment's.
      wanted: the name of the data, for error messages.
      source: the source of the data, for error messages.

    Raises:
      DataError: neither is given, or the path is not a folder.
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
    """Finds a file, or the same with `.gz`, in a folder or in its subfolder.

    Args:
      data_dir: a folder, or None for the environment's `JAXDESCENT_DATA`.
      name: the file's usual name.
      source: the file's source: a citation and a license.
      subfolder: a subfolder that is searched first.

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
