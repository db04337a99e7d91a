"""`HarnessModel`: a model of ours as lm-evaluation-harness (package `lm_eval`, extra `eval`) wants one."""

import collections
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from algpt2.config.sampling import SamplingConfig
from algpt2.devices.strategies import host_device, is_tpu
from algpt2.errors import UserError
from algpt2.evaluation.continuations import Continuation, encode_together, score_continuations
from algpt2.evaluation.generation import CachedDecoder, Row
from algpt2.evaluation.scorer import Scorer, in_groups
from algpt2.model.gpt import GPT
from algpt2.progress import progress_bar
from algpt2.text.tokenizer import Tokenizer

MOST_NEW_TOKENS = 256  # as in the harness's own models, where a task does not say
# Their names are Hugging Face's, which task files use.
SAMPLING_OPTIONS = tuple(
    field.name for field in dataclasses.fields(SamplingConfig) if field.name not in ("max_new_tokens", "seed")
)


class HarnessModel(LM):
    """The three questions that lm-evaluation-harness asks of a model, answered by a `Scorer` and a `CachedDecoder`.

    Its answers are those of the harness's own `hf` model with the same weights, but for a text that spells
    `<|endoftext|>`: that is ordinary text here and one token there.
    """

    def __init__(self, scorer: Scorer, tokenizer: Tokenizer, jit_compile: bool = True):
        """Prepares the answers; nothing is compiled yet.

        Args:
          scorer: of the model.
          tokenizer: the one that the model was trained with.
          jit_compile: whether XLA compiles the generation of text where it can.
        """
        super().__init__()
        self.scorer = scorer
        self.max_length = scorer.model.config.seq_len
        self._tokenizer = tokenizer
        self._jit_compile = jit_compile

    @property
    def tokenizer_name(self) -> str:
        """The SHA-256 of the tokenizer, by which the harness tells caches of requests apart."""
        return self._tokenizer.sha256

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Returns the log-likelihood of each continuation, and whether it is what greedy decoding would give.

        Args:
          requests: each with the arguments (context, continuation).
        """
        scores = score_continuations(self.scorer, encode_together(self._tokenizer, [one.args for one in requests]))
        return list(zip((-scores.nats).tolist(), scores.is_greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Returns the log-likelihood of each whole text behind EOS, in the harness's windows: one token of context.

        Args:
          requests: each with the argument (text,).
        """
        windows = [self._rolling_windows(text) for (text,) in (request.args for request in requests)]
        scores = score_continuations(self.scorer, [window for of_text in windows for window in of_text])
        nats = iter(scores.nats.tolist())
        return [-sum(next(nats) for _ in of_text) for of_text in windows]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Returns the text that follows each context, up to the first of its stop texts.

        Args:
          requests: each with the arguments (context, generation options).

        Raises:
          UserError: a task's options are none of ours, or leave no room for a context.
        """
        groups: dict[str, list[int]] = collections.defaultdict(list)
        for i, request in enumerate(requests):
            groups[json.dumps(request.args[1], sort_keys=True)].append(i)
        texts: dict[int, str] = {}
        with progress_bar("generating", "text", len(requests)) as progress:
            for options, members in groups.items():
                config, stops = self._settings(json.loads(options))
                # Rows of similar length share a batch, because one that has no new token yet waits for the others.
                rows = sorted(
                    (self._row(requests[i].args[0], i, config) for i in members), key=lambda row: len(row.ids)
                )
                for some_rows in in_groups(rows, self.scorer.batch_size):
                    made = self._continued(some_rows, stops, config)
                    texts.update(zip((row.sample for row in some_rows), made, strict=True))
                    progress.update(len(some_rows))
        return [texts[i] for i in range(len(requests))]

    @functools.cached_property
    def _decoder(self) -> CachedDecoder:
        """Made when a task first generates; of a copy on the host if the model lies on several devices or on a TPU."""
        model, strategy = self.scorer.model, self.scorer.strategy
        if strategy.num_replicas_in_sync > 1 or is_tpu(strategy):
            with tf.device(host_device(strategy)):
                on_host = GPT(model.config)
                on_host.copy_parameters(model)
                return CachedDecoder(on_host, self._jit_compile)
        return CachedDecoder(model, self._jit_compile)

    def _rolling_windows(self, text: str) -> list[Continuation]:
        ids = self._tokenizer.encode(text)
        windows = get_rolling_token_windows(ids, self._tokenizer.eos_id, self.max_length, context_len=1)
        return [Continuation(tuple(context), tuple(rest)) for context, rest in map(make_disjoint_window, windows)]

    def _row(self, context: str, sample: int, config: SamplingConfig) -> Row:
        """Returns a context, which loses its first tokens where it leaves no room for the new ones."""
        ids = self._tokenizer.encode(context)[config.max_new_tokens - self.max_length :]
        return Row(ids or [self._tokenizer.eos_id], sample)

    def _continued(self, rows: Sequence[Row], stops: Sequence[str], config: SamplingConfig) -> list[str]:
        """Returns the texts that follow rows, which end together: when each has a stop text, or all tokens are made."""
        ids: list[list[int]] = [[] for _ in rows]
        texts: list[str] = []
        filled = [*rows, *[None] * (self.scorer.batch_size - len(rows))]
        for pieces in self._decoder.pieces(filled, self._tokenizer.eos_id, config):
            for of_row, piece in zip(ids, pieces, strict=False):
                of_row += piece
            texts = [self._tokenizer.decode(of_row) for of_row in ids]
            if all(any(stop in text for stop in stops) for text in texts):
                break
        return [postprocess_generated_text(text, stops, think_end_token=None) for text in texts]

    def _settings(self, options: Mapping[str, Any]) -> tuple[SamplingConfig, list[str]]:
        """Returns how a task wants its texts drawn, and the texts at which they stop."""
        options = normalize_gen_kwargs(dict(options), min(MOST_NEW_TOKENS, self.max_length // 2))
        unknown = {*options} - {"until", "do_sample", "max_gen_toks", *SAMPLING_OPTIONS}
        if unknown:
            raise UserError(
                f"a task's generation_kwargs must be until, do_sample, max_gen_toks, {', '.join(SAMPLING_OPTIONS)}, "
                f"and one has {', '.join(sorted(unknown))}: leave that out of its file, or leave the task out."
            )
        if not 1 <= options["max_gen_toks"] < self.max_length:
            raise UserError(
                f"a task must ask for from 1 to {self.max_length - 1} new tokens, because the model has "
                f"{self.max_length} positions, and one asks for {options['max_gen_toks']}: change its max_gen_toks."
            )
        given = {name: options[name] for name in SAMPLING_OPTIONS if options.get(name) is not None}
        stops = [stop for stop in handle_stop_sequences(options["until"], eos=None) if stop]
        return SamplingConfig(max_new_tokens=options["max_gen_toks"], **given), stops
