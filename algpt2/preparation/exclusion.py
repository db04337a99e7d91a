"""Files whose n-grams no document may have: which they are, told by their hashes, and the n-grams in them."""

import itertools
from collections.abc import Sequence

from absl import logging

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError, shown
from algpt2.records.input_counts import ExcludedFile
from algpt2.text.evaluation_texts import sha256_and_texts
from algpt2.text.input_files import input_files
from algpt2.text.ngrams import Ngrams


def excluded_files(options: RecordOptions) -> tuple[ExcludedFile, ...]:
    """Returns the files that the options name, and warns of texts in them that are too short to have an n-gram.

    Raises:
      UserError: nothing at a path, a file that cannot be read, or one without an n-gram.
    """
    return tuple(_excluded_file(path, options.ngram_words) for path in input_files(options.exclude_ngrams))


def same_excluded_files(options: RecordOptions, expected: Sequence[ExcludedFile]) -> tuple[ExcludedFile, ...]:
    """Returns the files that the options name, which must be those that were expected, wherever they lie now.

    Raises:
      UserError: as `excluded_files`; or one is another.
    """
    found = excluded_files(options)
    if sorted(file.sha256 for file in found) != sorted(file.sha256 for file in expected):
        raise UserError(
            f"--exclude_ngrams must name the {len(expected)} files that documents were compared with, to the last "
            f"byte, and {shown([file.path for file in found])} are not those: name where they lie now."
        )
    return found


def ngrams_of(files: Sequence[ExcludedFile], words: int) -> Ngrams:
    """Returns the n-grams of files.

    Args:
      files: as `excluded_files` found them.
      words: how many an n-gram has.

    Raises:
      UserError: a file has changed since.
    """
    hashed = [(file, *sha256_and_texts(file.path)) for file in files]
    for file, sha256, _ in hashed:
        if sha256 != file.sha256:
            raise UserError(
                f"{file.path} must stay as it is while it is in use, and it changed: run the command again."
            )
    return Ngrams(itertools.chain.from_iterable(texts for _, _, texts in hashed), words)


def _excluded_file(path: str, words: int) -> ExcludedFile:
    sha256, texts = sha256_and_texts(path)
    ngrams = Ngrams(texts, words)
    if not ngrams.count:
        raise UserError(
            f"a file of --exclude_ngrams must have {words} words in a row, and {path} has not: lower --ngram_words, or "
            "leave it out."
        )
    if ngrams.short_texts:
        told = (ngrams.short_texts, path, words)
        logging.warning("%d texts of %s have fewer than %d words, so nothing is left out for them", *told)
    return ExcludedFile(path, sha256)
