"""ALGPT-2: pretrain GPT-2 and ALBERT-style GPT-2 with TensorFlow and Keras on TPUs, GPUs or a laptop.

The public names are imported when they are first asked for. TensorFlow is imported by `GPT` and `load_model` only.
Once `GPT` is imported, `keras.saving.load_model` reads models that `model.save("model.keras")` wrote.

Example:

>>> import algpt2
>>> algpt2.GPTConfig.from_preset("algpt2").parameter_count()
13850880
>>> algpt2.GPT.from_preset("algpt2-tiny").count_params()
342048
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algpt2.config.model import GPTConfig
    from algpt2.model.gpt import GPT
    from algpt2.text.tokenizer import Tokenizer

__version__ = "0.1.0"
__all__ = ["GPT", "GPTConfig", "Tokenizer", "load_model"]

_HOMES = {"GPT": "algpt2.model.gpt", "GPTConfig": "algpt2.config.model", "Tokenizer": "algpt2.text.tokenizer"}


def load_model(checkpoint: str, dtype: str = "float32", ema: bool = False, seq_len: int | None = None) -> "GPT":
    """Returns the trained model of a checkpoint, for evaluation or generation.

    Args:
      checkpoint: a checkpoint's folder, or a run's `--model_dir`, whose newest intact checkpoint is taken; on disk or
        gs://.
      dtype: the policy of the computation: "float32", or "mixed_bfloat16" on TPU.
      ema: whether to take the moving average of the weights (`--ema_decay`) instead of the last ones.
      seq_len: positions of the model's windows and texts, if not those of its training; it must have ALiBi.

    Raises:
      UserError: there is no checkpoint, it is damaged, it has no average or not as many positions, or no usable
        TensorFlow is installed.
    """
    _require_tensorflow_backend()
    from algpt2.checkpoints import save_load

    return save_load.load_model(checkpoint, dtype, ema, seq_len)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "GPT":
        _require_tensorflow_backend()
        # Registers optimizers and schedules, so that `keras.saving.load_model` finds them as it finds the model.
        importlib.import_module("algpt2.optim")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _require_tensorflow_backend() -> None:
    """Makes TensorFlow the backend of Keras, or says why it cannot be."""
    from algpt2.devices import wheels
    from algpt2.errors import UserError

    wheels.require_tensorflow()
    if "keras" in sys.modules and (backend := sys.modules["keras"].backend.backend()) != "tensorflow":
        raise UserError(
            f"Keras' backend must be tensorflow, and it was imported with {backend}: set KERAS_BACKEND=tensorflow, or "
            "ask for algpt2's GPT or load_model before the first `import keras`."
        )
