"""The report on a tokenizer: its figures are those of encoding each text by itself."""

import json

import pytest
from command_line import call

from algpt2.errors import UserError
from algpt2.text.documents import Document
from algpt2.text.tokenizer import Tokenizer
from algpt2.text.tokenizer_report import MOST_LISTED, report_on

TRAINED_ON = ["the cat sat on the mat again and again \u00e9"] * 3
DOCUMENTS = [("news", "the cat sat"), ("news", ""), ("books", "the mat \u00e9\u00e9")] * 200


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TRAINED_ON, 285)


def documents():
    return [Document(text, text.encode(), source) for source, text in DOCUMENTS]


def test_each_source_has_its_documents_bytes_and_tokens(tokenizer):
    report = report_on(tokenizer, documents())
    for source in ("books", "news"):
        texts = [text for one, text in DOCUMENTS if one == source]
        size, tokens = sum(len(text.encode()) for text in texts), sum(len(tokenizer.encode(text)) for text in texts)
        expected = {"documents": len(texts), "bytes": size, "tokens": tokens, "bytes_per_token": size / tokens}
        assert report["sources"][source] == expected
    assert report["all"]["documents"] == 600
    assert report["all"]["tokens"] == sum(one["tokens"] for one in report["sources"].values())


def test_ids_without_use_are_those_of_no_text(tokenizer):
    report = report_on(tokenizer, documents())
    used = {id_ for _, text in DOCUMENTS for id_ in tokenizer.encode(text)}
    unused = [id_ for id_ in range(tokenizer.eos_id) if id_ not in used]
    assert report["unused_ids"] == len(unused)
    assert report["unused_tokens"] == [tokenizer.decode([id_]) for id_ in unused[:MOST_LISTED]]


def test_the_longest_tokens_come_first_with_their_uses(tokenizer):
    longest = report_on(tokenizer, documents())["longest_tokens"]
    sizes = tokenizer.token_byte_lengths()
    assert [one["bytes"] for one in longest] == sorted(sizes.tolist(), reverse=True)[:MOST_LISTED]
    every_id = [id_ for _, text in DOCUMENTS for id_ in tokenizer.encode(text)]
    assert [one["uses"] for one in longest] == [every_id.count(one["id"]) for one in longest]
    assert any(one["uses"] for one in longest)


def test_documents_without_text_are_refused(tokenizer):
    with pytest.raises(UserError, match="all 2 are empty"):
        report_on(tokenizer, [Document("", b"", "a file")] * 2)


def test_the_script_prints_a_table_and_json(scripts, tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer"))
    lines = [json.dumps({"text": text, "meta": {"set": source}}) for source, text in DOCUMENTS]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    flags = ["--tokenizer", str(tmp_path / "tokenizer"), "--input", str(tmp_path / "a.jsonl")]
    outcome = call(scripts["data_tools/inspect_tokenizer.py"]["main"], [*flags, "--domain_key", "meta.set"])
    assert outcome.result == report_on(tokenizer, documents())
    rows = [line.split() for line in outcome.stderr.splitlines()]
    assert ["books", "200", "2,400", f"{outcome.result['sources']['books']['tokens']:,}"] in [row[:4] for row in rows]
