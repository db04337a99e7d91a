"""Where a model's configuration is found: a preset, a JSON file, a checkpoint, a folder of Hugging Face's."""

from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.config import huggingface
from algpt2.config.model import GPTConfig, config_from_dict, preset_names
from algpt2.errors import UserError
from algpt2.storage import json_files

CONFIG_NAME = "config.json"
# Under this key a checkpoint's config.json holds our fields; its other fields are for Hugging Face transformers.
OWN_KEY = "algpt2"
MODEL_TYPES = ("gpt2", "algpt2")


def preset_of(config: GPTConfig) -> str | None:
    """Returns the name of the preset that a model equals, None if there is none."""
    return next((name for name in preset_names() if GPTConfig.from_preset(name) == config), None)


def load_config(name_or_path: str, model_type: str | None = None) -> GPTConfig:
    """Returns the config that a preset's name, a JSON file, or a folder with `config.json` stands for.

    A file has our fields, or our fields under the key `algpt2`, or Hugging Face's keys of a GPT-2, which is logged.

    Args:
      name_or_path: the name or the path.
      model_type: one of `MODEL_TYPES`, of a file with Hugging Face's keys that does not say its own.

    Raises:
      UserError: nothing of that name, not JSON, unknown keys, or a model that ours is not.
    """
    if name_or_path in preset_names():
        return GPTConfig.from_preset(name_or_path)
    path = name_or_path if name_or_path.endswith(".json") else storage.join(name_or_path, CONFIG_NAME)
    if not storage.exists(path):
        raise UserError(
            f"--config_path must be a preset ({', '.join(preset_names())}), a JSON file or a folder with "
            f"{CONFIG_NAME}, received {name_or_path!r}."
        )
    with json_files.refusing(path, "be a JSON object of a model's fields", "mend it or name another --config_path"):
        fields = json_files.load_object(path)
        own_fields = fields.get(OWN_KEY, fields)
        if not isinstance(own_fields, dict):
            raise ValueError(f"its {OWN_KEY} is no object")
        if own_fields is fields and huggingface.is_huggingface(fields):
            return config_from_huggingface({"model_type": model_type, **fields} if model_type else fields, path)
    return config_from_dict(own_fields, path)


def config_from_huggingface(fields: dict[str, Any], path: str) -> GPTConfig:
    """Returns the config that Hugging Face's keys stand for, and logs which preset it is.

    Args:
      fields: the content of a `config.json`, without ours under `OWN_KEY`.
      path: of the file, for the log.

    Raises:
      ValueError: an unknown key, a value of another type, or one that stands for what our model does not compute.
      UserError: a value breaks a rule of `GPTConfig`.
    """
    keys = huggingface.shaping_keys(fields)
    config = GPTConfig(**json_files.build(huggingface.HuggingFaceConfig, keys).own_fields())
    preset = preset_of(config)
    equal = f"the preset {preset}" if preset else "none of the presets"
    logging.info("%s has Hugging Face's keys; its model is %s", path, equal)
    return config
