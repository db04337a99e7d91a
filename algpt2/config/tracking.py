"""`TrackingConfig`: how a run is watched while it trains. Nothing here changes the weights."""

import dataclasses
from typing import Any

from algpt2.config.options import option, require
from algpt2.config.sampling import SamplingConfig
from algpt2.devices.chips import CHIPS


@dataclasses.dataclass(frozen=True)
class TrackingConfig:
    """Where curves go beside `metrics.jsonl`, which texts are sampled, and on what device utilisation is counted.

    Each field says what it is in its option's help text.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    tensorboard: bool = option(True, "write the curves for TensorBoard, into MODEL_DIR/tensorboard")
    wandb_project: str | None = option(None, "write the curves to this Weights & Biases project (extra `wandb`)")
    sample_prompt: tuple[str, ...] = option((), "continue these texts every --eval_every_steps, into samples.jsonl")
    sample_tokens: int = option(50, "most tokens of each sample")
    sample_temperature: float = option(0.8, "divides the logits of samples; 0 always takes the likeliest token")
    device_kind: str | None = option(None, "what trains, for the utilisation (default: found out)", tuple(CHIPS))

    def __post_init__(self) -> None:
        temperature = self.sample_temperature
        require(self.wandb_project != "", "wandb_project", "a project's name", self.wandb_project)
        require(self.sample_tokens >= 1, "sample_tokens", "at least 1", self.sample_tokens)
        rule = "0, or from 0.01 to 100"
        require(temperature == 0 or 0.01 <= temperature < 100, "sample_temperature", rule, temperature)
        kinds = (None, *CHIPS)
        require(self.device_kind in kinds, "device_kind", f"one of {', '.join(CHIPS)}", self.device_kind)

    def sampling(self) -> SamplingConfig:
        """Returns how samples are drawn: the same draws at every validation."""
        return SamplingConfig(max_new_tokens=self.sample_tokens, temperature=self.sample_temperature)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON values."""
        return {**dataclasses.asdict(self), "sample_prompt": list(self.sample_prompt)}
