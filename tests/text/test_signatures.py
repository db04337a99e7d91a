"""Signatures tell how alike texts are, and are the same whatever stands beside a text."""

import numpy as np
import pytest

from algpt2.text.signatures import Signer

pytest.importorskip("rensa", reason="rensa is not installed")

WORDS = [f"word{n}" for n in range(2000)]


@pytest.mark.parametrize("changed", [1, 3, 8, 20])
def test_the_part_of_equal_values_is_about_the_similarity_of_the_sets(changed):
    """Each of 400 words that is another is in 5 n-grams of 396; the mean of 20 pairs has an error of 0.01."""
    random, estimates = np.random.default_rng(changed), []
    for _ in range(20):
        words = list(random.permutation(WORDS)[:400])
        others = list(words)
        for place in range(10, 400, 400 // changed)[:changed]:
            others[place] = "another"
        (one, other), _ = Signer().signatures([" ".join(words), " ".join(others).upper()])
        estimates.append(np.mean(one == other))
    assert np.mean(estimates) == pytest.approx((396 - 5 * changed) / (396 + 5 * changed), abs=0.035)


def test_a_texts_signature_depends_on_nothing_but_its_set_of_ngrams():
    text = " ".join(WORDS[:300])
    texts = ["", "one", text, " ".join(WORDS), f"{text} {text}", text.replace(" ", "_ ").upper()]
    together, has_words = Signer().signatures(texts)
    assert has_words.tolist() == [False, True, True, True, True, True]
    for signature, alone in zip(together, texts, strict=True):
        np.testing.assert_array_equal(Signer().signatures([alone])[0][0], signature)
    np.testing.assert_array_equal(together[2], together[5])
    assert np.mean(together[2] == together[4]) > 0.9
