"""Texts of a model in training: those of its checkpoint, and without a trace in its weights."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import numpy as safetensors
from tiny_run import STEPS, tiny_run, train_tiny

from algpt2.checkpoints.folder import checkpoint_folder
from algpt2.checkpoints.save_load import load_model
from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError
from algpt2.evaluation.generation import CachedDecoder, generate
from algpt2.text.tokenizer import Tokenizer
from algpt2.training.sampler import Sampler

PROMPTS = ("alpha beta", "", "zeta")
SAMPLING = TrackingConfig(tensorboard=False, sample_prompt=PROMPTS, sample_tokens=4, sample_temperature=2.0)


def samples(model_dir):
    return [json.loads(line) for line in Path(model_dir, "samples.jsonl").read_text().splitlines()]


def tensors(run):
    folder = checkpoint_folder(run.model_dir, STEPS)
    return [Path(folder, f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


@pytest.fixture(scope="module")
def sampled(records_folder, tmp_path_factory):
    """A run with dropout, so that a disturbed seed would show; the graphs that its sampler had, and the logits."""
    run = tiny_run(records_folder, tmp_path_factory.mktemp("sampled"), SAMPLING)
    run = dataclasses.replace(run, model_config=dataclasses.replace(run.model_config, dropout=0.1))
    compiled, drawn_from = [], []
    call = Sampler.__call__

    def counting(self):
        texts = call(self)
        compiled.append(self.decoder.graph_count())
        drawn_from.append(self.decoder.model(np.array([[1, 2, 3]])).numpy())
        return texts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sampler, "__call__", counting)
        train_tiny(run)
    return run, compiled, drawn_from


def test_every_validation_samples_every_prompt(sampled):
    found = samples(sampled[0].model_dir)
    assert [(line["step"], line["prompt"]) for line in found] == [(s, p) for s in (4, 8, 10) for p in PROMPTS]
    first, second, third = sampled[2]
    assert abs(first - second).max() > 0.01, "the copy follows the model"
    assert abs(second - third).max() > 0.01


def test_sampling_compiles_once_a_run(sampled):
    assert sampled[1] == [1, 1, 1]


def test_sampling_leaves_no_trace_in_weights_and_optimizer(sampled, tmp_path):
    run = dataclasses.replace(sampled[0], model_dir=str(tmp_path), tracking=TrackingConfig(tensorboard=False))
    train_tiny(run)
    assert tensors(run) == tensors(sampled[0])
    assert not (tmp_path / "samples.jsonl").exists()


def test_the_last_samples_are_what_the_last_checkpoint_generates(sampled):
    run = sampled[0]
    folder = checkpoint_folder(run.model_dir, STEPS)
    decoder, tokenizer = CachedDecoder(load_model(folder), jit_compile=False), Tokenizer.load(folder)
    expected = [generate(decoder, tokenizer, prompt, SAMPLING.sampling()) for prompt in PROMPTS]
    assert [line["text"] for line in samples(run.model_dir)[-3:]] == expected


def test_two_replicas_in_bfloat16_are_sampled_too_without_validation_records(records_folder, tmp_path):
    from tiny_step import TWO, strategy_of

    run = tiny_run(records_folder, tmp_path, SAMPLING, compute_dtype="bfloat16", total_steps=2)
    train_tiny(dataclasses.replace(run, val_records=None), strategy_of(TWO))
    assert [line["prompt"] for line in samples(tmp_path)] == list(PROMPTS)
    written = safetensors.load_file(f"{checkpoint_folder(run.model_dir, 2)}/model.safetensors")
    assert {tensor.dtype.name for tensor in written.values()} == {"float32"}


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_written(records_folder, tmp_path):
    tracking = dataclasses.replace(SAMPLING, sample_tokens=15)
    with pytest.raises(UserError, match="must fit into the model's 16 positions.*--sample_tokens 15: shorten either"):
        train_tiny(tiny_run(records_folder, tmp_path / "run", tracking))
    assert not (tmp_path / "run").exists()
