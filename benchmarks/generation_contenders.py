"""The generation that is timed: each function takes a task and returns one that makes so many tokens of each row.

All have the same weights and prompts, take the likeliest token in float32, and return the sum of the last text's ids.
Each runs in a process of its own and imports only its own libraries.
"""

import os
from typing import NamedTuple

import numpy as np

from algpt2.config.model import GPTConfig
from benchmarks.turns import Work

WEIGHTS = "weights.npz"


class Task(NamedTuple):
    """What is continued.

    Attributes:
      config: of a GPT-2.
      folder: with the weights, from `write_weights`.
      prompts: int64 (B, L).
      new_tokens: how many are made of each prompt.
    """

    config: GPTConfig
    folder: str
    prompts: np.ndarray
    new_tokens: int


def write_weights(config: GPTConfig, folder: str) -> None:
    """Writes random weights into a folder, wide enough that the likeliest token changes from place to place."""
    from algpt2.model.gpt import GPT

    weights = {name: parameter.numpy() for name, parameter in GPT(config).named_parameters().items()}
    rng = np.random.default_rng(0)
    weights["wpe.weight"] = rng.normal(scale=0.2, size=weights["wpe.weight"].shape).astype(np.float32)
    np.savez(os.path.join(folder, WEIGHTS), **weights)


def ours(task: Task) -> Work:
    """Continues by `CachedDecoder`, compiled by XLA."""
    from algpt2.config.sampling import SamplingConfig
    from algpt2.evaluation.generation import CachedDecoder, Row

    n_prompt, vocab_size = task.prompts.shape[1], task.config.vocab_size
    decoder = CachedDecoder(_our_model(task), least_tokens=n_prompt + task.new_tokens)
    rows = [Row(prompt) for prompt in task.prompts.tolist()]

    def work(new_tokens: int) -> float:
        config = SamplingConfig(max_new_tokens=new_tokens, temperature=0)
        texts = decoder.continued(rows, vocab_size - 1, config)
        if min(map(len, texts)) < new_tokens:
            raise ValueError("a text ended early: change the seed of the weights")
        return float(sum(texts[-1]))

    return work


def ours_uncached(task: Task) -> Work:
    """Passes a whole text through the model for each token, compiled by XLA.

    A text grows from the prompt to the end. The pass has the mean length, which takes what all lengths take on average.
    """
    from algpt2.devices.compilation import graph_function

    model = _our_model(task)
    forward = graph_function(lambda ids: model(ids)[:, -1])
    ids = np.resize(task.prompts, (len(task.prompts), task.prompts.shape[1] + task.new_tokens // 2)).astype(np.int32)

    def work(new_tokens: int) -> None:
        for _ in range(new_tokens):
            forward(ids).numpy().argmax(axis=-1)

    return work


def transformers_cached(task: Task) -> Work:
    """Continues by the `generate` of Hugging Face's library, with its cache."""
    import torch
    import transformers

    config = task.config
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.seq_len,
            n_embd=config.d_model,
            n_layer=config.n_layer,
            n_head=config.n_head,
        )
    ).eval()
    with np.load(os.path.join(task.folder, WEIGHTS)) as weights:
        state = {f"transformer.{name}": torch.from_numpy(value) for name, value in weights.items()}
    model.load_state_dict({**state, "lm_head.weight": state["transformer.wte.weight"]})
    prompts = torch.from_numpy(task.prompts)
    options = {"do_sample": False, "use_cache": True, "eos_token_id": None, "pad_token_id": 0}

    def work(new_tokens: int) -> float:
        with torch.inference_mode():
            made = model.generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new_tokens, **options
            )
        return float(made[-1, prompts.shape[1] :].sum())

    return work


def _our_model(task: Task):
    from algpt2.model.gpt import GPT

    model = GPT(task.config)
    with np.load(os.path.join(task.folder, WEIGHTS)) as weights:
        for name, parameter in model.named_parameters().items():
            parameter.assign(weights[name])
    return model


CONTENDERS = {"ours": ours, "transformers": transformers_cached}
