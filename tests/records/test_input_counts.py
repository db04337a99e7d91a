"""What a manifest says of its input: read as it was written, and refused where it contradicts itself."""

import pytest

from algpt2.records.input_counts import ExcludedFile, Exclusion, MixtureInput
from algpt2.records.manifest import Manifest, Shard, Split, parse_manifest

MIXTURE = (MixtureInput(("books/",), 1.5, 2, 3), MixtureInput(("a", "b"), 0.25, 9, 0))
EXCLUSION = Exclusion(13, (ExcludedFile("wiki.test.raw", "0" * 64),), 5)


def manifest(**fields):
    train = Split(3, 10, 8, 4, 4, (Shard("train", 1, 10, "0" * 8, 4),))
    val = Split(0, 0, 0, 0, 0, ())
    return Manifest(4, 300, 299, "0" * 64, 0, 0.0, train, val, **fields)


def test_a_mixture_and_an_exclusion_are_read_as_they_were_written():
    written = manifest(mixture=MIXTURE, exclusion=EXCLUSION)
    assert parse_manifest(written.to_json().encode()) == written


def test_a_mixture_of_other_documents_than_the_splits_have_is_refused():
    with pytest.raises(ValueError, match="its mixture has 2 taken_documents, and its splits have 3"):
        manifest(mixture=(MixtureInput(("books/",), 1.5, 2, 2),))


@pytest.mark.parametrize(
    ("weight", "documents", "taken"),
    [(0.0, 1, 0), (float("nan"), 1, 1), (float("inf"), 1, 1), (1.5, 2, 5), (1.0, 2, -1)],
)
def test_no_input_has_such_counts(weight, documents, taken):
    with pytest.raises(ValueError, match="an input of its mixture has the weight"):
        MixtureInput(("a",), weight, documents, taken)


def test_no_exclusion_has_such_values():
    with pytest.raises(ValueError, match="0 ngram_words"):
        Exclusion(0, (), 1)
    with pytest.raises(ValueError, match="-1 documents"):
        Exclusion(13, (), -1)
    with pytest.raises(ValueError, match="not 64 hexadecimal digits"):
        ExcludedFile("a", "abc")
