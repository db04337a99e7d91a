"""WikiText's text as others read it: articles, detokenized text and counts, beside lm-evaluation-harness's own code."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED_DATA

from algpt2.evaluation import wikitext
from algpt2.evaluation.wikitext import articles, detokenized, has_articles

WIKITEXT = SHARED_DATA / "wikitext-2-raw"
PIECES = [*" \n='\"()[]{},.:;!?°5Nsx/", "@-@", "@,@", "@.@", " = ", " = = ", " 's ", " @-@ ", "word"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" \n = A = \n \n b \n = = C = = \n d \n = E = \n f ", [" = A = \n \n b \n = = C = = \n d ", " = E = \n f "]),
        ("before \n = A = \n b", ["before ", " = A = \n b"]),
        (" = A = \n = B = ", [" = A = ", " = B = "]),
        ("no heading \n at all", ["no heading \n at all"]),
        (" = A = \n", [" = A = \n"]),
    ],
)
def test_an_article_begins_with_its_heading_and_ends_before_the_line_end_of_the_next(text, expected):
    assert articles(text) == expected


@pytest.mark.parametrize("line", [" = A = ", " = A = B = ", "= A ="])
def test_one_mark_at_either_end_is_an_articles_heading(line):
    assert has_articles(f"text \n{line}\n text")


@pytest.mark.parametrize("line", [" = = A = = ", " = = = A = = = ", "=A=", " = ", " = A", " x = y ", ""])
def test_a_sections_heading_and_a_line_with_marks_in_it_begin_no_article(line):
    assert not has_articles(f"text \n{line}\n text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a well @-@ known man , 1 @,@ 000 m ( 3 @.@ 5 ft ) ; he 's", "a well-known man, 1,000 m (3.5 ft); he's"),
        (' = = A = = \n \n " b " . c ! ', ' == A ==\n\n"b". c! '),
        ("5 ° C of N x", "5°C of 1 x"),
        ("the /' 90/ s", "the /' 90/ s"),
        ("the /' 9/ s", "the /'[0-9]/ s"),  # a slip of the original
    ],
)
def test_words_and_punctuation_come_together_again(text, expected):
    assert detokenized(text) == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_text_is_detokenized_as_lm_evaluation_harness_does_it(text):
    theirs = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext", reason="lm-eval is not installed")
    assert detokenized(text) == theirs.wikitext_detokenizer({"page": text})


@pytest.mark.skipif(not WIKITEXT.exists(), reason="needs ../shared/data: WikiText")
def test_the_real_file_has_the_published_articles_and_counts():
    text = (WIKITEXT / "wiki.test.raw").read_bytes().decode("utf-8")
    found = articles(text)
    assert len(found) == 62
    assert found[0].startswith(" = Robert Boulter = \n")
    assert sum(map(wikitext.harness_words, found)) == 241_335
    assert sum(len(article.encode("utf-8")) for article in found) == 1_290_527
    # 241,211 words and 4,358 lines, and one token more, which Megatron-LM takes off again.
    assert wikitext.words_and_line_ends(text) == 245_569
    assert wikitext.megatron_tokens(text) == 245_570
