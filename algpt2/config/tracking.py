"""`TrackingConfig`: how a run is watched while it trains. Nothing here changes the weights."""

import dataclasses
from typing import Any

from algpt2.config.options import TEMPERATURE, Rule, at_least, option, require_rules
from algpt2.config.sampling import SamplingConfig
from algpt2.devices.chips import CHIPS
from algpt2.errors import UserError, shown

FILE = Rule("the path of a file", lambda path: path != "")


@dataclasses.dataclass(frozen=True)
class TrackingConfig:
    """Where curves go beside `metrics.jsonl`, what is sampled and scored, and the device to count the utilisation of.

    Each option says what it is in its help text. `tensorboard_dir` is the folder of TensorBoard's files, None for
    MODEL_DIR/tensorboard. It is no option, because the runs of a study would share it.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    tensorboard: bool = option(True, "write the curves for TensorBoard")
    wandb_project: str | None = option(
        None,
        "write the curves to this Weights & Biases project (extra `wandb`)",
        rule=Rule("a project's name", lambda name: name != ""),
    )
    sample_prompt: tuple[str, ...] = option((), "continue these texts every --eval_every_steps, into samples.jsonl")
    sample_tokens: int = option(50, "most tokens of each sample", rule=at_least(1))
    sample_temperature: float = option(
        0.8, "divides the logits of samples; 0 always takes the likeliest token", rule=TEMPERATURE
    )
    eval_wikitext: str | None = option(
        None, "a WikiText file (wiki.valid.raw), of which perplexity is taken every --eval_every_steps", rule=FILE
    )
    eval_hellaswag: str | None = option(
        None, "HellaSwag's hellaswag_val.jsonl, of which accuracy is taken every --eval_every_steps", rule=FILE
    )
    eval_lambada: str | None = option(
        None, "LAMBADA's test file, of which accuracy and perplexity are taken every --eval_every_steps", rule=FILE
    )
    device_kind: str | None = option(None, "what trains, for the utilisation (default: found out)", tuple(CHIPS))
    tensorboard_dir: str | None = None

    def __post_init__(self) -> None:
        require_rules(self)
        if self.tensorboard_dir is not None and not (self.tensorboard_dir and self.tensorboard):
            raise UserError(
                "--tensorboard_dir must name a folder for TensorBoard's files, without --no-tensorboard, received "
                f"{shown(self.tensorboard_dir)}{'' if self.tensorboard else ' and --no-tensorboard'}: leave one out."
            )

    def sampling(self) -> SamplingConfig:
        """Returns how samples are drawn; the seed is always the same, so that samples differ by the weights alone."""
        return SamplingConfig(max_new_tokens=self.sample_tokens, temperature=self.sample_temperature)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON values."""
        return {**dataclasses.asdict(self), "sample_prompt": list(self.sample_prompt)}
