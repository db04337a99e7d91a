"""A study as its TOML file describes it: a question, arms that differ in a few fields, rates and seeds."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from algpt2 import storage
from algpt2.config.model import GPTConfig
from algpt2.config.options import COUNT
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError, shown
from algpt2.storage import json_files, toml_files
from algpt2.studies.spec_checks import check_spec

Fields = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Base:
    """What all arms have in common: a preset's name, and fields of `GPTConfig` and `TrainConfig` to change in it."""

    preset: str
    model: Fields = dataclasses.field(default_factory=dict)
    training: Fields = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the things compared: what differs from the base.

    Attributes:
      name: of the arm.
      model: fields of `GPTConfig`.
      training: fields of `TrainConfig`.
      learning_rates: the grid, in ascending order; one rate means that nothing is selected.
      records: a name that the command line gives to other training records; None means the study's.
      bugs: names of `algpt2.studies.original_bugs` that it is trained with.
    """

    name: str
    model: Fields
    training: Fields
    learning_rates: tuple[float, ...]
    records: str | None
    bugs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two arms whose difference is reported: the first minus the second."""

    arms: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The arms that it names."""
        return self.arms


@dataclasses.dataclass(frozen=True)
class Gap:
    """A gap between an arm and its control, and a change that may close it, made to both."""

    arm: str
    control: str
    changed: str
    changed_control: str

    @property
    def names(self) -> tuple[str, ...]:
        """The arms that it names."""
        return (self.arm, self.control, self.changed, self.changed_control)


@dataclasses.dataclass(frozen=True)
class Spec:
    """A whole study, checked. Two are equal if they say the same, whatever their comments.

    Attributes:
      question: what is asked.
      decision: the rule by which it is answered, written before the runs.
      tokens: target tokens that each cell is trained on.
      learning_rates: the grid, in ascending order, of arms that have none of their own.
      selection_seeds: seeds of the cells by which an arm's rate is chosen.
      confirmation_seeds: fresh seeds, of the cells at the chosen rates.
      most_extra_rates: how many rates a grid may grow by at each of its sides.
      base: what the arms have in common.
      arms: in the order of the file.
      pairs: the differences to report.
      gaps: the gaps to report.
      text: of the file.
    """

    question: str
    decision: str
    tokens: int
    learning_rates: tuple[float, ...]
    selection_seeds: tuple[int, ...]
    confirmation_seeds: tuple[int, ...]
    most_extra_rates: int
    base: Base
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    gaps: tuple[Gap, ...]
    text: str = dataclasses.field(compare=False, repr=False)

    def arm(self, name: str) -> Arm:
        """Returns the arm of a name.

        Raises:
          UserError: there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise UserError(f"an arm must be one of {self.arm_names()}, received {shown(name)}: name one of these.")

    def arm_names(self) -> str:
        """'gpt2, shared'."""
        return ", ".join(arm.name for arm in self.arms)

    def model_config(self, arm: Arm) -> GPTConfig:
        """Returns the model of an arm."""
        fields = GPTConfig.from_preset(self.base.preset).to_dict()
        return json_files.build(GPTConfig, fields | self.base.model | arm.model, f"arms.{arm.name}.model")

    def train_config(self, arm: Arm, learning_rate: float, seed: int) -> TrainConfig:
        """Returns how a cell of an arm is trained.

        Raises:
          UserError: the study's tokens are no whole number of the arm's global batches.
        """
        batch_size = self._training(arm).get("batch_size", TrainConfig.batch_size)
        if type(batch_size) is not int or not COUNT.holds(batch_size):
            raise UserError(f"batch_size must be a whole number {COUNT.text}, received {shown(batch_size)}: mend it.")
        steps = self._steps(arm, batch_size * self.model_config(arm).seq_len)
        fields = {"total_steps": steps, "learning_rate": learning_rate, "seed": seed}
        return json_files.build(TrainConfig, self._training(arm) | fields, f"arms.{arm.name}.training")

    def _training(self, arm: Arm) -> Fields:
        return self.base.training | arm.training

    def _steps(self, arm: Arm, tokens_per_step: int) -> int:
        steps, rest = divmod(self.tokens, tokens_per_step)
        if rest or not steps:
            nearest = max(1, round(self.tokens / tokens_per_step)) * tokens_per_step
            raise UserError(
                f"tokens must be a whole number of global batches, which are {tokens_per_step} tokens in the arm "
                f"{arm.name}, received {self.tokens}: {nearest} is the nearest."
            )
        return steps


def load_spec(path: str) -> Spec:
    """Returns the study that a TOML file describes.

    Raises:
      UserError: there is no such file, or it breaks the rule that the sentence names.
    """
    if not storage.exists(path):
        raise UserError(f"a study must be a TOML file, and nothing is at {shown(path)}: name one.")
    with json_files.refusing(path, "describe a study in TOML", "mend it"):
        try:
            text = storage.read_bytes(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8 ({error})") from error
        return parse_spec(text)


def parse_spec(text: str) -> Spec:
    """Returns the study that a TOML text describes.

    Raises:
      ValueError: it is not TOML, or has an unknown key, lacks one, or has a value of another type.
      UserError: a value breaks the rule that the sentence names.
    """
    document = json_files.build(_Document, toml_files.parse_object(text))
    spec = document.spec(text)
    check_spec(spec)
    return spec


@dataclasses.dataclass(frozen=True)
class _ArmFields:
    """An arm's table in the file."""

    model: Fields = dataclasses.field(default_factory=dict)
    training: Fields = dataclasses.field(default_factory=dict)
    learning_rates: tuple[float, ...] | None = None
    records: str | None = None
    bugs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Document:
    """The file as it is written."""

    question: str
    decision: str
    tokens: int
    learning_rates: tuple[float, ...]
    base: Base
    arms: dict[str, _ArmFields]
    selection_seeds: tuple[int, ...] = ()
    confirmation_seeds: tuple[int, ...] = ()
    most_extra_rates: int = 2
    pairs: tuple[Pair, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def spec(self, text: str) -> Spec:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        rates = _sorted_floats(self.learning_rates)
        return Spec(**fields | {"arms": tuple(self._arms(rates)), "learning_rates": rates, "text": text})

    def _arms(self, rates: tuple[float, ...]) -> Iterator[Arm]:
        for name, fields in self.arms.items():
            own = rates if fields.learning_rates is None else _sorted_floats(fields.learning_rates)
            yield Arm(name, fields.model, fields.training, own, fields.records, fields.bugs)


def _sorted_floats(rates: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(map(float, rates)))
