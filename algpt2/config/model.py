"""`GPTConfig`: the shape of a model. Named models live in `presets/*.json`, one file each."""

import dataclasses
from importlib import resources
from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.config import huggingface
from algpt2.config.options import COUNT
from algpt2.errors import UserError, shown
from algpt2.storage import json_files

CONFIG_NAME = "config.json"
# Under this key a checkpoint's config.json holds our fields; its other fields are for Hugging Face transformers.
OWN_KEY = "algpt2"
MODEL_TYPES = ("gpt2", "algpt2")


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT-2 or ALGPT-2 decoder. The defaults are GPT-2's.

    Args:
      vocab_size: rows of the token table.
      seq_len: the most positions of a sequence, and the rows of the position table.
      n_layer: block applications, whether the blocks are shared or not.
      n_head: attention heads of a block; d_model is a multiple of it.
      d_model: width of the residual stream.
      d_ff: width of the hidden layer of a block's feed-forward part; None means 4 x d_model.
      embedding_size: width of both embedding tables when they are factorized (ALBERT, arXiv:1909.11942), with a dense
        layer into and out of the residual stream; None means tables of width d_model.
      share_layers: whether one block's parameters are applied n_layer times.
      dropout: probability in [0, 1), of embeddings, attention weights and each block's two outputs.

    Example:

    >>> import dataclasses
    >>> import algpt2
    >>> gpt2 = algpt2.GPTConfig()
    >>> gpt2.parameter_count()
    124439808
    >>> dataclasses.replace(gpt2, share_layers=True, embedding_size=128).parameter_count()
    13850880

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    vocab_size: int = 50257
    seq_len: int = 1024
    n_layer: int = 12
    n_head: int = 12
    d_model: int = 768
    d_ff: int | None = None
    embedding_size: int | None = None
    share_layers: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("vocab_size", "seq_len", "n_layer", "n_head", "d_model"):
            _require_positive_int(name, getattr(self, name))
        for name in ("d_ff", "embedding_size"):
            if getattr(self, name) is not None:
                _require_positive_int(name, getattr(self, name))
        if not isinstance(self.share_layers, bool):
            raise UserError(f"share_layers must be true or false, received {shown(self.share_layers)}.")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be a fraction in [0, 1), received {shown(self.dropout)}.")
        if self.d_model % self.n_head:
            raise UserError(
                f"d_model must be a multiple of n_head, received d_model={self.d_model} and n_head={self.n_head}."
            )

    @property
    def head_size(self) -> int:
        """The width of one attention head."""
        return self.d_model // self.n_head

    @property
    def feed_forward_size(self) -> int:
        """The width of the hidden layer of a block's feed-forward part."""
        return self.d_ff or 4 * self.d_model

    @property
    def table_width(self) -> int:
        """The width of the token and position tables."""
        return self.embedding_size or self.d_model

    @property
    def n_block(self) -> int:
        """How many blocks have parameters of their own: 1 if they are shared."""
        return 1 if self.share_layers else self.n_layer

    @property
    def model_type(self) -> str:
        """'algpt2' if blocks are shared or embeddings factorized, else 'gpt2'."""
        return "algpt2" if self.share_layers or self.embedding_size else "gpt2"

    def parameter_count(self) -> int:
        """Returns the number of trainable parameters, a shared one counted once."""
        d, f, e = self.d_model, self.feed_forward_size, self.table_width
        tables = (self.vocab_size + self.seq_len) * e
        projections = (e * d + d) + (d * e + e) if self.embedding_size else 0
        attention = (3 * d * d + 3 * d) + (d * d + d)
        feed_forward = (d * f + f) + (f * d + d)
        layer_norms = 2 * (2 * d)
        return tables + projections + self.n_block * (attention + feed_forward + layer_norms) + 2 * d

    @classmethod
    def from_preset(cls, name: str) -> "GPTConfig":
        """Returns a named model's config.

        Args:
          name: one of `preset_names()`, for example "gpt2" or "algpt2".

        Raises:
          UserError: no such name.
        """
        if name not in preset_names():
            raise UserError(f"a preset must be one of {', '.join(preset_names())}, received {name!r}.")
        text = resources.files("algpt2.config").joinpath("presets", f"{name}.json").read_text(encoding="utf-8")
        return config_from_dict(json_files.parse_object(text), f"the preset {name}.json")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON values."""
        return dataclasses.asdict(self)


def config_from_dict(fields: dict[str, Any], source: str) -> GPTConfig:
    """Returns the config with these fields.

    Args:
      fields: names and values; what is missing has its default.
      source: where the fields come from, for errors.

    Raises:
      UserError: an unknown key, or a value of another type or that breaks a rule.
    """
    known = ", ".join(field.name for field in dataclasses.fields(GPTConfig))
    with json_files.refusing(source, "be a JSON object of a model's fields", f"it may hold {known}"):
        return json_files.build(GPTConfig, fields)


def preset_names() -> list[str]:
    """Returns the names of the models in `presets/`."""
    files = resources.files("algpt2.config").joinpath("presets").iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


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


def _require_positive_int(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, received {shown(value)}.")
    if not COUNT.holds(value):
        raise UserError(f"{name} must be {COUNT.text}, received {shown(value)}.")
