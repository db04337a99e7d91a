"""Bits per byte by domain: beside a loop in NumPy that scores each document by itself, token by token."""

import dataclasses
import json
import math

import numpy as np
import numpy_gpt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import GPT2_CONFIG, randomised

from algpt2.errors import UserError
from algpt2.evaluation import by_domain
from algpt2.evaluation.by_domain import DocumentSource, evaluate_by_domain, table
from algpt2.evaluation.scorer import Scorer, WindowScore
from algpt2.evaluation.windows import windows
from algpt2.text.documents import Document, Keys
from algpt2.text.tokenizer import Tokenizer

SEQ_LEN = GPT2_CONFIG.seq_len
# Two domains in turn; empty, shorter than a window, longer than several, and beyond ASCII.
DOCUMENTS = [
    ("zoo", "the cat"),
    ("law", "the rat ate the cat and sat on the mat " * 3),
    ("zoo", ""),
    ("law", "çà et là — the cat"),
    ("zoo", "on the mat sat the rat, the mat"),
    ("law", "the mat"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the cat ate the rat"] * 3, 270)


@pytest.fixture(scope="module")
def model(tokenizer):
    return randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size + 5))


@pytest.fixture(scope="module")
def scorer(model):
    return Scorer(model, batch_size=2, jit_compile=False)


def write(path, documents, key=("meta", "set")):
    lines = [json.dumps({"text": text, key[0]: {key[1]: domain}}) + "\n" for domain, text in documents]
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def nats_in_numpy(model, tokenizer, text, stride):
    """The nats of every token of a text behind EOS, each in the first window that reaches it."""
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    ids = [tokenizer.eos_id, *tokenizer.encode(text)]
    total = 0.0
    for i in range(1, len(ids)):
        start = max(0, math.ceil((i - SEQ_LEN) / stride)) * stride
        context = np.array([ids[start:i]])
        logits = numpy_gpt.forward(parameters, context, model.config.n_layer, model.config.n_head)[0, -1]
        total += np.log(np.exp(logits - logits[ids[i]]).sum())
    return total


@pytest.mark.parametrize("stride", [SEQ_LEN, 5])
def test_each_domain_has_the_figures_of_its_documents_alone(scorer, tokenizer, tmp_path, stride):
    source = DocumentSource((write(tmp_path / "a.jsonl", DOCUMENTS),), keys=Keys(domain="meta.set"))
    result = evaluate_by_domain(scorer, tokenizer, source, stride)
    assert [one["domain"] for one in result["domains"]] == ["law", "zoo"]
    for one in result["domains"]:
        texts = [text for domain, text in DOCUMENTS if domain == one["domain"]]
        nats = sum(nats_in_numpy(scorer.model, tokenizer, text, stride) for text in texts)
        n_bytes, n_tokens = sum(len(t.encode()) for t in texts), sum(len(tokenizer.encode(t)) for t in texts)
        assert (one["documents"], one["text_bytes"], one["tokens"]) == (len(texts), n_bytes, n_tokens)
        assert one["total_nats"] == pytest.approx(nats, rel=1e-5)
        assert one["bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
        assert one["token_perplexity"] == pytest.approx(math.exp(nats / n_tokens), rel=1e-5)
    law, zoo = result["domains"]
    for count in ("documents", "text_bytes", "tokens", "total_nats"):
        assert result["all"][count] == pytest.approx(law[count] + zoo[count])
    both = (law["total_nats"] + zoo["total_nats"]) / math.log(2) / (law["text_bytes"] + zoo["text_bytes"])
    assert result["all"]["bits_per_byte"] == pytest.approx(both)
    assert (result["window"], result["stride"], result["domain_key"]) == (SEQ_LEN, stride, "meta.set")


def test_without_a_key_each_file_is_a_domain(scorer, tokenizer, tmp_path):
    (tmp_path / "b.txt").write_text("the cat sat")
    paths = (write(tmp_path / "a.jsonl", DOCUMENTS), str(tmp_path / "b.txt"))
    result = evaluate_by_domain(scorer, tokenizer, DocumentSource(paths), SEQ_LEN)
    assert [(one["domain"], one["documents"]) for one in result["domains"]] == [(paths[0], 6), (paths[1], 1)]


def test_a_document_is_read_only_when_its_turn_comes_so_that_large_files_need_no_memory(scorer, tokenizer):
    """At most a pass of each length waits, and one is under way."""
    read, scored = 0, 0

    def documents():
        nonlocal read
        for i in range(200):
            read += 1
            text = "the cat " * (1 + i % 40)
            yield Document(text, text.encode(), "zoo")
            assert read - scored < 30

    class Counting:
        model, batch_size = scorer.model, scorer.batch_size

        def score_windows(self, windows):
            nonlocal scored
            for window in windows:
                scored += window.inputs[0] == tokenizer.eos_id
                yield WindowScore(1.0, int(window.scored.sum()), False)

    tally = by_domain.tally_domains(Counting(), tokenizer, documents(), SEQ_LEN)["zoo"]
    assert (read, scored, tally.documents) == (200, 200, 200)
    assert tally.tokens == sum(len(tokenizer.encode("the cat " * (1 + i % 40))) for i in range(200))


def test_a_short_document_takes_a_short_window():
    short, whole = (next(windows(np.arange(n), 1024, 1024)) for n in (5, 1025))
    assert by_domain.DomainWindow("zoo", short).length == 16
    assert by_domain.DomainWindow("zoo", whole).length == 1024
    assert by_domain.shortened(short, 16).inputs.tolist() == [0, 1, 2, 3, *[0] * 12]


@given(st.lists(st.integers(2, 65), max_size=60))
def test_windows_come_in_whole_passes_of_their_length_and_all_of_them_come(sizes):
    stream = [by_domain.DomainWindow(str(i), next(windows(np.arange(n), 64, 64))) for i, n in enumerate(sizes)]
    passes = list(by_domain.in_passes(stream, lambda length: 128 // length))
    assert sorted(int(one.domain) for group, _ in passes for one in group) == list(range(len(sizes)))
    for group, length in passes:
        assert all(one.length <= length for one in group)
    for group, length in passes[:-1]:
        assert len(group) >= 128 // length


def test_a_domain_of_empty_documents_has_no_figures_and_nothing_else_is_refused(scorer, tokenizer, tmp_path):
    path = write(tmp_path / "a.jsonl", [("none", ""), ("zoo", "the cat")])
    result = evaluate_by_domain(scorer, tokenizer, DocumentSource((path,), keys=Keys(domain="meta.set")), SEQ_LEN)
    none = result["domains"][0]
    assert (none["documents"], none["bits_per_byte"], none["token_perplexity"]) == (1, None, None)
    assert table(result).splitlines()[2] == "| none | 1 | 0 | 0 | 0.0 | - | - |"
    empty = write(tmp_path / "b.jsonl", [("none", ""), ("zoo", "")])
    with pytest.raises(UserError, match="all 2 are empty"):
        evaluate_by_domain(scorer, tokenizer, DocumentSource((empty,)), SEQ_LEN)


def test_the_table_has_a_line_for_each_domain_and_one_for_all(scorer, tokenizer, tmp_path):
    source = DocumentSource((write(tmp_path / "a.jsonl", DOCUMENTS),), keys=Keys(domain="meta.set"))
    result = evaluate_by_domain(scorer, tokenizer, source, SEQ_LEN)
    header, rule, *rows = table(result).splitlines()
    assert header.startswith("| domain | documents | bytes | tokens | nats | bits per byte |")
    assert [row.split(" | ")[0] for row in rows] == ["| law", "| zoo", "| all"]
    assert {line.count("|") for line in (header, rule, *rows)} == {8}
    assert f"{result['all']['bits_per_byte']:.4f}" in rows[-1]
