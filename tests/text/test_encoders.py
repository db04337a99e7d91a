"""A faster encoder gives the tokenizer's ids, or is refused."""

import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algpt2.errors import UserError
from algpt2.text import encoders
from algpt2.text.encoders import MOST_CHECKED_CHARACTERS, create_encoder
from algpt2.text.tokenizer import Tokenizer

TRAINED_ON = [f"the cat sat on the mat {n} \u00e9\u00e8 \u65e5\u672c\u8a9e don't they'll\n\n\tx" for n in range(50)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TRAINED_ON, 400)


@pytest.fixture(scope="module")
def gigatoken(tokenizer):
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    return create_encoder("gigatoken", tokenizer)


def require_the_same(encoder, tokenizer, texts):
    ids, lengths = encoder.encode_arrays(texts)
    expected_ids, expected_lengths = tokenizer.encode_arrays(texts)
    np.testing.assert_array_equal(lengths, expected_lengths)
    np.testing.assert_array_equal(ids, expected_ids)
    assert (ids.dtype, lengths.dtype) == (expected_ids.dtype, expected_lengths.dtype)


@given(texts=st.lists(st.text(max_size=30) | st.sampled_from([*TRAINED_ON, "<|endoftext|>", " <|endoftext|>x"])))
def test_ids_of_any_texts_are_the_tokenizers(gigatoken, tokenizer, texts):
    require_the_same(gigatoken, tokenizer, texts)


def test_characters_that_the_pattern_tells_apart_are_told_apart_alike(gigatoken, tokenizer):
    """Catches another version of Unicode: letters, digits and spaces of one may be other signs in the next."""
    named = [chr(point) for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point))[0] in "LNZM"]
    # Ideographs are letters in every version.
    checked = [sign for sign in named if not "\u3400" <= sign <= "\ud7ff" and sign < "\U00020000"]
    assert len(checked) > 20_000
    require_the_same(gigatoken, tokenizer, [f"a{sign}1 {sign}.{sign}" for sign in checked])


class WrongOn:
    """An encoder's library that loses a character of some texts."""

    def __init__(self, library, is_wrong):
        self._library = library
        self._is_wrong = is_wrong

    def encode_batch(self, texts, parallel):
        found = [text[1:] if self._is_wrong(text) else text for text in texts]
        return self._library.encode_batch(found, parallel=parallel)


@pytest.mark.parametrize("is_wrong", [lambda text: "\u0300" in text, lambda text: text == "a text"])
def test_other_ids_are_refused_with_the_text(tokenizer, monkeypatch, is_wrong):
    """At the start, by a text of all kinds of characters, and later by a text of the run."""
    library = pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    right = library.Tokenizer.from_json
    monkeypatch.setattr(library.Tokenizer, "from_json", lambda content: WrongOn(right(content), is_wrong))
    with pytest.raises(UserError, match=r"gives others for the text '.*: use --encoder tokenizers"):
        create_encoder("gigatoken", tokenizer).encode_arrays(["a text", "b"])


def test_a_missing_package_is_a_sentence(tokenizer, monkeypatch):
    monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package .* run `pip install 'algpt2\[gigatoken\]'`"):
        create_encoder("gigatoken", tokenizer)


def test_of_a_long_text_the_beginning_is_compared(gigatoken, tokenizer):
    text = TRAINED_ON[0] * 2000
    assert len(text) > MOST_CHECKED_CHARACTERS
    require_the_same(gigatoken, tokenizer, [text])


def test_an_encoder_that_is_made_anew_gives_the_same_ids(gigatoken, tokenizer, monkeypatch):
    monkeypatch.setattr(encoders, "MOST_REMEMBERED_CHARACTERS", 100)
    for _ in range(4):
        require_the_same(gigatoken, tokenizer, TRAINED_ON[:5])
