"""What is scored of a text under each protocol, and what the scores are divided by."""

import dataclasses
import hashlib
import math

import numpy as np
import pytest
from places import SHARED_DATA
from tiny_models import GPT2_CONFIG, randomised

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError
from algpt2.evaluation.documented_loop import loop_shares
from algpt2.evaluation.perplexity import evaluate, evaluate_text
from algpt2.evaluation.protocol_table import format_table
from algpt2.evaluation.protocols import PROTOCOLS
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.wikitext import detokenized, joined_rows
from algpt2.evaluation.windows import windows
from algpt2.model.gpt import GPT
from algpt2.text.tokenizer import Tokenizer

HF, RAW = PROTOCOLS["hf"], PROTOCOLS["raw"]
SEQ_LEN = GPT2_CONFIG.seq_len
CAT = " = The cat = \n \n the cat sat , on the mat @-@ rat ; the cat ate . "
RAT = ' = The rat = \n \n the " rat " ate the cat , \n \n = = On the mat = = \n \n the rat sat on the mat . \n'
WIKITEXT = f" \n{CAT}\n{RAT}"


def constant(config: GPTConfig) -> GPT:
    """A model that finds every token equally likely."""
    model = GPT(config)
    for parameter in model.trainable_variables:
        parameter.assign(np.zeros(parameter.shape))
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the cat ate the rat"] * 3, 270)


@pytest.fixture(scope="module")
def text_model(tokenizer):
    return randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size))


@pytest.fixture(scope="module")
def scorer(text_model):
    return Scorer(text_model, batch_size=1)


def test_a_model_that_knows_nothing_has_perplexity_vocab_size(tokenizer):
    config = dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size)
    text = "the cat ate a gnu, çà et là " * 3
    scores = evaluate_text(Scorer(constant(config), 2), tokenizer, text, RAW, stride=16)
    n_tokens, n_bytes, n_words = len(tokenizer.encode(text)), len(text.encode("utf-8")), 8 * 3
    assert (scores["scored_tokens"], scores["scored_bytes"], scores["words"]) == (n_tokens, n_bytes, n_words)
    assert scores["token_perplexity"] == pytest.approx(tokenizer.vocab_size, rel=1e-6)
    assert scores["bits_per_byte"] == pytest.approx(n_tokens * math.log2(tokenizer.vocab_size) / n_bytes, rel=1e-6)
    assert scores["word_perplexity"] == pytest.approx(tokenizer.vocab_size ** (n_tokens / n_words), rel=1e-5)
    assert (scores["protocol"], scores["window"], scores["stride"]) == ("raw", 16, 16)


def test_a_text_shorter_than_one_window_is_scored_without_its_padding(tokenizer, text_model):
    ids = tokenizer.encode("the cat")
    assert 2 <= len(ids) < SEQ_LEN - 1
    scores = evaluate_text(Scorer(text_model, 4), tokenizer, "the cat", RAW, stride=16)
    logits = text_model(np.array([[tokenizer.eos_id, *ids[:-1]]], np.int32)).numpy()[0].astype(np.float64)
    expected = sum(np.log(np.exp(row - row[target]).sum()) for row, target in zip(logits, ids, strict=True))
    assert scores["scored_tokens"] == len(ids)
    assert scores["total_nats"] == pytest.approx(expected, rel=1e-6)


def test_hf_scores_neither_the_first_token_nor_its_bytes(tokenizer, scorer):
    text = "the cat sat"
    ids = tokenizer.encode(text)
    scores = evaluate_text(scorer, tokenizer, text, HF, stride=16)
    assert scores["scored_tokens"] == len(ids) - 1
    assert scores["scored_bytes"] == len(text) - len(tokenizer.decode(ids[:1]))


def test_the_end_of_text_mark_in_a_text_is_scored_as_the_text_it_is(tokenizer, scorer):
    text = "the <|endoftext|> cat"
    assert evaluate_text(scorer, tokenizer, text, RAW, 16)["scored_bytes"] == len(text)


@pytest.mark.parametrize(
    ("text", "protocol"), [("", HF), ("", RAW), ("a", HF), (" \n\n", HF), (" \n\n", RAW), ("\n", RAW)]
)
def test_a_text_with_nothing_to_score_is_refused(tokenizer, scorer, text, protocol):
    with pytest.raises(UserError, match=f"at least one word and one token to score, .* {protocol.name} "):
        evaluate_text(scorer, tokenizer, text, protocol, 16)


def test_one_token_after_eos_can_be_scored(tokenizer, scorer):
    assert evaluate_text(scorer, tokenizer, "a", RAW, 16)["scored_tokens"] == 1


def test_hf_joins_lines_as_the_dataset_holds_them():
    """A line keeps its end, a blank one has nothing, and two line ends stand between any two."""
    assert joined_rows(" \n = A = \n \n b c \nd") == "\n\n = A = \n\n\n\n\n b c \n\n\nd"


def test_only_a_line_feed_ends_a_line():
    assert joined_rows("a\x0cb\u2028c\rd\n") == "a\x0cb\u2028c\rd\n"


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs ../shared/data: WikiText and OpenAI's tokenizer")
def test_wikitext_under_hf_has_the_published_number_of_tokens():
    raw = (SHARED_DATA / "wikitext-2-raw" / "wiki.test.raw").read_bytes()
    text = raw.decode("utf-8")
    assert (len(raw), len(text.split())) == (1_290_590, 241_211)
    joined = joined_rows(text)
    assert len(Tokenizer.load(str(SHARED_DATA / "gpt2-bpe")).encode(joined)) == 287_644
    assert joined.split() == text.split()


@pytest.fixture(scope="module")
def matrix(tokenizer, text_model):
    """The result of each protocol, by its name."""
    results = evaluate(Scorer(text_model, 4, jit_compile=False), tokenizer, WIKITEXT, list(PROTOCOLS.values()))
    return {result["protocol"]: result for result in results}


def test_a_run_gives_every_protocol_with_what_it_was_computed_from(matrix):
    assert list(matrix) == list(PROTOCOLS)
    for name, result in matrix.items():
        assert result[result["figure"]] > 1 or name == "raw"
        assert result["description"] == PROTOCOLS[name].description
        assert (result["window"], result["stride"]) == (SEQ_LEN, SEQ_LEN // 2 if "overlap" in name else SEQ_LEN)
        assert all(baseline["source"] for baseline in result["published"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hf-loop", joined_rows(WIKITEXT)),
        ("megatron", detokenized(WIKITEXT)),
        ("gpt2-paper", detokenized(WIKITEXT)),
        ("raw", WIKITEXT),
        ("harness", detokenized(CAT) + detokenized(RAT)),
    ],
)
def test_a_result_names_the_text_that_was_scored_by_its_hash(matrix, name, text):
    expected = hashlib.sha256(text.encode("utf-8")).hexdigest()
    assert (matrix[name]["text_sha256"], matrix[name]["text_bytes"]) == (expected, len(text.encode("utf-8")))


def test_megatron_divides_by_what_single_spaces_part_less_one(matrix):
    result, tokens = matrix["megatron"], len(WIKITEXT.strip().split(" "))
    assert result["original_tokens"] == tokens
    assert result["adjusted_perplexity"] == pytest.approx(math.exp(result["total_nats"] / (tokens - 1)))


def test_the_papers_denominators_are_words_with_and_without_line_ends(matrix):
    result, words = matrix["gpt2-paper"], len(WIKITEXT.split())
    assert (result["words"], result["original_tokens"]) == (words, words + WIKITEXT.count("\n"))
    assert result["word_perplexity"] == pytest.approx(math.exp(result["total_nats"] / words))
    per_token = math.exp(result["total_nats"] / (words + WIKITEXT.count("\n")))
    assert result["original_token_perplexity"] == pytest.approx(per_token)


def test_the_loop_scores_a_token_fewer_for_each_window_and_gives_a_figure_of_its_own(matrix):
    ours, loop = matrix["hf"], matrix["hf-loop"]
    assert ours["scored_tokens"] - loop["scored_tokens"] == math.ceil((ours["scored_tokens"] + 1) / SEQ_LEN) - 1
    assert loop["total_nats"] < ours["total_nats"]
    assert loop["token_perplexity"] == pytest.approx(math.exp(loop["total_nats"] / loop["scored_tokens"]))


def test_the_loop_where_windows_overlap_scores_a_target_that_ours_does_not(tokenizer, text_model, matrix):
    """Read from one pass over targets that only one of the two counts, the loop's sum is that of a pass of its own."""
    ids = np.array(tokenizer.encode(joined_rows(WIKITEXT)), np.int32)
    whole = [dataclasses.replace(w, scored=np.ones_like(w.scored)) for w in windows(ids, SEQ_LEN, SEQ_LEN // 2)]
    nats = Scorer(text_model, 4, jit_compile=False).target_nats(whole)
    shares = loop_shares(len(ids), SEQ_LEN, SEQ_LEN // 2)
    expected = sum(share.nats_of(row) for share, row in zip(shares, nats, strict=True))
    assert matrix["hf-overlap-loop"]["total_nats"] == pytest.approx(expected, rel=1e-6)


def test_the_harnesss_bytes_and_words_are_those_of_the_original_articles(matrix):
    result, originals = matrix["harness"], [CAT, RAT]
    assert result["articles"] == 2
    assert result["original_bytes"] == sum(len(article.encode("utf-8")) for article in originals)
    assert result["words"] == sum(len(article.split()) + 2 for article in originals)  # white space at both ends
    assert result["byte_perplexity"] == pytest.approx(2 ** result["bits_per_byte"])
    assert result["word_perplexity"] == pytest.approx(math.exp(result["total_nats"] / result["words"]))


def test_protocols_with_the_same_windows_share_their_passes(tokenizer, text_model, monkeypatch):
    passes, target_nats = [], Scorer.target_nats

    def noted(scorer, stream):
        passes.append(1)
        return target_nats(scorer, stream)

    monkeypatch.setattr(Scorer, "target_nats", noted)
    evaluate(Scorer(text_model, 4, jit_compile=False), tokenizer, WIKITEXT, list(PROTOCOLS.values()))
    assert len(passes) == 5  # hf, hf-overlap, harness, megatron, raw


@pytest.mark.parametrize("name", ["harness", "megatron", "gpt2-paper"])
def test_a_file_without_articles_is_refused_by_what_needs_them(tokenizer, scorer, name):
    with pytest.raises(UserError, match=f"article headings, .* --protocol {name}, .* --protocol raw"):
        evaluate_text(scorer, tokenizer, "the cat sat", PROTOCOLS[name])


@pytest.mark.parametrize("name", ["harness", "hf-overlap", "hf-overlap-loop"])
def test_a_stride_is_refused_where_the_protocol_has_its_own(tokenizer, scorer, name):
    with pytest.raises(UserError, match=f"--stride must go with .* {name} have their own"):
        evaluate_text(scorer, tokenizer, WIKITEXT, PROTOCOLS[name], stride=4)


@pytest.mark.parametrize(("seq_len", "stride"), [(2048, 512), (1024, 512), (513, 512), (512, 256), (128, 64), (1, 1)])
def test_windows_overlap_by_all_but_512_tokens_or_by_half(seq_len, stride):
    assert PROTOCOLS["hf-overlap"].default_stride(seq_len) == stride


def test_the_table_has_a_row_for_each_protocol_with_its_own_figure_beside_gpt2s(matrix):
    lines = format_table(list(matrix.values())).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in cells[2:]] == list(PROTOCOLS)
    by_name = {row[0]: row for row in cells[2:]}
    assert by_name["harness"][1:4:2] == ["word perplexity", f"{matrix['harness']['bits_per_byte']:.4f}"]
    assert by_name["gpt2-paper"][-1] == "37.5 or 29.41"
    assert by_name["hf-loop"][3] == "-"
