"""Nearly equal documents left out: compared with the exact similarity of every pair, which is counted anew here."""

import dataclasses
import itertools
import json
import re
from collections import Counter

import numpy as np
import pytest
from saved_tokenizer import save_tokenizer

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import near_duplicates, plan, signature_files
from algpt2.preparation.document_keys import content_digest, is_held_out
from algpt2.preparation.mixture import Input
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.records.manifest import read_manifest
from algpt2.text import signatures

pytest.importorskip("rensa", reason="rensa is not installed")

THRESHOLD, VERY_NEAR, FAR = 0.8, 0.93, 0.65
OPTIONS = RecordOptions(seq_len=16, num_shards=3, val_fraction=0.3, deduplicate=True, near_duplicates=THRESHOLD)
WORDS = [f"word{n}" for n in range(400)]
RANDOM = np.random.default_rng(0)


def written(words):
    return " ".join(words)


def with_changed_words(words, count):
    """Returns the words, of which so many are others."""
    changed = list(words)
    for place in RANDOM.choice(len(words), count, replace=False):
        changed[place] = f"new{RANDOM.integers(10**9)}"
    return changed


ORIGINALS = [[*RANDOM.choice(WORDS, RANDOM.integers(120, 300))] for _ in range(80)]
NEAR = [[*words[:-1], "other"] for words in ORIGINALS[:40]]
FURTHER = [with_changed_words(words, len(words) // 4) for words in ORIGINALS[30:70]]
# A fifth of them are the same words, written in another way; some are there twice; some have few words, or none.
SAME_WORDS = [f"({written(words).upper()})!" for words in ORIGINALS[60:75]]
FAMILY = [written([*ORIGINALS[79], f"member{n}"]) for n in range(60)]
OTHERS = ["", "?", "!", "one two three", "One, two... three?", "one two", "a b c d e", "a b c d f"]
DOCUMENTS = [*map(written, ORIGINALS + NEAR + FURTHER), *SAME_WORDS, *FAMILY, *OTHERS, *map(written, NEAR[:9])]
DOCUMENTS = [DOCUMENTS[place] for place in RANDOM.permutation(len(DOCUMENTS))]


def ngrams_of(text):
    words = re.findall(r"[^\W_]+", text.lower())
    return {tuple(words[first : first + 5]) for first in range(max(1, len(words) - 4))} if words else set()


def similarities(texts):
    """Yields the exact Jaccard similarity of every two distinct texts that have a word, the one that stays first."""
    unique = sorted(set(texts), key=lambda text: (not held_out(text), content_digest(text.encode())))
    sets = [(text, found) for text in unique if (found := ngrams_of(text))]
    for (text, found), (other, of_other) in itertools.combinations(sets, 2):
        yield text, other, len(found & of_other) / len(found | of_other)


def held_out(text):
    return is_held_out(content_digest(text.encode()), OPTIONS.val_fraction)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory, [" ".join(WORDS)])


@pytest.fixture(autouse=True)
def many_pieces_files_and_bins(monkeypatch):
    """So that nearly equal documents lie in different files, and their bands in many bins and ranges of them."""
    for module, name, value in (
        (plan, "LEAST_PIECE_BYTES", 20_000),
        (plan, "BIN_BYTES", 40_000),
        (signature_files, "FILE_DOCUMENTS", 16),
        (near_duplicates, "PAIRS_AT_ONCE", 128),
    ):
        monkeypatch.setattr(module, name, value)


def write_lines(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return str(path)


def left_out(path, documents):
    """Returns the texts that a list of removed documents has for a reason."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {}
    for line in lines:
        found.setdefault(line["reason"], []).append(documents[line["document"] - 1])
    return found


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".tfrecord")}


def make(tokenizer, folder, documents, options, **arguments):
    folder.mkdir()
    inputs = arguments.pop("inputs", None) or [write_lines(folder / "documents.jsonl", documents)]
    options = dataclasses.replace(options, removed_documents=str(folder / "removed.jsonl"))
    make_tfrecords(inputs, tokenizer, str(folder / "data"), options, **arguments)
    return read_manifest(str(folder / "data")), left_out(folder / "removed.jsonl", documents)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("near") / "made"
    return folder, *make(tokenizer, folder, DOCUMENTS, OPTIONS)


def test_very_near_documents_are_left_out_for_one_that_comes_first_and_far_ones_are_not(made):
    """Held-out documents come first. Catches hashes of words that differ, bands that miss, and another order."""
    _, manifest, reasons = made
    nearest, very_near = {}, set()
    for _, later, similarity in similarities(DOCUMENTS):
        nearest[later] = max(similarity, nearest.get(later, 0))
        if similarity >= VERY_NEAR:
            very_near.add(later)
    found = set(reasons["near-duplicate"])
    assert len(very_near) > 100
    assert very_near <= found
    assert found <= {text for text, similarity in nearest.items() if similarity > FAR}
    assert len(found) == len(reasons["near-duplicate"])
    assert manifest.train.near_duplicate_documents + manifest.val.near_duplicate_documents == len(found)
    assert manifest.val.near_duplicate_documents == sum(map(held_out, found)) > 5
    assert manifest.train.duplicate_documents + manifest.val.duplicate_documents == 9 == len(reasons["duplicate"])


def test_of_a_held_out_document_and_one_of_training_the_first_stays(made):
    _, _, reasons = made
    found = set(reasons["near-duplicate"])
    pairs = [(words, near) for words, near in zip(map(written, ORIGINALS), map(written, NEAR), strict=False)]
    across = [pair for pair in pairs if held_out(pair[0]) != held_out(pair[1])]
    assert len(across) > 5
    for pair in across:
        val, train = sorted(pair, key=held_out, reverse=True)
        assert (val in found, train in found) == (False, True)


def test_records_are_those_of_a_corpus_that_never_had_what_is_left_out(tmp_path, tokenizer, made):
    folder, manifest, reasons = made
    found = set(reasons["near-duplicate"])
    kept = [text for text in DOCUMENTS if text not in found]
    without, _ = make(tokenizer, tmp_path / "without", kept, dataclasses.replace(OPTIONS, near_duplicates=None))
    assert shards(folder / "data") == shards(tmp_path / "without" / "data")
    for split, expected in ((manifest.train, without.train), (manifest.val, without.val)):
        assert expected.near_duplicate_documents is None
        assert split.documents == expected.documents
        assert split.text_bytes == expected.text_bytes


def test_another_seed_leaves_out_the_same_documents(tmp_path, tokenizer, made):
    _, reasons = make(tokenizer, tmp_path / "seed", DOCUMENTS, dataclasses.replace(OPTIONS, seed=1))
    assert Counter(reasons["near-duplicate"]) == Counter(made[2]["near-duplicate"])


def test_processes_parts_and_a_stop_in_between_change_no_byte(tmp_path, tokenizer, made, monkeypatch):
    folder, _, _ = made
    options = dataclasses.replace(OPTIONS, removed_documents=str(folder / "removed.jsonl"))
    listed = (folder / "removed.jsonl").read_bytes()
    (folder / "removed.jsonl").unlink()
    inputs, output = [str(folder / "documents.jsonl")], str(tmp_path / "parts")
    for index in (1, 0):
        encode_part(inputs, tokenizer, output, options, 1, Part(index, 2))
    calls = []

    def stopped(self, number, find=near_duplicates.Comparison.left_out):
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return find(self, number)

    with monkeypatch.context() as stopping:
        stopping.setattr(near_duplicates.Comparison, "left_out", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_tfrecords(inputs, tokenizer, output, options, merge=True)
    make_tfrecords(inputs, tokenizer, output, options, num_workers=2, merge=True)
    assert contents(tmp_path / "parts") == contents(folder / "data")
    assert (folder / "removed.jsonl").read_bytes() == listed


def test_all_copies_of_a_mixture_are_left_out_and_weights_apply_to_the_rest(tmp_path, tokenizer, made):
    found = set(made[2]["near-duplicate"])
    files = {name: tmp_path / f"{name}.jsonl" for name in ("all-1", "all-2", "kept-1", "kept-2")}
    for number, half in ((1, DOCUMENTS[:150]), (2, DOCUMENTS[150:])):
        write_lines(files[f"all-{number}"], half)
        write_lines(files[f"kept-{number}"], [text for text in half if text not in found])
    manifests = {}
    for kind, options in (("all", OPTIONS), ("kept", dataclasses.replace(OPTIONS, near_duplicates=None))):
        inputs = [Input((str(files[f"{kind}-{number}"]),), weight) for number, weight in ((1, 2.5), (2, 0.5))]
        make_tfrecords(inputs, tokenizer, str(tmp_path / kind), options)
        manifests[kind] = read_manifest(str(tmp_path / kind))
    assert shards(tmp_path / "all") == shards(tmp_path / "kept")
    taken = [[one.taken_documents for one in manifests[kind].mixture] for kind in ("all", "kept")]
    assert taken[0] == taken[1]
    splits = manifests["all"].train, manifests["all"].val
    assert sum(split.near_duplicate_documents for split in splits) == len(found)


class PairsInOneBand:
    """Stands in for a file of signatures: documents that all have one band in common, and are equal in pairs."""

    def __init__(self, documents):
        self._documents = np.zeros(documents, signature_files.SIGNED_DTYPE)
        numbers = np.arange(documents)
        self._documents["digest"][:, 0] = numbers
        self._documents["signature"] = numbers[:, None] // 2

    def bands_of_bin(self, number):
        rows = np.arange(len(self._documents))
        return np.full(len(rows), 7, np.uint64), rows

    def documents(self, rows, field):
        return self._documents[field][rows]


@pytest.mark.parametrize(("compared", "expected"), [(4, [1, 3]), (64, [*range(1, 50, 2)])])
def test_where_many_have_a_band_in_common_each_is_compared_with_the_first_of_them(monkeypatch, compared, expected):
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", compared)
    comparison = near_duplicates.Comparison([PairsInOneBand(50)], THRESHOLD)
    assert comparison.left_out(0)[:, 0].tolist() == expected


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_similarity_is_refused(threshold):
    with pytest.raises(UserError, match=r"near_duplicates must be in \(0, 1\], received"):
        dataclasses.replace(OPTIONS, near_duplicates=threshold)


def test_nearly_equal_documents_stay_where_equal_ones_do():
    with pytest.raises(UserError, match="near_duplicates needs --deduplicate"):
        dataclasses.replace(OPTIONS, deduplicate=False)


def test_other_signatures_than_those_of_the_known_version_are_refused(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(signatures, "EXPECTED_SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"signatures of rensa 0\.5.* others: run `pip install 'algpt2\[near\]'`"):
        make(tokenizer, tmp_path / "other", DOCUMENTS, OPTIONS)
    assert not (tmp_path / "other" / "data").exists()


def test_a_missing_package_is_a_sentence(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(signatures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package rensa.* run `pip install 'algpt2\[near\]'`"):
        make(tokenizer, tmp_path / "missing", DOCUMENTS, OPTIONS)
    assert not (tmp_path / "missing" / "data").exists()
