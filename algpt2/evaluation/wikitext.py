"""WikiText's raw files as others read them: in rows, in articles, detokenized, and counted in their original tokens.

The files hold one paragraph or heading a line, with a space in front of each, words and punctuation apart, and marks
such as ` @-@ ` where a hyphen was. Each function here follows one public program to the letter, slips included, because
a figure under a protocol can only be compared if the text is the same.
"""

import io
import re
from collections.abc import Iterator

# What the detokenizer of Megatron-LM (tasks/zeroshot_gpt/detokenizer.py, `wikitext_detokenizer`) replaces, in its
# order: regular expressions and what stands in their place. lm-evaluation-harness has taken it over as it is.
DETOKENIZER = (
    (r"s '", "s'"),
    # A slip of the original: it was meant for a year such as '95, and finds and writes the slashes too.
    (r"/' [0-9]/", "/'[0-9]/"),
    (r" @-@ ", "-"),
    (r" @,@ ", ","),
    (r" @\.@ ", "."),
    (r" : ", ": "),
    (r" ; ", "; "),
    (r" \. ", ". "),
    (r" ! ", "! "),
    (r" \? ", "? "),
    (r" , ", ", "),
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
    (r"= = = =", "===="),
    (r"= = =", "==="),
    (r"= =", "=="),
    (r" ° ", "°"),
    (r" \n", "\n"),
    (r"\n ", "\n"),
    (r" N ", " 1 "),
    (r" 's", "'s"),
)


def joined_rows(text: str) -> str:
    """Returns the lines as Hugging Face's data set `wikitext` holds them, joined as its documentation joins them.

    A blank line has become the empty string, every other one keeps its line end, and two more stand between any two.
    """
    return "\n\n".join(line if line.strip() else "" for line in io.StringIO(text))


def articles(text: str) -> list[str]:
    """Returns the articles as the field `page` of the data set `EleutherAI/wikitext_document_level` holds them.

    An article begins with its heading and ends before the line end in front of the next one. What stands in front of
    the first heading is an article too, unless it is blank.
    """
    return list(_articles(text))


def _articles(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in text.split("\n"):
        if is_heading(line):
            if any(before.strip() for before in lines):
                yield "\n".join(lines)
            lines = []
        lines.append(line)
    yield "\n".join(lines)


def is_heading(line: str) -> bool:
    """Returns whether a line is an article's heading, as ` = Robert Boulter = `, and not one of a section."""
    merged = line.replace("= = =", "===").replace("= =", "==").strip()
    return merged.startswith("= ") and merged.endswith(" =")


def has_articles(text: str) -> bool:
    """Returns whether any line of a text is an article's heading."""
    return any(is_heading(line) for line in text.split("\n"))


def detokenized(text: str) -> str:
    """Returns a text as `DETOKENIZER` leaves it: words and punctuation together again, mostly."""
    for pattern, replacement in DETOKENIZER:
        text = re.sub(pattern, replacement, text)
    return text


def harness_words(article: str) -> int:
    """Returns lm-evaluation-harness's number of an article's words: it counts white space at either end as one more."""
    return len(re.split(r"\s+", article))


def megatron_tokens(text: str) -> int:
    """Returns Megatron-LM's number of a file's original tokens: what single spaces part, line ends among them."""
    return len(text.strip().split(" "))


def words_and_line_ends(text: str) -> int:
    """Returns the tokens of a word-level model of the same file: its words, and an end of sentence for each line."""
    return len(text.split()) + text.count("\n")
