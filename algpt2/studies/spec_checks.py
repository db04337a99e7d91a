"""What a spec must be beside its types: rates, seeds and names, arms that differ, differences of arms there are."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from algpt2.config.model import GPTConfig
from algpt2.config.options import ABOVE_0
from algpt2.config.training import SEED, TrainConfig
from algpt2.errors import UserError, shown
from algpt2.studies.original_bugs import require_bugs

if TYPE_CHECKING:
    from algpt2.studies.spec import Arm, Fields, Spec

# What a cell is made of, and what follows from the study, is no field of an arm.
FIELDS_OF_THE_STUDY = {
    "total_steps": "tokens",
    "learning_rate": "learning_rates",
    "seed": "selection_seeds and confirmation_seeds",
}
# An arm's name is that of a folder, and of a flag's value.
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+")


def check_spec(spec: "Spec") -> None:
    """Raises `UserError`, with the rule that it breaks, unless a spec is sound."""
    for check in (_check_rates, _check_seeds, _check_names, _check_arms, _check_differences):
        check(spec)


def _check_rates(spec: "Spec") -> None:
    _require(spec.tokens > 0, "tokens", "above 0", spec.tokens, "give the tokens of a cell")
    _require(0 <= spec.most_extra_rates <= 20, "most_extra_rates", "from 0 to 20", spec.most_extra_rates, "give fewer")
    for place, rates in {"learning_rates": spec.learning_rates, **_rates_of_arms(spec)}.items():
        holds = rates and all(ABOVE_0.holds(rate) and rate < float("inf") for rate in rates)
        _require(holds, place, "one or more finite numbers above 0", list(rates), "give such rates")
        _require(len(set(rates)) == len(rates), place, "different from each other", list(rates), "give each once")


def _rates_of_arms(spec: "Spec") -> dict[str, tuple[float, ...]]:
    return {f"arms.{arm.name}.learning_rates": arm.learning_rates for arm in spec.arms}


def _check_seeds(spec: "Spec") -> None:
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


def _check_names(spec: "Spec") -> None:
    _require(spec.question.strip(), "question", "a text", spec.question, "say what is asked")
    _require(spec.decision.strip(), "decision", "a text", spec.decision, "write the rule before the runs")
    _require(spec.arms, "arms", "one or more tables [arms.NAME]", {}, "add some")
    for arm in spec.arms:
        is_name = arm.name and arm.name[0] not in ".-" and set(arm.name) <= NAME_CHARACTERS
        _require(is_name, "an arm's name", "of letters, digits, - _ + and .", arm.name, "give it another")
        _require(arm.records != "", f"arms.{arm.name}.records", "a name", arm.records, "leave it out or give one")


def _check_arms(spec: "Spec") -> None:
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


def _what_arm_is(spec: "Spec", arm: "Arm") -> Any:
    try:
        train_config = spec.train_config(arm, arm.learning_rates[0], seed=0)
        require_bugs(arm.bugs, train_config)
        return spec.model_config(arm), train_config, arm.learning_rates, arm.records, arm.bugs
    except UserError as error:
        raise UserError(f"in the arm {arm.name}, {error}") from error


def _check_fields(model: "Fields", training: "Fields", place: str) -> None:
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


def _check_differences(spec: "Spec") -> None:
    names = {arm.name for arm in spec.arms}
    for place, named in (("pairs", spec.pairs), ("gaps", spec.gaps)):
        for one in named:
            unknown = [name for name in one.names if name not in names]
            rule = f"names of arms, which are {spec.arm_names()}"
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
