"""`GPTConfig`: the shape of a model. Named models live in `presets/*.json`, one file each."""

import dataclasses
import functools
from importlib import resources
from typing import Any

from algpt2.config.layer_sharing import n_parameter_sets, parameter_sets
from algpt2.config.options import ABOVE_0, COUNT, option, require_rules
from algpt2.errors import UserError, shown
from algpt2.storage import json_files

# The width at which GPT-2's scales were chosen: that of its smallest model.
GPT2_WIDTH = 768
LEARNED, ALIBI = POSITION_ENCODINGS = ("learned", "alibi")


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT-2 or ALGPT-2 decoder. The defaults are GPT-2's.

    Args:
      vocab_size: rows of the token table.
      seq_len: positions of a training sequence. With a position table, which has a row for each, also the most.
      n_layer: block applications, whether the blocks are shared or not.
      n_head: attention heads of a block; d_model is a multiple of it.
      d_model: width of the residual stream.
      d_ff: width of the hidden layer of a block's feed-forward part; None means 4 x d_model.
      embedding_size: width of both embedding tables when they are factorized (ALBERT, arXiv:1909.11942), with a dense
        layer into and out of the residual stream; None means tables of width d_model.
      share_layers: whether one block's parameters are applied n_layer times: short for the plan "all" in the two fields
        that follow, as false is for "none".
      attention_sharing: which applications share the parameters of their attention and its layer norm, as a plan of
        `algpt2.config.layer_sharing`; None means as `share_layers` says.
      feed_forward_sharing: the same for the feed-forward part and its layer norm.
      dropout: probability in [0, 1), of embeddings, attention weights and each block's two outputs.

    Each other field is a variant, which no GPT-2 of OpenAI and no ALGPT-2 of 2020 has; its option says what it is.

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
    attention_sharing: str | None = None
    feed_forward_sharing: str | None = None
    dropout: float = 0.1
    position_encoding: str = option(
        LEARNED,
        "learned: a table of positions, as GPT-2's; alibi: attention scores that fall with the distance, without a "
        "table and so for sequences of any length (arXiv:2108.12409)",
        POSITION_ENCODINGS,
    )
    document_eos_id: int | None = option(
        None,
        "the id that stands in front of each document: with it a token sees only its own document, and without it all "
        "that stand before it in its row",
    )
    untied_head: bool = option(False, "the head is a table of its own, and not the token table")
    tied_projections: bool = option(
        False, "the head of a factorized model uses the transposed matrix of the embedding projection"
    )
    initialization: str = option(
        "scaled",
        "scaled: projections of factorized embeddings keep the variance of their inputs, and kernels whose outputs are "
        "added to the stream start smaller by sqrt(2 n_layer); original: all start at N(0, .02), as in 2020",
        ("scaled", "original"),
    )
    embedding_norm: bool = option(False, "the sum of both embeddings goes through an RMS norm, before any projection")
    logit_scale: float = option(1.0, "by which the logits are multiplied", rule=ABOVE_0)
    logits_as_gpt2: bool = option(
        False, "the logits are multiplied by sqrt(768 / table width) too: they start as large as GPT-2's at any width"
    )

    def __post_init__(self) -> None:
        for name in ("vocab_size", "seq_len", "n_layer", "n_head", "d_model"):
            _require_positive_int(name, getattr(self, name))
        for name in ("d_ff", "embedding_size"):
            if getattr(self, name) is not None:
                _require_positive_int(name, getattr(self, name))
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool) and not isinstance(getattr(self, field.name), bool):
                raise UserError(f"{field.name} must be true or false, received {shown(getattr(self, field.name))}.")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be a fraction in [0, 1), received {shown(self.dropout)}.")
        if self.d_model % self.n_head:
            raise UserError(
                f"d_model must be a multiple of n_head, received d_model={self.d_model} and n_head={self.n_head}."
            )
        require_rules(self)
        if self.document_eos_id is not None:
            self._require_id("document_eos_id", self.document_eos_id)
        if self.tied_projections and (not self.embedding_size or self.untied_head):
            raise UserError(
                "tied_projections needs factorized embeddings and the tied head, received "
                f"embedding_size={shown(self.embedding_size)} and untied_head={shown(self.untied_head)}."
            )
        _ = self.n_attention, self.n_feed_forward  # A plan that is none is refused here.

    def _require_id(self, name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < self.vocab_size:
            raise UserError(f"{name} must be an id below vocab_size {self.vocab_size}, received {shown(value)}.")

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

    @functools.cached_property
    def attention_sets(self) -> tuple[int, ...]:
        """The number of the set of parameters that the attention of each application uses."""
        return parameter_sets(*self._plan("attention_sharing"))

    @functools.cached_property
    def feed_forward_sets(self) -> tuple[int, ...]:
        """The number of the set of parameters that the feed-forward part of each application uses."""
        return parameter_sets(*self._plan("feed_forward_sharing"))

    def _plan(self, name: str) -> tuple[str, str, int]:
        plan = getattr(self, name)
        if plan is not None and not isinstance(plan, str):
            raise UserError(f"{name} must be a text or null, received {shown(plan)}.")
        return name, ("all" if self.share_layers else "none") if plan is None else plan, self.n_layer

    @property
    def n_attention(self) -> int:
        """How many attentions have parameters of their own."""
        return n_parameter_sets(*self._plan("attention_sharing"))

    @property
    def n_feed_forward(self) -> int:
        """How many feed-forward parts have parameters of their own."""
        return n_parameter_sets(*self._plan("feed_forward_sharing"))

    @property
    def n_position_rows(self) -> int:
        """The rows of the position table: 0 if there is none."""
        return self.seq_len if self.position_encoding == LEARNED else 0

    @property
    def n_block(self) -> int:
        """How many blocks have parameters of their own, also those that lack one of the two parts: 1 if all share."""
        return max(self.n_attention, self.n_feed_forward)

    @property
    def shares_parameters(self) -> bool:
        """Whether two layer applications use the same parameters."""
        return min(self.n_attention, self.n_feed_forward) < self.n_layer

    @property
    def model_type(self) -> str:
        """'gpt2' if it computes what OpenAI's GPT-2 does, else 'algpt2'."""
        return "algpt2" if self.shares_parameters or self.embedding_size or self.variants else "gpt2"

    @property
    def variants(self) -> tuple[str, ...]:
        """The fields by which the model computes what no GPT-2 and no ALGPT-2 of 2020 does, empty for those."""
        return tuple(field.name for field in dataclasses.fields(self) if self._is_variant(field))

    def _is_variant(self, field: dataclasses.Field) -> bool:
        is_of_the_forward_pass = bool(field.metadata) and field.name != "initialization"
        return is_of_the_forward_pass and getattr(self, field.name) != field.default

    @property
    def head_scale(self) -> float:
        """By which the logits are multiplied."""
        return self.logit_scale * ((GPT2_WIDTH / self.table_width) ** 0.5 if self.logits_as_gpt2 else 1.0)

    def parameter_count(self) -> int:
        """Returns the number of trainable parameters, a shared one counted once."""
        d, f, e = self.d_model, self.feed_forward_size, self.table_width
        tables = (self.vocab_size + self.n_position_rows + (self.vocab_size if self.untied_head else 0)) * e
        head_projection = e if self.tied_projections else d * e + e
        projections = (e * d + d) + head_projection if self.embedding_size else 0
        attention = (3 * d * d + 3 * d) + (d * d + d) + 2 * d
        feed_forward = (d * f + f) + (f * d + d) + 2 * d
        blocks = self.n_attention * attention + self.n_feed_forward * feed_forward
        norm = e if self.embedding_norm else 0
        return tables + projections + blocks + norm + 2 * d

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


def _require_positive_int(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, received {shown(value)}.")
    if not COUNT.holds(value):
        raise UserError(f"{name} must be {COUNT.text}, received {shown(value)}.")
