"""Text as tokens, in three consecutive parts.

The text is divided by characters before it is encoded, so that all tokenizers get the same three
texts. The vocabulary of a character tokenizer has all characters of the whole text, as in published
character models. Byte pairs are trained on the training part only.
"""

import os
import platform
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import numpy as np

from experiments.data import files
from experiments.data.dataset import parts_in_order
from experiments.data.files import DataError, File
from experiments.data.tokenizer import KINDS, BytePairs, Bytes, Characters, Tokenizer

_TINYSHAKESPEARE = "tiny Shakespeare (A. Karpathy's char-rnn, data/tinyshakespeare; public domain)"
_WAR_AND_PEACE = (
    "War and Peace (L. Tolstoy, in English; the char-RNN corpus of A. Karpathy, J. Johnson, "
    "L. Fei-Fei, 2016, or Project Gutenberg; public domain)"
)


class Corpus(NamedTuple):
    """A text as tokens.

    Attributes:
      name: the corpus's name.
      train: tokens of the beginning of the text, uint16[n], or i32[n] for vocabularies of more
        than 65,536 tokens.
      validation: tokens of the middle part.
      test: tokens of the end.
      tokenizer: the tokenizer that encoded the text.
      source: a citation and a license, in one line.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    tokenizer: Tokenizer
    source: str


class Options(TypedDict, total=False):
    """Options for dividing and encoding a text. See `from_text` for details and defaults."""

    tokenizer: str | Tokenizer
    vocabulary_size: int
    validation: float
    test: float


def python_topics(**options: Unpack[Options]) -> Corpus:
    """Loads Python's help topics: about 460,000 characters of technical English.

    The text belongs to the running Python and differs slightly between versions; `source` names the
    version.

    Args:
      **options: how to divide and encode the text, see `from_text`.

    Raises:
      DataError: this Python does not include the topics.
      ValueError: an option is out of range.

    Source: the Python documentation (PSF license), as bundled in `pydoc_data.topics`.

    Example:
      >>> corpus = python_topics()
      >>> corpus.tokenizer.decode(corpus.train[:22])
      'The "assert" statement'
    """
    version = platform.python_version()
    source = f"Python {version}, standard library (the documentation's topics; PSF license)"
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(f"pydoc_data.topics: missing; get it from {source}") from error
    text = "\n\n".join(topics[topic] for topic in sorted(topics))
    return from_text("python_topics", text, source, **options)


def tinyshakespeare(
    data_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
) -> Corpus:
    """Loads 40,000 lines of Shakespeare's plays, from `tinyshakespeare.txt` or `.txt.gz`.

    The text has 1,115,394 characters, 65 of them distinct. nanoGPT's division of 90 to 10 is
    `validation=0.1, test=0.0`.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.
      **options: how to divide and encode the text, see `from_text`.

    Raises:
      DataError: the file is missing or is not text.
      ValueError: an option is out of range.
    """
    file = files.find(data_dir, "tinyshakespeare.txt", _TINYSHAKESPEARE)
    return _encoded("tinyshakespeare", file, file.text(), **options)


def war_and_peace(
    data_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
) -> Corpus:
    """Loads War and Peace in English, from `war_and_peace.txt` or `.txt.gz`.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.
      **options: how to divide and encode the text, see `from_text`.

    Raises:
      DataError: the file is missing or is not text.
      ValueError: an option is out of range.
    """
    file = files.find(data_dir, "war_and_peace.txt", _WAR_AND_PEACE)
    return _encoded("war_and_peace", file, file.text(), **options)


def from_file(path: str | os.PathLike[str], **options: Unpack[Options]) -> Corpus:
    """Loads a UTF-8 text file, gzipped or not.

    Args:
      path: the file; the corpus is named after it.
      **options: how to divide and encode the text, see `from_text`.

    Raises:
      DataError: the file is missing or is not text.
      ValueError: an option is out of range.
    """
    path = Path(path).expanduser()
    file = File(path)
    corpus = _encoded(path.name.split(".")[0], file, file.text(), **options)
    return corpus._replace(source=f"the text file {path.name}")


def from_text(name: str, text: str, source: str, **options: Unpack[Options]) -> Corpus:
    """Divides a text into three parts and encodes them.

    Args:
      name: the corpus's name.
      text: the text.
      source: a citation and a license, in one line.
      **options: `tokenizer`, a tokenizer or its kind ("character", the default, "byte" or
        "byte_pair"); `vocabulary_size`, for "byte_pair" only, 1,024 by default; `validation` and
        `test`, shares of the characters in [0, 1), 0.05 by default.

    Raises:
      DataError: the text is empty, or too short for three parts, or the tokenizer cannot
        encode it.
      ImportError: byte pairs are requested, and the package `tokenizers` is missing.
      ValueError: an option is out of range.

    Example:
      >>> corpus = from_text("abc", "abc" * 100, "made up", test=0.1)
      >>> [len(part) for part in (corpus.train, corpus.validation, corpus.test)]
      [255, 15, 30]
    """
    return _encoded(name, File(Path(name), source), text, **options)


def _encoded(
    name: str,
    file: File,
    text: str,
    *,
    tokenizer: str | Tokenizer = "character",
    vocabulary_size: int | None = None,
    validation: float = 0.05,
    test: float = 0.05,
) -> Corpus:
    slices = parts_in_order(len(text), validation, test)
    if not text:
        raise file.error("must hold some text, but is empty")
    parts = [text[part] for part in slices]
    shares = (1, validation, test)
    if any(share and not part for share, part in zip(shares, parts, strict=True)):
        raise file.error(f"must hold enough text for three parts, got {len(text)} characters")
    encoder = _tokenizer(tokenizer, vocabulary_size, text, parts[0])
    try:
        train, middle, last = (encoder.encode(part) for part in parts)
    except ValueError as error:
        raise file.error(f"must be text that the tokenizer can express, but {error}") from error
    return Corpus(name, train, middle, last, encoder, file.source)


def _tokenizer(
    wanted: str | Tokenizer, vocabulary_size: int | None, text: str, train: str
) -> Tokenizer:
    if vocabulary_size is not None and wanted != "byte_pair":
        raise ValueError(
            f"vocabulary_size must be left out unless tokenizer is 'byte_pair', "
            f"got {vocabulary_size!r}"
        )
    match wanted:
        case "character":
            return Characters.of(text)
        case "byte":
            return Bytes()
        case "byte_pair":
            return BytePairs.trained_on(train, 1024 if vocabulary_size is None else vocabulary_size)
        case str():
            raise ValueError(f"tokenizer must be one of {', '.join(KINDS)}, got {wanted!r}")
    return wanted
