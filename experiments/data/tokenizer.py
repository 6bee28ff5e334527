"""Tokenizers for characters, bytes and byte pairs.

`decode(encode(text)) == text` for every tokenizer: for characters if the vocabulary has all of
them, for bytes and byte pairs always. Byte pairs start with the 256 bytes and repeatedly merge the
most frequent pair of the training text.

Source: R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with
Subword Units", ACL 2016; over bytes: A. Radford et al., "Language Models are Unsupervised
Multitask Learners", 2019.

All three are in one file because they share a protocol and `from_dict`.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from jaxdescent.extras import MissingPackageError


class Tokenizer(Protocol):
    """Protocol of tokenizers."""

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens; they are numbered from 0."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """i64[vocabulary_size], the number of characters that begin in each token.

        The lengths of a text's tokens add up to the length of the text.
        """
        ...

    def encode(self, text: str) -> np.ndarray:
        """Encodes a text: uint16[n], or i32[n] for vocabularies of more than 65,536 tokens.

        Raises:
          ValueError: the text has a character that the tokenizer cannot encode.
        """
        ...

    def decode(self, tokens: Any) -> str:
        """Decodes tokens, integers [n].

        Raises:
          ValueError: a token is out of range.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-compatible description, the argument of `from_dict`."""
        ...


@dataclasses.dataclass(frozen=True)
class Characters:
    """A tokenizer with one token per character (Unicode code point), in order.

    Example:
      >>> tokenizer = Characters.of("hello")
      >>> tokenizer.characters, tokenizer.encode("hole").tolist()
      ('ehlo', [1, 3, 2, 0])
      >>> tokenizer.decode([1, 0, 2, 2, 3])
      'hello'
    """

    characters: str
    """The characters of the vocabulary, each once, sorted by code point."""

    def __post_init__(self) -> None:
        if not self.characters or list(self.characters) != sorted(set(self.characters)):
            raise ValueError(
                "characters must be one or more, sorted and unique, "
                f"got {_shortened(self.characters)}"
            )

    @classmethod
    def of(cls, text: str) -> "Characters":
        """Creates a tokenizer for the characters of a text.

        Raises:
          ValueError: the text is empty.
        """
        return cls("".join(sorted(set(text))))

    @property
    def vocabulary_size(self) -> int:
        """The number of characters in the vocabulary."""
        return len(self.characters)

    @property
    def lengths(self) -> np.ndarray:
        """i64[vocabulary_size], ones."""
        return np.ones(self.vocabulary_size, np.int64)

    @cached_property
    def _known(self) -> np.ndarray:
        return _code_points(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """Encodes a text of known characters.

        Raises:
          ValueError: a character is unknown; the message names it and its position.
        """
        points = _code_points(text)
        tokens = np.searchsorted(self._known, points).clip(max=self.vocabulary_size - 1)
        unknown = np.flatnonzero(self._known[tokens] != points)
        if unknown.size:
            at = int(unknown[0])
            raise ValueError(
                f"text must be made of the {self.vocabulary_size} known characters, "
                f"got {text[at]!r} (U+{ord(text[at]):04X}) at position {at}"
            )
        return tokens.astype(_dtype(self.vocabulary_size))

    def decode(self, tokens: Any) -> str:
        """Decodes tokens.

        Raises:
          ValueError: a token is out of range.
        """
        points = self._known[_checked(tokens, self.vocabulary_size)]
        return points.tobytes().decode("utf-32-le", "surrogatepass")

    def to_dict(self) -> dict[str, Any]:
        """Returns the argument of `from_dict`."""
        return {"kind": "character", "characters": self.characters}


@dataclasses.dataclass(frozen=True)
class Bytes:
    """A tokenizer with one token per byte of the UTF-8 text.

    Any bytes can be decoded: invalid UTF-8, which a model may generate, becomes U+FFFD.

    Example:
      >>> Bytes().encode("né").tolist(), Bytes().decode([110, 195, 169])
      ([110, 195, 169], 'né')
    """

    @property
    def vocabulary_size(self) -> int:
        """The number of bytes, 256."""
        return 256

    @property
    def lengths(self) -> np.ndarray:
        """i64[256], 0 for the bytes that continue a character, else 1."""
        return _begins(np.arange(256)).astype(np.int64)

    def encode(self, text: str) -> np.ndarray:
        """Encodes a text as its bytes.

        Raises:
          ValueError: the text has a lone surrogate, which UTF-8 cannot express.
        """
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.uint16)

    def decode(self, tokens: Any) -> str:
        """Decodes bytes.

        Raises:
          ValueError: a token is out of range.
        """
        tokens = _checked(tokens, 256).astype(np.uint8)
        return tokens.tobytes().decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """Returns the argument of `from_dict`."""
        return {"kind": "byte"}


@dataclasses.dataclass(frozen=True)
class BytePairs:
    """A tokenizer with one token per byte, and one per pair that training merged.

    Needs the package `tokenizers`: `pip install 'jaxdescent[text]'`. Merges do not cross the
    borders of GPT-2's pattern for words, numbers, punctuation and white space. Any tokens can be
    decoded: invalid UTF-8 becomes U+FFFD.

    Example:
      >>> tokenizer = BytePairs.trained_on("abab", vocabulary_size=258)
      >>> tokenizer.encode("ababab").tolist()
      [257, 256]
      >>> tokenizer.decode(tokenizer.encode("Ça alors"))
      'Ça alors'
    """

    definition: str
    """The tokenizer in the JSON of the package `tokenizers`."""

    def __post_init__(self) -> None:
        # An invalid definition raises now rather than at the first use.
        _ = self._tokenizer

    @classmethod
    def trained_on(cls, text: str, vocabulary_size: int) -> "BytePairs":
        """Trains a tokenizer on a text.

        Args:
          text: the text to count pairs in.
          vocabulary_size: the largest number of tokens, 256 or more; a short text gives fewer.

        Raises:
          ImportError: the package `tokenizers` is missing.
          ValueError: the size is below 256, or the text has a lone surrogate.
        """
        if vocabulary_size < 256:
            raise ValueError(
                f"vocabulary_size must be in [256, inf), got {vocabulary_size!r}; "
                "each byte has a token"
            )
        package = _package()
        text.encode("utf-8")
        byte_level = package.pre_tokenizers.ByteLevel
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
        tokenizer.decoder = package.decoders.ByteLevel()
        trainer = package.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            initial_alphabet=sorted(byte_level.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator([text], trainer)
        return cls(json.dumps(json.loads(tokenizer.to_str())))

    @cached_property
    def _tokenizer(self) -> Any:
        package = _package()
        # The package raises a bare Exception for an invalid definition.
        try:
            return package.Tokenizer.from_str(self.definition)
        except Exception as error:
            raise ValueError(
                f"definition must be JSON of the package tokenizers, got "
                f"{_shortened(self.definition)}: {error}"
            ) from error

    @cached_property
    def vocabulary_size(self) -> int:
        """256 plus the number of merged pairs."""
        return self._tokenizer.get_vocab_size()

    @property
    def lengths(self) -> np.ndarray:
        """i64[vocabulary_size], the number of characters that begin in each token."""
        begins = set(np.array(_symbols_of_bytes())[_begins(np.arange(256))].tolist())
        names = map(self._tokenizer.id_to_token, range(self.vocabulary_size))
        return np.array([sum(symbol in begins for symbol in name) for name in names], np.int64)

    def encode(self, text: str) -> np.ndarray:
        """Encodes a text.

        Raises:
          ValueError: the text has a lone surrogate, which UTF-8 cannot express.
        """
        text.encode("utf-8")
        return np.array(self._tokenizer.encode(text).ids, _dtype(self.vocabulary_size))

    def decode(self, tokens: Any) -> str:
        """Decodes tokens.

        Raises:
          ValueError: a token is out of range.
        """
        tokens = _checked(tokens, self.vocabulary_size)
        return self._tokenizer.decode(tokens.tolist(), skip_special_tokens=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns the argument of `from_dict`."""
        return {"kind": "byte_pair", "definition": json.loads(self.definition)}


KINDS = ("character", "byte", "byte_pair")


def from_dict(saved: Mapping[str, Any]) -> Tokenizer:
    """Creates a tokenizer from the result of its `to_dict`.

    Raises:
      ImportError: the tokenizer is of byte pairs, and the package `tokenizers` is missing.
      ValueError: `saved` does not describe a tokenizer.

    Example:
      >>> from_dict(Characters.of("abc").to_dict())
      Characters(characters='abc')
    """
    match saved:
        case {"kind": "character", "characters": str(characters)}:
            return Characters(characters)
        case {"kind": "byte"}:
            return Bytes()
        case {"kind": "byte_pair", "definition": dict(definition)}:
            return BytePairs(json.dumps(definition))
    raise ValueError(
        f"saved must be a result of a tokenizer's to_dict, of kind {', '.join(KINDS)}, "
        f"got {_shortened(saved)}"
    )


def _package() -> Any:
    """Imports Hugging Face's `tokenizers`, an optional package."""
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "byte pairs need the package tokenizers: pip install 'jaxdescent[text]'"
        ) from error
    return tokenizers


def _begins(bytes_: np.ndarray) -> np.ndarray:
    """Returns True for the bytes with which a character of UTF-8 begins."""
    return (bytes_ & 0b1100_0000) != 0b1000_0000


def _symbols_of_bytes() -> list[str]:
    """Returns the printable symbol of each byte in the names of byte pairs, as in GPT-2."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _dtype(vocabulary_size: int) -> type[np.integer]:
    return np.uint16 if vocabulary_size <= 2**16 else np.int32


def _checked(tokens: Any, vocabulary_size: int) -> np.ndarray:
    """Converts tokens to an array and checks their range; negative tokens are refused."""
    array = np.asarray(tokens)
    if not array.size:
        return np.zeros(0, np.int32)
    if not np.issubdtype(array.dtype, np.integer) or array.ndim != 1:
        raise ValueError(
            f"tokens must be integers of shape (n,), got {array.dtype} of shape {array.shape}"
        )
    wrong = np.flatnonzero((array < 0) | (array >= vocabulary_size))
    if wrong.size:
        raise ValueError(
            f"tokens must be in [0, {vocabulary_size - 1}], got {array[wrong[0]]} "
            f"at position {wrong[0]}"
        )
    return array


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
