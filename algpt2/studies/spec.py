"""A study as its TOML file describes it: a question, arms that differ in a few fields, rates and seeds."""

import dataclasses
import functools
import sys
from collections.abc import Iterator
from typing import Any

from algpt2 import storage
from algpt2.config.model import GPTConfig
from algpt2.config.options import ABOVE_0, COUNT
from algpt2.config.training import SEED, TrainConfig
from algpt2.errors import UserError, shown
from algpt2.storage import json_files
from algpt2.studies.original_bugs import require_bugs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What a cell is made of, and what follows from the study, is no field of an arm.
FIELDS_OF_THE_STUDY = {
    "total_steps": "tokens",
    "learning_rate": "learning_rates",
    "seed": "selection_seeds and confirmation_seeds",
}
# An arm's name is that of a folder, and of a flag's value.
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+")
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
        raise UserError(f"an arm must be one of {_listed(self.arms)}, received {shown(name)}: name one of these.")

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
    document = json_files.build(_Document, _parse_toml(text))
    spec = document.spec(text)
    for check in (_check_rates, _check_seeds, _check_names, _check_arms, _check_differences):
        check(spec)
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


def _parse_toml(text: str) -> Fields:
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not TOML ({error})") from error
    except RecursionError as error:
        raise ValueError(json_files.TOO_DEEP) from error
    _require_json_values(fields, "")
    return fields


def _require_json_values(value: Any, place: str) -> None:
    """Refuses dates and times, which TOML has and no field of a study takes."""
    if isinstance(value, dict):
        for name, item in value.items():
            _require_json_values(item, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for item in value:
            _require_json_values(item, place)
    elif not isinstance(value, str | int | float):
        raise ValueError(f"its {place} is a date or a time, which nothing in a study is")


def _check_rates(spec: Spec) -> None:
    _require(COUNT.holds(spec.tokens), "tokens", f"{COUNT.text}", spec.tokens, "give the tokens of a cell")
    _require(0 <= spec.most_extra_rates <= 20, "most_extra_rates", "from 0 to 20", spec.most_extra_rates, "give fewer")
    for place, rates in {"learning_rates": spec.learning_rates, **_rates_of_arms(spec)}.items():
        holds = rates and all(ABOVE_0.holds(rate) and rate < float("inf") for rate in rates)
        _require(holds, place, "one or more finite numbers above 0", list(rates), "give such rates")
        _require(len(set(rates)) == len(rates), place, "different from each other", list(rates), "give each once")


def _rates_of_arms(spec: Spec) -> dict[str, tuple[float, ...]]:
    return {f"arms.{arm.name}.learning_rates": arm.learning_rates for arm in spec.arms}


def _check_seeds(spec: Spec) -> None:
    selection, confirmation = spec.selection_seeds, spec.confirmation_seeds
    for place, seeds in {"selection_seeds": selection, "confirmation_seeds": confirmation}.items():
        _require(all(map(SEED.holds, seeds)), place, f"whole numbers {SEED.text}", list(seeds), "give such seeds")
        _require(len(set(seeds)) == len(seeds), place, "different from each other", list(seeds), "give each once")
    if not selection and not confirmation:
        raise UserError(
            "a study must have seeds, and selection_seeds and confirmation_seeds are both empty: give some of either."
        )
    if both := sorted(set(selection) & set(confirmation)):
        raise UserError(
            "confirmation_seeds must be fresh, and "
            f"{', '.join(map(str, both))} {'is' if len(both) == 1 else 'are'} among selection_seeds too: "
            "give others."
        )
    undecided = [arm for arm in spec.arms if len(arm.learning_rates) > 1]
    if undecided and not selection:
        raise UserError(
            f"an arm of several learning_rates must have selection_seeds to choose one by, and {undecided[0].name} "
            "has none: give some, or one rate."
        )


def _check_names(spec: Spec) -> None:
    _require(spec.question.strip(), "question", "a text", spec.question, "say what is asked")
    _require(spec.decision.strip(), "decision", "a text", spec.decision, "write the rule before the runs")
    _require(spec.arms, "arms", "one or more tables [arms.NAME]", {}, "add some")
    for arm in spec.arms:
        is_name = arm.name and arm.name[0] not in ".-" and set(arm.name) <= NAME_CHARACTERS
        _require(is_name, "an arm's name", "of letters, digits, - _ + and .", arm.name, "give it another")
        _require(arm.records != "", f"arms.{arm.name}.records", "a name", arm.records, "leave it out or give one")


def _check_arms(spec: Spec) -> None:
    """Makes every arm's configuration, and finds two that are alike."""
    _check_fields(spec.base.model, spec.base.training, "base")
    names: dict[Any, str] = {}
    for arm in spec.arms:
        _check_fields(arm.model, arm.training, f"arms.{arm.name}")
        key = _what_arm_is(spec, arm)
        if key in names:
            raise UserError(
                f"all arms must differ, and {arm.name} is the same as {names[key]}: leave one out or change a field."
            )
        names[key] = arm.name


def _what_arm_is(spec: Spec, arm: Arm) -> Any:
    try:
        train_config = spec.train_config(arm, arm.learning_rates[0], seed=0)
        require_bugs(arm.bugs, train_config)
        return spec.model_config(arm), train_config, arm.learning_rates, arm.records, arm.bugs
    except UserError as error:
        raise UserError(f"in the arm {arm.name}, {error}") from error


def _check_fields(model: Fields, training: Fields, place: str) -> None:
    for config_class, given, part in ((GPTConfig, model, "model"), (TrainConfig, training, "training")):
        known = _field_names(config_class)
        for name in given:
            if part == "training" and name in FIELDS_OF_THE_STUDY:
                raise UserError(
                    f"{place}.{part} must leave {name} to the study, and has {shown(given[name])}: leave it out and "
                    f"give {FIELDS_OF_THE_STUDY[name]}."
                )
            if name not in known:
                raise UserError(
                    f"{place}.{part} must have fields of {config_class.__name__} alone, and has {shown(name)}: "
                    f"name one of {', '.join(known)}."
                )


@functools.cache
def _field_names(config_class: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(config_class) if field.name not in FIELDS_OF_THE_STUDY)


def _check_differences(spec: Spec) -> None:
    names = {arm.name for arm in spec.arms}
    for place, named in (("pairs", spec.pairs), ("gaps", spec.gaps)):
        for one in named:
            unknown = [name for name in one.names if name not in names]
            rule = f"names of arms, which are {_listed(spec.arms)}"
            _require(not unknown, place, rule, ", ".join(unknown), "mend the name")
    for pair in spec.pairs:
        _require(
            len(pair.arms) == 2 and len(set(pair.arms)) == 2, "pairs", "two different arms", list(pair.arms), "mend it"
        )
    for gap in spec.gaps:
        _require(gap.arm != gap.control, "gaps", "between an arm and another, its control", gap.arm, "mend it")


def _require(holds: Any, name: str, rule: str, received: Any, remedy: str) -> None:
    if not holds:
        raise UserError(f"{name} must be {rule}, received {shown(received)}: {remedy}.")


def _listed(arms: tuple[Arm, ...]) -> str:
    return ", ".join(arm.name for arm in arms)
