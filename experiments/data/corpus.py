"""Text as tokens, in three parts that follow one another.

The text is divided by characters before it is encoded, so that every tokenizer sees the same
three texts. A tokenizer by characters knows those of the whole text, as published character
models do; byte pairs are trained on the training part alone.
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
      name: what the text is called.
      train: uint16[n], or i32[n] for more than 65,536 tokens; the start of the text.
      validation: what follows.
      test: the end of the text.
      tokenizer: what made the tokens and reads them.
      source: a citation and a license, in one line.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    tokenizer: Tokenizer
    source: str


class Options(TypedDict, total=False):
    """How a text is divided and encoded; `from_text` says more and has the defaults."""

    tokenizer: str | Tokenizer
    vocabulary_size: int
    validation: float
    test: float


def python_topics(**options: Unpack[Options]) -> Corpus:
    """Python's own help topics: about 460,000 characters of technical English.

    The text is that of the running Python, so it changes a little from one version to the
    next; `source` tells the version.

    Args:
      **options: how the text is divided and encoded, see `from_text`.

    Raises:
      DataError: this Python comes without the topics.
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
    """40,000 lines of Shakespeare's plays, from `tinyshakespeare.txt` or `.txt.gz`.

    1,115,394 characters, 65 of them different. nanoGPT divides them 90 to 10, which is
    `validation=0.1, test=0.0` here.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.
      **options: how the text is divided and encoded, see `from_text`.

    Raises:
      DataError: the file is missing or is not text.
      ValueError: an option is out of range.
    """
    file = files.find(data_dir, "tinyshakespeare.txt", _TINYSHAKESPEARE)
    return _encoded("tinyshakespeare", file, file.text(), **options)


def war_and_peace(
    data_dir: str | os.PathLike[str] | None = None, **options: Unpack[Options]
) -> Corpus:
    """War and Peace in English, from `war_and_peace.txt` or `.txt.gz`.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.
      **options: how the text is divided and encoded, see `from_text`.

    Raises:
      DataError: the file is missing or is not text.
      ValueError: an option is out of range.
    """
    file = files.find(data_dir, "war_and_peace.txt", _WAR_AND_PEACE)
    return _encoded("war_and_peace", file, file.text(), **options)


def from_file(path: str | os.PathLike[str], **options: Unpack[Options]) -> Corpus:
    """Any text file in UTF-8, gzipped or not.

    Args:
      path: the file; the corpus is named after it.
      **options: how the text is divided and encoded, see `from_text`.

    Raises:
      DataError: the file is missing or is not text.
      ValueError: an option is out of range.
    """
    path = Path(path).expanduser()
    file = File(path, "wherever this text is from; any UTF-8 text will do")
    corpus = _encoded(path.name.split(".")[0], file, file.text(), **options)
    return corpus._replace(source=f"the text file {path.name}")


def from_text(name: str, text: str, source: str, **options: Unpack[Options]) -> Corpus:
    """A text in three parts, encoded.

    Args:
      name: what it is called.
      text: what is divided.
      source: a citation and a license, in one line.
      **options: `tokenizer`, a kind ("character", the default, "byte" or "byte_pair") or a
        tokenizer; `vocabulary_size`, for "byte_pair" alone, 1,024 if left out;
        `validation` and `test`, shares of the characters in [0, 1), 0.05 if left out.

    Raises:
      DataError: the text is empty, or so short that a part would be, or the tokenizer
        cannot express it.
      ImportError: byte pairs are wanted, and the package `tokenizers` is missing.
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
    known = _tokenizer(tokenizer, vocabulary_size, text, parts[0])
    try:
        train, middle, last = (known.encode(part) for part in parts)
    except ValueError as error:
        raise file.error(f"must be text that the tokenizer can express, but {error}") from error
    return Corpus(name, train, middle, last, known, file.source)


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
