"""Properties of tokenizers: round trips, ranges and JSON."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data.tokenizer import BytePairs, Bytes, Characters, from_dict

TRAINING = "the theme of these themes is the thesis; Größe… ĠĠ <|endoftext|>\n\n\tend " * 20
TOKENIZERS = {
    "character": Characters.of(TRAINING),
    "byte": Bytes(),
    "byte_pair": BytePairs.trained_on(TRAINING, 300),
}
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)
any_text = pytest.mark.parametrize("name", ["byte", "byte_pair"])


@st.composite
def alphabets_with_texts(draw):
    alphabet = draw(st.lists(st.characters(), min_size=1, unique=True))
    return "".join(alphabet), draw(st.text(st.sampled_from(alphabet)))


@given(alphabets_with_texts())
def test_character_round_trip(drawn):
    alphabet, text = drawn
    tokenizer = Characters.of(alphabet)
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert len(tokens) == len(text)
    assert tokenizer.vocabulary_size == len(alphabet)


@any_text
@given(st.text() | st.text(st.sampled_from(TRAINING + " \r\n\t\0\u2028é'")))
def test_round_trip_of_any_text(name, text):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokens.dtype == np.uint16
    assert (tokens < tokenizer.vocabulary_size).all()


@any_text
@given(data=st.data())
def test_any_tokens_decode_to_some_text(name, data):
    """A model can generate any tokens, such as half a character."""
    tokenizer = TOKENIZERS[name]
    tokens = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1)))
    assert isinstance(tokenizer.decode(tokens), str)


@any_text
@given(st.text() | st.text(st.sampled_from(TRAINING + " \r\n\t\0\u2028é'😀")))
def test_the_lengths_of_tokens_add_up_to_the_length_of_the_text(name, text):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.lengths[tokenizer.encode(text)].sum() == len(text)


def test_lengths_of_characters_and_bytes():
    assert TOKENIZERS["character"].lengths.tolist() == [1] * TOKENIZERS["character"].vocabulary_size
    assert Bytes().lengths[[0, 0x7F, 0x80, 0xBF, 0xC0, 0xFF]].tolist() == [1, 1, 0, 0, 1, 1]


def test_half_a_character_becomes_the_replacement_character():
    assert Bytes().decode([97, 195]) == "a\ufffd"
    pairs = TOKENIZERS["byte_pair"]
    tokens = pairs.encode("\u0fff")
    assert pairs.decode(tokens[:-1]).strip("\ufffd") == ""


@every_tokenizer
def test_an_empty_text_has_no_tokens(name):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.encode("")
    assert tokens.shape == (0,)
    assert tokens.dtype == np.uint16
    assert tokenizer.decode(tokens) == tokenizer.decode([]) == ""


@every_tokenizer
@pytest.mark.parametrize("kind", [list, np.int64, jnp.asarray])
def test_tokens_can_be_lists_and_arrays(name, kind):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.encode("these themes")
    assert tokenizer.decode(kind(tokens)) == "these themes"


@every_tokenizer
@pytest.mark.parametrize("beyond", [0, 7])
def test_a_token_out_of_range_is_refused(name, beyond):
    tokenizer = TOKENIZERS[name]
    size = tokenizer.vocabulary_size
    for wrong in (-1, size + beyond):
        with pytest.raises(ValueError, match=rf"in \[0, {size - 1}\], got {wrong} at position 1"):
            tokenizer.decode([0, wrong, 0])


@every_tokenizer
@pytest.mark.parametrize("tokens", [[0.0, 1.0], [[0, 1]], ["a"], [True]])
def test_other_values_than_tokens_are_refused(name, tokens):
    with pytest.raises(ValueError, match="tokens must be integers"):
        TOKENIZERS[name].decode(tokens)


@pytest.mark.parametrize(
    ("text", "position"), [("zone", 0), ("one z", 4), ("a\U0001f600", 1), ("on\0", 2)]
)
def test_an_unknown_character_is_named_with_its_position(text, position):
    tokenizer = Characters.of("a one")
    with pytest.raises(ValueError, match=f"at position {position}$") as caught:
        tokenizer.encode(text)
    assert repr(text[position]) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_lone_surrogate_is_a_character_but_has_no_bytes():
    tokenizer = Characters.of("a\ud800")
    assert tokenizer.decode(tokenizer.encode("\ud800a")) == "\ud800a"
    for name in ("byte", "byte_pair"):
        with pytest.raises(ValueError, match="surrogate"):
            TOKENIZERS[name].encode("a\ud800")
    with pytest.raises(ValueError, match="surrogate"):
        BytePairs.trained_on("a\ud800", 300)


@pytest.mark.parametrize("characters", ["", "ba", "aa"])
def test_characters_must_be_sorted_and_unique(characters):
    with pytest.raises(ValueError, match="sorted and unique"):
        Characters(characters)


def test_characters_of_an_empty_text_are_refused():
    with pytest.raises(ValueError, match="one or more"):
        Characters.of("")


def test_a_vocabulary_beyond_16_bits_has_wider_tokens():
    text = "".join(map(chr, range(0x10000, 0x10000 + 2**16 + 1)))
    assert Characters.of(text[:-1]).encode(text[:2]).dtype == np.uint16
    wide = Characters.of(text)
    assert wide.encode(text).dtype == np.int32
    assert wide.decode(wide.encode(text)) == text


def test_bytes_are_utf8():
    text = "né\U0001f600"
    assert bytes(Bytes().encode(text).tolist()) == text.encode()


def test_byte_pairs_merge_the_most_frequent_pair_first():
    pairs = BytePairs.trained_on("abab cdcd abab abab", 258)
    assert pairs.vocabulary_size == 258
    assert [pairs.decode([token]) for token in (256, 257)] == ["ab", "abab"]
    assert pairs.encode("ababab").tolist() == [257, 256]


def test_byte_pairs_compress_their_training_text():
    pairs = TOKENIZERS["byte_pair"]
    assert len(pairs.encode(TRAINING)) < 0.6 * len(TRAINING.encode())


def test_a_short_text_gives_fewer_tokens_than_requested():
    assert BytePairs.trained_on("ab", 1000).vocabulary_size == 257
    assert BytePairs.trained_on("", 1000).vocabulary_size == 256


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(ValueError, match=r"vocabulary_size must be in \[256, inf\), got 255"):
        BytePairs.trained_on("ab", 255)


def test_training_is_deterministic_across_processes():
    program = (
        "from experiments.data.tokenizer import BytePairs;"
        "print(BytePairs.trained_on('the theme of these themes is the thesis' * 9, 280).definition)"
    )
    trained = BytePairs.trained_on("the theme of these themes is the thesis" * 9, 280)
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)  # noqa: S603
    assert there.stdout.decode().strip() == trained.definition


@every_tokenizer
def test_json_preserves_a_tokenizer(name):
    tokenizer = TOKENIZERS[name]
    again = from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again == tokenizer
    assert again.to_dict() == tokenizer.to_dict()
    text = "these themes"
    np.testing.assert_array_equal(again.encode(text), tokenizer.encode(text))
    assert again.decode(tokenizer.encode(text)) == text


def test_different_tokenizers_are_not_equal():
    assert Characters.of("ab") != Characters.of("abc")
    assert BytePairs.trained_on("abab", 258) != BytePairs.trained_on("cdcd", 258)


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"kind": "word"},
        {"kind": "character"},
        {"kind": "character", "characters": ["a"]},
        {"kind": "byte_pair", "definition": "{}"},
        None,
    ],
)
def test_an_invalid_description_is_refused(saved):
    with pytest.raises(ValueError, match="a result of a tokenizer's to_dict"):
        from_dict(saved)


def test_an_invalid_definition_of_byte_pairs_is_refused():
    with pytest.raises(ValueError, match="definition must be JSON of the package tokenizers"):
        from_dict({"kind": "byte_pair", "definition": {"model": "none"}})


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxdescent\[text\]'$"):
        BytePairs.trained_on("ab", 300)
    with pytest.raises(ImportError, match=r"pip install 'jaxdescent\[text\]'$"):
        from_dict(TOKENIZERS["byte_pair"].to_dict())
    assert Characters.of("ab").decode([1]) == "b"
