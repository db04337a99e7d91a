"""`ConfiguredLayer`: what all parts of a model have in common."""

from typing import Any

import keras

from algpt2.config.model import GPTConfig


class ConfiguredLayer(keras.layers.Layer):
    """A part of a model with this `GPTConfig`, which Keras can write to a file and make again."""

    def __init__(self, config: GPTConfig, **kwargs: Any):
        """Makes the layer, its parameters not yet created.

        Args:
          config: of the model.
          kwargs: `dtype`, `name` and what else every Keras layer takes.
        """
        super().__init__(**kwargs)
        self.config = config

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ConfiguredLayer":
        """Returns a new layer from `get_config`'s fields."""
        return cls(**{**config, "config": GPTConfig(**config["config"])})
