"""Texts that a model in training makes of fixed prompts: one copy of it on the host, compiled once a run."""

import tensorflow as tf

from algpt2.data.tokenizer import Tokenizer
from algpt2.devices.strategies import host_device
from algpt2.evaluation.generation import CachedDecoder, generate_ids, prompt_ids
from algpt2.model.gpt import GPT
from algpt2.runs.plan import Run
from algpt2.tracking.metrics import Sample


def sample_prompts(run: Run, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Returns the ids of every prompt of a run.

    Raises:
      UserError: one is not Unicode text, or does not fit into the model's context with the tokens to come.
    """
    n_tokens, seq_len = run.tracking.sample_tokens, run.model_config.seq_len
    return {
        prompt: prompt_ids(tokenizer, prompt, seq_len, n_tokens, "--sample_tokens")
        for prompt in run.tracking.sample_prompt
    }


class Sampler:
    """Continues a run's prompts with the present parameters, with the same draws each time.

    It is for one process alone: nothing in it crosses to other replicas or workers, and nothing of the run's own state
    is touched. The copy computes in float32, as `generate.py` does, so its texts are those of a checkpoint.
    """

    def __init__(self, run: Run, model: GPT, tokenizer: Tokenizer, strategy: tf.distribute.Strategy):
        self.prompts = sample_prompts(run, tokenizer)
        self.sampling = run.tracking.sampling()
        self._model = model
        self._tokenizer = tokenizer
        self._device = host_device(strategy)
        with tf.device(self._device):
            self._copy = GPT(run.model_config)
            self._decoder = CachedDecoder(self._copy, run.train_config.jit_compile)

    def __call__(self) -> list[Sample]:
        """Returns a sample of each prompt."""
        with tf.device(self._device):
            self._copy.copy_parameters(self._model)
            return [Sample(prompt, self._continue(ids)) for prompt, ids in self.prompts.items()]

    def _continue(self, ids: list[int]) -> str:
        eos_id = self._tokenizer.eos_id
        return self._tokenizer.decode(list(generate_ids(self._decoder, ids, eos_id, self.sampling)))
