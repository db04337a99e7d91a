"""`HarnessModel`: a model of ours as lm-evaluation-harness (package `lm_eval`, extra `eval`) wants one."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from algpt2.config.sampling import SamplingConfig
from algpt2.data.tokenizer import Tokenizer
from algpt2.errors import UserError
from algpt2.evaluation.continuations import Continuation, encode_together, score_continuations
from algpt2.evaluation.generation import CachedDecoder, generate_ids
from algpt2.evaluation.scorer import Scorer
from algpt2.model.gpt import GPT
from algpt2.progress import progress_bar

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
        texts = []
        with progress_bar("generating", "text", len(requests)) as progress:
            for seed, (context, options) in enumerate(request.args for request in requests):
                texts.append(self._continued(context, options, seed))
                progress.update(1)
        return texts

    @functools.cached_property
    def _decoder(self) -> CachedDecoder:
        """Made when a task first generates; of a copy on the host if the model lies on several devices or on a TPU."""
        model, strategy = self.scorer.model, self.scorer.strategy
        if strategy.num_replicas_in_sync > 1 or isinstance(strategy, tf.distribute.TPUStrategy):
            with tf.device("/CPU:0"):
                on_host = GPT(model.config)
                on_host.copy_parameters(model)
                return CachedDecoder(on_host, self._jit_compile)
        return CachedDecoder(model, self._jit_compile)

    def _rolling_windows(self, text: str) -> list[Continuation]:
        ids = self._tokenizer.encode(text)
        windows = get_rolling_token_windows(ids, self._tokenizer.eos_id, self.max_length, context_len=1)
        return [Continuation(tuple(context), tuple(rest)) for context, rest in map(make_disjoint_window, windows)]

    def _continued(self, context: str, options: Mapping[str, Any], seed: int) -> str:
        options = normalize_gen_kwargs(dict(options), min(MOST_NEW_TOKENS, self.max_length // 2))
        stops = [stop for stop in handle_stop_sequences(options["until"], eos=None) if stop]
        config = self._sampling(options, seed)
        prompt = self._tokenizer.encode(context)[config.max_new_tokens - self.max_length :] or [self._tokenizer.eos_id]
        ids, text = [], ""
        for token in generate_ids(self._decoder, prompt, self._tokenizer.eos_id, config):
            ids.append(token)
            text = self._tokenizer.decode(ids)
            if any(stop in text for stop in stops):
                break
        return postprocess_generated_text(text, stops, think_end_token=None)

    def _sampling(self, options: Mapping[str, Any], seed: int) -> SamplingConfig:
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
        return SamplingConfig(max_new_tokens=options["max_gen_toks"], seed=seed, **given)
