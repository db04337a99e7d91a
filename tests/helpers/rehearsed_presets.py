"""The memory of a preset's step on a v3 core, found in a process of its own, which gives its gigabytes back."""

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig


def peak_hbm_bytes(name, config, **model_fields):
    """Returns the peak of a preset's step, by the TPU's compiler, with some fields of the model set."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_hbm_bytes, name, config, model_fields).result()


def _peak_hbm_bytes(name: str, config: TrainConfig, model_fields: dict) -> int:
    from algpt2.preflight.step_export import export_training_step
    from algpt2.preflight.tpu_compiler import compile_for_tpu

    model_config = dataclasses.replace(GPTConfig.from_preset(name), **model_fields)
    return compile_for_tpu(export_training_step(model_config, config), "v3").peak_hbm_bytes
