"""Texts are encoded in three consecutive parts."""

import sys

import numpy as np
import pytest

from experiments.data import corpus
from experiments.data.tokenizer import Bytes, Characters
from tests.experiments.data.disk import real, refused, write

TEXT = "".join(f"line {number}: größer… as ever\n" for number in range(200))


def rejoined(text):
    return "".join(text.tokenizer.decode(part) for part in text[1:4])


@pytest.mark.parametrize("tokenizer", ["character", "byte", "byte_pair"])
def test_the_decoded_parts_are_the_text(tokenizer):
    text = corpus.from_text("x", TEXT, "made up", tokenizer=tokenizer)
    assert rejoined(text) == TEXT
    assert text.name == "x"
    assert text.source == "made up"


@pytest.mark.parametrize("tokenizer", ["character", "byte", "byte_pair"])
def test_the_division_does_not_depend_on_the_tokenizer(tokenizer):
    text = corpus.from_text("x", TEXT, "", tokenizer=tokenizer, validation=0.2, test=0.1)
    decoded = [text.tokenizer.decode(part) for part in text[1:4]]
    ends = len(TEXT) * 7 // 10, len(TEXT) * 9 // 10
    assert decoded == [TEXT[: ends[0]], TEXT[ends[0] : ends[1]], TEXT[ends[1] :]]


def test_a_share_of_0_gives_an_empty_part():
    text = corpus.from_text("x", TEXT, "", validation=0.1, test=0.0)
    assert len(text.test) == 0
    assert len(text.train) + len(text.validation) == len(TEXT)


def test_the_vocabulary_has_the_characters_of_the_whole_text():
    text = corpus.from_text("x", "a" * 99 + "b", "")
    assert text.tokenizer == Characters("ab")


def test_byte_pairs_are_trained_on_the_training_part_only():
    options = {"tokenizer": "byte_pair", "vocabulary_size": 257, "test": 0.65}
    text = corpus.from_text("x", "ab" * 60 + "cd" * 140, "", **options)
    assert text.tokenizer.decode([256]) == "ab"


def test_the_vocabulary_size_is_used_and_has_a_default():
    sizes = [
        corpus.from_text("x", TEXT, "", tokenizer="byte_pair", **options).tokenizer.vocabulary_size
        for options in ({"vocabulary_size": 270}, {})
    ]
    assert sizes[0] == 270 < sizes[1] <= 1024
    with pytest.raises(ValueError, match=r"vocabulary_size must be in \[256, inf\), got 0"):
        corpus.from_text("x", TEXT, "", tokenizer="byte_pair", vocabulary_size=0)


def test_a_tokenizer_can_be_given():
    given = Characters.of(TEXT + "§")
    assert corpus.from_text("x", TEXT, "", tokenizer=given).tokenizer is given


def test_a_text_with_unknown_characters_is_refused(tmp_path):
    path = write(tmp_path / "x.txt", TEXT)
    with refused(path, "'ö'", "position 10", own=True):
        corpus.from_file(path, tokenizer=Characters.of("line 0123456789:gr"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokenizer": "word"}, "tokenizer must be one of character, byte, byte_pair, got 'word'"),
        ({"vocabulary_size": 300}, "vocabulary_size must be left out"),
        ({"tokenizer": Bytes(), "vocabulary_size": 300}, "vocabulary_size must be left out"),
        ({"validation": 1.0}, "validation must be"),
        ({"test": -0.1}, "test must be"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        corpus.from_text("x", TEXT, "", **options)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_user_s_file_is_read(tmp_path, zipped):
    path = write(tmp_path / "mine.txt.gz", TEXT, zipped=zipped)
    text = corpus.from_file(path)
    assert rejoined(text) == TEXT
    assert text.name == "mine"
    assert text.source == "the text file mine.txt.gz"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", ["some text", "empty"]),
        (b"\xef\xbb\xbf", ["some text", "empty"]),
        (b"abc", ["three parts", "3 characters"]),
        (b"caf\xe9", ["UTF-8", "0xe9", "offset 3"]),
        (b"\x1f\x8b\x08", ["gzip", "ends early"]),
    ],
)
@pytest.mark.parametrize("name", ["tinyshakespeare", "war_and_peace"])
def test_files_that_are_not_text_are_refused(tmp_path, name, raw, words):
    path = write(tmp_path / f"{name}.txt", raw)
    with refused(path, *words, "public domain"):
        getattr(corpus, name)(tmp_path)


@pytest.mark.parametrize("name", ["tinyshakespeare", "war_and_peace"])
def test_a_missing_text_is_refused(tmp_path, name):
    with refused(tmp_path / f"{name}.txt", "missing", "public domain"):
        getattr(corpus, name)(tmp_path)
    path = tmp_path / "mine.txt"
    with refused(path, "No such file", own=True):
        corpus.from_file(path)


def test_an_empty_text_in_memory_is_refused():
    with refused("x", "some text"):
        corpus.from_text("x", "", "made up")


def test_the_topics_of_python_are_english():
    text = corpus.python_topics()
    whole = rejoined(text)
    assert len(whole) > 300_000
    assert whole.count(" the ") > 3_000
    assert "Python 3." in text.source


def test_a_python_without_topics_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with refused("pydoc_data.topics", "missing", "standard library"):
        corpus.python_topics()


def test_the_real_shakespeare_has_its_published_size_and_division():
    text = corpus.tinyshakespeare(real("tinyshakespeare.txt.gz"), validation=0.1, test=0.0)
    # nanoGPT's preparation script prints these numbers.
    assert (len(text.train), len(text.validation)) == (1_003_854, 111_540)
    assert len(text.train) + len(text.validation) == 1_115_394
    assert text.tokenizer.vocabulary_size == 65
    assert text.tokenizer.decode(text.train[:14]) == "First Citizen:"
    assert text.train.dtype == np.uint16


def test_byte_pairs_decode_to_the_real_shakespeare():
    folder = real("tinyshakespeare.txt.gz")
    text = corpus.tinyshakespeare(folder, tokenizer="byte_pair", vocabulary_size=512)
    characters = corpus.tinyshakespeare(folder)
    assert rejoined(text) == rejoined(characters)
    assert len(text.train) < 0.6 * len(characters.train)


def test_the_real_war_and_peace_has_its_lines():
    text = corpus.war_and_peace(real("war_and_peace.txt.gz"))
    whole = rejoined(text)
    assert len(whole) == 3_196_214
    assert whole.startswith(
        '"Well, Prince, so Genoa and Lucca are now just family estates of the\n'
    )
    assert whole.count("\n") == 62_016
