"""`RecordOptions`: how documents become records."""

import dataclasses

from algpt2.config.options import COUNT, FRACTION_ABOVE_0, FRACTION_BELOW_1, option, require
from algpt2.errors import UserError, shown

PACKINGS = STREAM_PACKING, BEST_FIT_PACKING, LEGACY_PACKING = ("stream", "best-fit", "legacy")
LOSSY_PACKINGS = (BEST_FIT_PACKING, LEGACY_PACKING)
FORMATS = PACKED_FORMAT, DOCUMENTS_FORMAT = ("packed", "documents")
STOP, SKIP = "stop", "skip"
REFERENCE_ENCODER, GIGATOKEN = ENCODERS = ("tokenizers", "gigatoken")


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """How documents become records; each field says what it is in its option's help text.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    seq_len: int = option(1024, "target tokens a record")
    num_shards: int = option(16, "number of train files")
    val_fraction: float = option(0.05, "part of the documents held out as val, from 0 to below 1")
    seed: int = option(0, "decides the order of the documents")
    text_key: str = option("text", "JSON key or Parquet column of the text")
    deduplicate: bool = option(False, "keep one of the documents that are alike to the last byte, and count the others")
    near_duplicates: float | None = option(
        None,
        "with --deduplicate, leave out documents that are nearly equal to another too, and count them: the least "
        "similarity, above 0 and at most 1, such as 0.8 (extra near)",
    )
    document_separator: str | None = option(
        None, "text between the documents of a .txt or .raw file; without it, each file is one document"
    )
    encoder: str = option(
        REFERENCE_ENCODER, "the library that makes ids; all make the same, gigatoken many times faster", ENCODERS
    )
    on_error: str = option(
        STOP, "what is done with input that is no document; skip leaves it out, and counts it by kind", (STOP, SKIP)
    )
    exclude_ngrams: tuple[str, ...] = option(
        (), "evaluation files; documents that share an n-gram of words with one are left out, and counted"
    )
    ngram_words: int = option(13, "how many words in a row are an n-gram of --exclude_ngrams")
    removed_documents: str | None = option(
        None, "new file, on disk or gs://: a JSON line for each document that is left out, with file, number and reason"
    )
    packing: str = option(
        STREAM_PACKING,
        "how records are cut: stream loses nothing; best-fit begins each with a document, and crops some; legacy loses "
        "tokens as in 2020, to study what it costs",
        choices=PACKINGS,
    )
    format: str = option(
        PACKED_FORMAT,
        "what a train record holds: packed, seq_len + 1 ids; documents, one document, which training packs anew in "
        "each epoch; val records are packed in both",
        choices=FORMATS,
    )

    def __post_init__(self) -> None:
        for name, remedy in (("seq_len", "1024 is GPT-2's"), ("num_shards", "16 suits most corpora")):
            if not COUNT.holds(value := getattr(self, name)):
                raise UserError(f"{name} must be {COUNT.text}, received {shown(value)}: {remedy}.")
        if not FRACTION_BELOW_1.holds(self.val_fraction):
            raise UserError(f"val_fraction must be from 0 to below 1, received {self.val_fraction}: 0.05 is usual.")
        require(self.encoder in ENCODERS, "encoder", f"one of {', '.join(ENCODERS)}", self.encoder)
        require(self.on_error in (STOP, SKIP), "on_error", f"{STOP} or {SKIP}", self.on_error)
        require(COUNT.holds(self.ngram_words), "ngram_words", COUNT.text, self.ngram_words)
        if not self.exclude_ngrams and self.ngram_words != RecordOptions.ngram_words:
            raise UserError(
                "ngram_words needs files of --exclude_ngrams, and there are none: add some, or leave it out."
            )
        self._require_near_duplicates()
        require(self.packing in PACKINGS, "packing", f"one of {', '.join(PACKINGS)}", self.packing)
        require(self.format in FORMATS, "format", f"one of {', '.join(FORMATS)}", self.format)
        if self.format == DOCUMENTS_FORMAT and self.packing != STREAM_PACKING:
            raise UserError(
                f"packing must be {STREAM_PACKING} with --format {DOCUMENTS_FORMAT}, because training packs such "
                f"documents itself, received {self.packing}: leave out --packing, or give --format {PACKED_FORMAT}."
            )

    def _require_near_duplicates(self) -> None:
        if self.near_duplicates is None:
            return
        rule = FRACTION_ABOVE_0
        require(rule.holds(self.near_duplicates), "near_duplicates", rule.text, self.near_duplicates)
        if not self.deduplicate:
            raise UserError(
                "near_duplicates needs --deduplicate, because equal documents go before nearly equal ones: add it."
            )

    @property
    def num_val_shards(self) -> int:
        """The number of `val` files."""
        return val_shards(self.num_shards, self.val_fraction)


def val_shards(num_shards: int, val_fraction: float) -> int:
    """Returns the number of `val` files: in proportion to the `train` files, and at least 1 if anything is held out."""
    return max(1, round(num_shards * val_fraction)) if val_fraction > 0 else 0
