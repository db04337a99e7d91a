"""GPT-2's tokenizer: byte-level BPE whose last id, `<|endoftext|>`, stands in front of every document."""

import array
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from algpt2 import storage
from algpt2.errors import UserError, shown
from algpt2.text import tokenizer_files
from algpt2.text.long_texts import encoded_in_parts, has_long, parts_of

EOS_TOKEN = tokenizer_files.EOS_TOKEN
BYTE_COUNT = 256
_UINT32 = "I"
SMALLEST_VOCAB_SIZE = BYTE_COUNT + 1
MIN_PAIR_COUNT = 2
# The library reserves 66 bytes for each id that is asked for, before it reads any text: 1.1 GB for these.
LARGEST_VOCAB_SIZE = 2**24


class Tokenizer:
    """Text to token ids and back; every UTF-8 text has ids, and its ids spell it exactly."""

    def __init__(self, vocab: dict[str, int], merges: Sequence[tuple[str, str]]):
        """Builds a tokenizer from a vocabulary with ids 0 to N-1, `<|endoftext|>` the last, and its merges in order.

        Raises:
          UserError: the vocabulary is not such a one, or the merges do not fit it.
        """
        tokenizer_files.check_vocab(vocab)
        self._tokens = sorted(vocab, key=vocab.__getitem__)
        self._merges = [tuple(merge) for merge in merges]
        self._backend = _backend(self._tokens, self._merges)

    @classmethod
    def train(cls, documents: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Returns a tokenizer trained on documents; the same documents always give the same one.

        Args:
          documents: texts; they are read once.
          vocab_size: how many ids, `<|endoftext|>` included. Fewer come out when the text has too few repeated
            pairs of tokens.

        Raises:
          UserError: `vocab_size` is below 257 (256 bytes and `<|endoftext|>`) or above 2^24.
        """
        check_vocab_size(vocab_size)
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = _pre_tokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            min_frequency=MIN_PAIR_COUNT,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[],
            show_progress=False,
        )
        backend.train_from_iterator((part for text in documents for part in parts_of(text)), trainer)
        vocab, merges = tokenizer_files.parse_model(json.loads(backend.to_str())["model"])
        return cls({**vocab, EOS_TOKEN: len(vocab)}, merges)

    @classmethod
    def load(cls, folder: str) -> "Tokenizer":
        """Returns the tokenizer of a folder, local or `gs://`, in any of the published forms of GPT-2's.

        Raises:
          UserError: the folder has neither `tokenizer.json` nor a vocabulary with its merges, or they are of
            another kind of tokenizer.
        """
        return cls(*tokenizer_files.read(folder))

    def save(self, folder: str) -> None:
        """Writes `tokenizer.json`, `vocab.json` and `merges.txt`, each whole, replacing older ones."""
        vocab, _ = self.to_parts()
        merges = "".join(f"{left} {right}\n" for left, right in self._merges)
        storage.write_text(storage.join(folder, "vocab.json"), json.dumps(vocab, ensure_ascii=False) + "\n")
        storage.write_text(storage.join(folder, "merges.txt"), tokenizer_files.MERGES_HEADER + "\n" + merges)
        storage.write_text(storage.join(folder, "tokenizer.json"), self.to_json())

    def to_parts(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Returns the vocabulary and the merges, of which another process makes the same tokenizer."""
        return {token: id_ for id_, token in enumerate(self._tokens)}, list(self._merges)

    def to_json(self) -> str:
        """Returns the content of `tokenizer.json`, as the tokenizers library reads it."""
        return self._backend.to_str(pretty=True) + "\n"

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text. `<|endoftext|>` typed in it is ordinary text, never the EOS id."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, computed on all CPU cores.

        Raises:
          UnicodeEncodeError: a text has a lone surrogate, which UTF-8 cannot spell.
        """
        if has_long(texts):
            return [encoded_in_parts(self.encode_arrays, [text])[0].tolist() for text in texts]
        return [encoding.ids for encoding in self._encodings(texts)]

    def encode_arrays(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all texts, one after the other, uint32, and how many each has, uint32 (N,).

        It raises what `encode_batch` raises.
        """
        if has_long(texts):
            return encoded_in_parts(self.encode_arrays, texts)
        ids = [array.array(_UINT32, encoding.ids) for encoding in self._encodings(texts)]  # a third of NumPy's time
        lengths = np.array([len(one) for one in ids], dtype=np.uint32)
        return np.frombuffer(b"".join(ids), dtype=np.uint32), lengths

    def _encodings(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        try:
            return self._backend.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:  # the library says of a lone surrogate only that the text is no text
            for text in texts:
                text.encode("utf-8")
            raise

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text that ids spell; bytes that are not UTF-8 become U+FFFD, EOS becomes `<|endoftext|>`.

        Raises:
          ValueError: an id is not in the vocabulary.
        """
        ids = np.asarray(ids, dtype=np.int64).tolist()
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(f"ids must be from 0 to {self.vocab_size - 1}, received {min(ids)} to {max(ids)}")
        return self._backend.decode(ids, skip_special_tokens=False)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, `<|endoftext|>` included."""
        return len(self._tokens)

    @property
    def eos_id(self) -> int:
        """The id of `<|endoftext|>`, the last one."""
        return self.vocab_size - 1

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the tokens in id order and the merges: the same for every file format of one tokenizer."""
        content = json.dumps([self._tokens, self._merges], separators=(",", ":"))
        return hashlib.sha256(content.encode("ascii")).hexdigest()

    def token_byte_lengths(self) -> np.ndarray:
        """Returns how many bytes of text each id spells: int32 (vocab_size,), 0 for EOS."""
        lengths = np.array([len(token) for token in self._tokens], dtype=np.int32)  # a character stands for a byte
        lengths[self.eos_id] = 0
        return lengths


def check_vocab_size(vocab_size: int) -> None:
    """Raises `UserError` if a vocabulary of this size cannot hold all bytes and `<|endoftext|>`, or be trained."""
    if vocab_size > LARGEST_VOCAB_SIZE:
        raise UserError(
            f"vocab_size must be at most {LARGEST_VOCAB_SIZE}, received {shown(vocab_size)}: ask for fewer, as GPT-2's "
            "50257."
        )
    if vocab_size < SMALLEST_VOCAB_SIZE:
        raise UserError(
            f"vocab_size must be at least {SMALLEST_VOCAB_SIZE} (256 bytes and {EOS_TOKEN}), received {vocab_size}: "
            "ask for more."
        )


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _backend(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Returns the library's tokenizer: no normaliser, and `<|endoftext|>` outside the BPE model."""
    vocab = {token: id_ for id_, token in enumerate(tokens[:-1])}
    try:
        backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    except Exception as error:  # The library raises no narrower class.
        raise UserError(f"a merge must join two tokens into a third of the vocabulary: {error}.") from error
    backend.pre_tokenizer = _pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(EOS_TOKEN, special=True, normalized=False)])
    backend.encode_special_tokens = True  # tokenizer.json does not keep this setting, so every load makes it.
    return backend
