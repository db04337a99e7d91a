"""Texts that a model in training makes of fixed prompts: one copy of it on the host, compiled once a run."""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from algpt2.config.sampling import SamplingConfig
from algpt2.config.tracking import TrackingConfig
from algpt2.evaluation.generation import CachedDecoder, Row, prompt_ids
from algpt2.model.gpt import GPT
from algpt2.text.tokenizer import Tokenizer
from algpt2.tracking.metrics import Sample


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The prompts of a run with their token ids, and how they are continued."""

    ids: Mapping[str, Sequence[int]]
    tokenizer: Tokenizer
    sampling: SamplingConfig

    @classmethod
    def of(cls, tracking: TrackingConfig, tokenizer: Tokenizer, seq_len: int) -> "Prompts":
        """Returns the prompts of a run whose model has `seq_len` positions.

        Raises:
          UserError: one is not Unicode text, or does not fit into the model's context with the tokens to come.
        """
        ids = {
            prompt: prompt_ids(tokenizer, prompt, seq_len, tracking.sample_tokens, "--sample_tokens")
            for prompt in tracking.sample_prompt
        }
        return cls(ids, tokenizer, tracking.sampling())


class Sampler:
    """Continues prompts with the present parameters of a model, with the same draws each time.

    It is for one process alone: nothing in it crosses to other replicas or workers, and nothing of the run's own state
    is touched. The copy computes in float32, as `generate.py` does, so its texts are those of a checkpoint.
    """

    def __init__(self, model: GPT, prompts: Prompts, device: str, jit_compile: bool = True):
        """Makes a copy of the model on a device, which should be the host's CPU."""
        self.prompts = prompts
        self._model = model
        self._device = device
        with tf.device(device):
            self._copy = GPT(model.config)
            self.decoder = CachedDecoder(self._copy, jit_compile)

    def __call__(self) -> list[Sample]:
        """Returns a sample of each prompt."""
        ids, tokenizer = self.prompts.ids, self.prompts.tokenizer
        with tf.device(self._device):
            self._copy.copy_parameters(self._model)
            rows = [Row(row) for row in ids.values()]
            continuations = self.decoder.continued(rows, tokenizer.eos_id, self.prompts.sampling)
        return [Sample(prompt, tokenizer.decode(new)) for prompt, new in zip(ids, continuations, strict=True)]
