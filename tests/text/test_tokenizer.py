"""The tokenizer: exact for every text, the same for the same documents, and interchangeable with GPT-2's files."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED_DATA

from algpt2.errors import UserError
from algpt2.text.tokenizer import EOS_TOKEN, Tokenizer
from algpt2.text.tokenizer_training import train_tokenizer

OPENAI = SHARED_DATA / "gpt2-bpe"
WIKITEXT = SHARED_DATA / "wikitext-2-raw" / "wiki.test.raw"
DOCUMENTS = ["the cat sat on the mat", "the dog sat on the log \u00e9t\u00e9", EOS_TOKEN * 9] * 5
NAMES = ("tokenizer.json", "vocab.json", "merges.txt")

needs_openai = pytest.mark.skipif(not OPENAI.exists(), reason=f"GPT-2's tokenizer files are not at {OPENAI}")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(DOCUMENTS, 280)


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path))
    return tmp_path


def rewrite(path, change):
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_every_text_comes_back_exactly(tokenizer, texts):
    for text in [*texts, "".join(texts), EOS_TOKEN.join(texts)]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["", "\0", "a\r\nb\n", "  \t ", "\U0001f600\u200d\U0001f4bb", "\ufeffx", "e\u0301", "\u00a0"]
)
def test_texts_that_normalisers_change_come_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_end_of_text_token_has_the_last_id_and_training_reaches_the_size_asked_for(tokenizer):
    assert tokenizer.vocab_size == 280
    assert tokenizer.eos_id == 279
    assert tokenizer.decode([279]) == EOS_TOKEN


def test_training_learns_merges(tokenizer):
    assert len(tokenizer.encode("the cat sat on the mat")) < 14


def test_too_little_text_gives_a_smaller_vocabulary_with_the_end_of_text_token_last():
    small = Tokenizer.train(["ab ab"], 1000)
    assert small.vocab_size == 258
    assert small.eos_id == 257
    assert Tokenizer.train([""], 257).vocab_size == 257


def test_the_end_of_text_token_typed_in_a_document_is_ordinary_text(saved, tokenizer):
    for each in (tokenizer, Tokenizer.load(str(saved))):
        for ids in [each.encode(f"a{EOS_TOKEN}"), *each.encode_batch([EOS_TOKEN, f"x {EOS_TOKEN} y"])]:
            assert each.eos_id not in ids


def test_a_batch_gives_what_single_texts_give(tokenizer):
    texts = [*DOCUMENTS, "", "\n"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_decoding_replaces_bytes_that_are_no_text(tokenizer):
    first_byte = tokenizer.encode("\u00fc")[0]
    assert tokenizer.decode([first_byte]) == "\ufffd"
    assert tokenizer.decode(np.array(tokenizer.encode("ok"), dtype=np.int32)) == "ok"


@pytest.mark.parametrize("ids", [[280], [-1], [0, 10**6]])
def test_decoding_an_id_outside_the_vocabulary_fails(tokenizer, ids):
    with pytest.raises(ValueError, match="from 0 to 279"):
        tokenizer.decode(ids)


def test_a_lone_surrogate_cannot_be_encoded(tokenizer):
    with pytest.raises(UnicodeEncodeError):
        tokenizer.encode_batch(["ok", "\ud800"])


def test_token_byte_lengths_add_up_to_the_text(tokenizer):
    lengths = tokenizer.token_byte_lengths()
    assert lengths.shape == (280,)
    assert lengths.dtype == np.int32
    assert lengths[tokenizer.eos_id] == 0
    text = "the \u00e9t\u00e9 \U0001f600\r\n" + EOS_TOKEN
    assert lengths[tokenizer.encode(text)].sum() == len(text.encode())


def test_all_three_ways_to_load_give_the_same_tokenizer(saved, tokenizer):
    whole = Tokenizer.load(str(saved))
    (saved / "tokenizer.json").unlink()
    pair = Tokenizer.load(str(saved))
    (saved / "vocab.json").rename(saved / "encoder.json")
    (saved / "merges.txt").rename(saved / "vocab.bpe")
    openai = Tokenizer.load(str(saved))
    assert {whole.sha256, pair.sha256, openai.sha256} == {tokenizer.sha256}
    assert whole.encode(DOCUMENTS[0]) == pair.encode(DOCUMENTS[0]) == openai.encode(DOCUMENTS[0])


def test_the_hash_tells_tokenizers_apart(tokenizer):
    assert Tokenizer.train(DOCUMENTS, 279).sha256 != tokenizer.sha256


def test_the_saved_file_lists_the_end_of_text_token_as_special(saved, tokenizer):
    fields = json.loads((saved / "tokenizer.json").read_text())
    assert [(token["id"], token["content"], token["special"]) for token in fields["added_tokens"]] == [
        (tokenizer.eos_id, EOS_TOKEN, True)
    ]
    assert json.loads((saved / "vocab.json").read_text())[EOS_TOKEN] == tokenizer.eos_id
    assert (saved / "merges.txt").read_text().startswith("#version: 0.2\n")


def test_the_library_itself_reads_the_saved_file_alike(saved, tokenizer):
    library = tokenizers.Tokenizer.from_file(str(saved / "tokenizer.json"))
    assert library.encode(DOCUMENTS[1]).ids == tokenizer.encode(DOCUMENTS[1])
    assert library.get_vocab_size() == tokenizer.vocab_size


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(normalizer={"type": "NFC"}),
        lambda fields: fields["pre_tokenizer"].update(add_prefix_space=True),
        lambda fields: fields.update(pre_tokenizer=None),
        lambda fields: fields["model"].update(type="WordPiece"),
        lambda fields: fields.pop("model"),
        lambda fields: fields.update(added_tokens=[]),
        lambda fields: fields["added_tokens"].append({"id": 280, "content": "<pad>"}),
        lambda fields: fields["model"]["vocab"].pop("a"),
        lambda fields: fields["model"].update(merges=[["q", "z"]]),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(saved, change):
    rewrite(saved / "tokenizer.json", change)
    with pytest.raises(UserError):
        Tokenizer.load(str(saved))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda fields: fields.update(model=None), "its model is not an object"),
        (lambda fields: fields["model"].update(vocab=[1]), "its vocab is a list, not an object"),
        (lambda fields: fields["model"]["vocab"].update(a="x"), 'its vocab.a is "x", not a whole number'),
        (lambda fields: fields["model"].update(merges=None), "its merges is null, not a list"),
        (lambda fields: fields["model"].update(merges=[["a"]]), r"one of its merges is \['a'\], not two tokens"),
        (lambda fields: fields["model"].update(merges=["a b c"]), "one of its merges is 'a b c', not two tokens"),
        (lambda fields: fields.update(added_tokens=[3]), "its added_tokens is not a list of objects"),
        (lambda fields: fields["added_tokens"][0].update(id="3"), r'its added_tokens\[0\].id is "3"'),
    ],
)
def test_a_part_of_another_kind_is_named_in_plain_words(saved, change, reason):
    rewrite(saved / "tokenizer.json", change)
    with pytest.raises(UserError, match=rf"tokenizer.json must be .* and {reason}.*: make it again\.$"):
        Tokenizer.load(str(saved))


@pytest.mark.parametrize(
    ("name", "content"),
    [("vocab.json", '{"a": "x"}'), ("merges.txt", "a b c\n"), ("vocab.json", "{"), ("vocab.json", "[]")],
)
def test_broken_files_are_refused(saved, name, content):
    (saved / "tokenizer.json").unlink()
    (saved / name).write_text(content)
    with pytest.raises(UserError, match=name):
        Tokenizer.load(str(saved))


def test_a_folder_without_a_tokenizer_is_an_error_that_names_the_files(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json.*vocab\.json and merges\.txt.*encoder\.json and vocab\.bpe"):
        Tokenizer.load(str(tmp_path))


@needs_openai
def test_openai_files_give_gpt2_ids_and_keep_their_hash_when_saved_by_us(tmp_path):
    gpt2 = Tokenizer.load(str(OPENAI))
    assert gpt2.encode("Hello world") == [15496, 995]
    assert (gpt2.vocab_size, gpt2.eos_id) == (50257, 50256)
    assert gpt2.decode([50256]) == EOS_TOKEN
    gpt2.save(str(tmp_path))
    assert Tokenizer.load(str(tmp_path)).sha256 == gpt2.sha256


@needs_openai
@pytest.mark.skipif(not WIKITEXT.exists(), reason=f"WikiText-2 is not at {WIKITEXT}")
def test_wikitext_2_has_the_published_number_of_gpt2_tokens():
    lines = WIKITEXT.read_bytes().decode().split("\n")[:-1]
    text = "\n\n".join(line + "\n" if line.strip() else "" for line in lines)
    assert len(Tokenizer.load(str(OPENAI)).encode(text)) == 287_644


def write_lines(path, documents):
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return str(path)


def test_training_twice_writes_identical_files_and_reports_counts(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", DOCUMENTS)
    results = [train_tokenizer([path], 280, str(tmp_path / name)) for name in ("one", "two")]
    assert results[0] == results[1]
    assert results[0]["documents"] == len(DOCUMENTS)
    assert results[0]["bytes"] == sum(len(document.encode()) for document in DOCUMENTS)
    for name in NAMES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_wrong_training_arguments_are_refused_before_anything_is_written(tmp_path):
    path, empty = write_lines(tmp_path / "a.jsonl", DOCUMENTS), write_lines(tmp_path / "b.jsonl", [])
    wrong = write_lines(tmp_path / "c.jsonl", [3])
    output = str(tmp_path / "out")
    for inputs, vocab_size, folder in (
        ([path], 256, output),
        ([path], 280, str(tmp_path)),
        ([empty], 280, output),
        ([wrong], 280, output),
    ):
        with pytest.raises(UserError):
            train_tokenizer(inputs, vocab_size, folder)
    assert not Path(output).exists()


def test_the_hash_tells_apart_tokenizers_that_differ_in_a_token_or_in_the_order_of_their_merges(tmp_path):
    """With another order the same tokens are made of other texts, so records and models would not fit."""
    tokens = [*tokenizers.pre_tokenizers.ByteLevel.alphabet(), "ab", "bc"]
    vocab = {token: id_ for id_, token in enumerate([*sorted(tokens[:256]), *tokens[256:], EOS_TOKEN])}
    other_vocab = {**vocab, "ab": vocab["bc"], "bc": vocab["ab"]}
    merges = [("a", "b"), ("b", "c")]
    one, other_order, other_ids = (
        Tokenizer(*parts) for parts in ((vocab, merges), (vocab, merges[::-1]), (other_vocab, merges))
    )
    assert one.encode("abc") != other_order.encode("abc")
    assert len({one.sha256, other_order.sha256, other_ids.sha256}) == 3
