"""A `config.json` with the keys of Hugging Face's GPT-2, as our fields; what our model does not compute is refused.

The original project's command line names a folder with such a file. Its ALGPT-2 adds `embedding_size` and
`num_hidden_groups`, which are ALBERT's names for the width of factorized tables and for blocks with parameters of
their own. This module imports neither transformers nor TensorFlow.
"""

import dataclasses
import json
from typing import Any

# A file with one of these is of this kind; none is a field of `GPTConfig`.
MARKS = frozenset({"n_embd", "n_positions", "n_ctx", "n_inner", "model_type", "architectures", "transformers_version"})
# Keys that do not change the model: where it came from, which tokens are special, and how text is generated with it.
_WITHOUT_EFFECT_ROWS = (
    "_name_or_path architectures transformers_version torch_dtype dtype torchscript tf_legacy_loss use_bfloat16",
    "xla_device bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id tokenizer_class prefix",
    "n_special predict_special_tokens use_cache output_past output_attentions output_hidden_states return_dict",
    "finetuning_task task_specific_params problem_type num_labels id2label label2id gradient_checkpointing is_decoder",
    "chunk_size_feed_forward summary_type summary_use_proj summary_activation summary_proj_to_labels",
    "summary_first_dropout do_sample early_stopping max_length min_length num_beams num_beam_groups diversity_penalty",
    "temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids",
    "_num_labels _attn_implementation_autoset tie_encoder_decoder cross_attention_hidden_size",
    "encoder_no_repeat_ngram_size num_return_sequences output_scores return_dict_in_generate forced_bos_token_id",
    "forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens",
)
WITHOUT_EFFECT = frozenset(" ".join(_WITHOUT_EFFECT_ROWS).split())
# What the model computes in any case: the values that a key may have. GPT-2's two names of its gelu mean the same.
COMPUTED = {
    "model_type": ("gpt2", "algpt2"),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "initializer_range": (0.02,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "tie_word_embeddings": (True,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "pruned_heads": ({},),
}


@dataclasses.dataclass(frozen=True)
class HuggingFaceConfig:
    """The keys that shape the model, with the defaults of transformers' `GPT2Config`.

    Raises:
      ValueError: a value stands for something that our model does not compute, or two keys contradict each other.
    """

    vocab_size: int = 50257
    n_positions: int | None = None
    n_ctx: int | None = None
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    embedding_size: int | None = None
    num_hidden_groups: int | None = None
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    model_type: str = "gpt2"
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True
    add_cross_attention: bool = False
    is_encoder_decoder: bool = False
    pruned_heads: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in COMPUTED.items():
            if (value := getattr(self, name)) not in allowed:
                known = " or ".join(map(json.dumps, allowed))
                raise ValueError(f"its {name} is {json.dumps(value)}, where the model has {known}")
        if not self.resid_pdrop == self.embd_pdrop == self.attn_pdrop:
            rates = f"{self.resid_pdrop}, {self.embd_pdrop} and {self.attn_pdrop}"
            raise ValueError(f"its resid_pdrop, embd_pdrop and attn_pdrop are {rates}, where the model has one rate")
        if None not in (self.n_positions, self.n_ctx) and self.n_positions != self.n_ctx:
            raise ValueError(f"its n_positions is {self.n_positions} and its n_ctx {self.n_ctx}, which are one number")
        if self.num_hidden_groups not in (None, 1, self.n_layer):
            raise ValueError(f"its num_hidden_groups is {self.num_hidden_groups}, where the model has 1 or n_layer")

    def own_fields(self) -> dict[str, Any]:
        """Returns the fields of the `GPTConfig` that computes the same.

        An ALGPT-2 shares its blocks unless `num_hidden_groups` says otherwise. Tables as wide as the model are not
        factorized.
        """
        shared = self.num_hidden_groups == 1 if self.num_hidden_groups else self.model_type == "algpt2"
        return {
            "vocab_size": self.vocab_size,
            "seq_len": self.n_positions or self.n_ctx or 1024,
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "d_model": self.n_embd,
            "d_ff": None if self.n_inner == 4 * self.n_embd else self.n_inner,
            "embedding_size": None if self.embedding_size == self.n_embd else self.embedding_size,
            "share_layers": shared,
            "dropout": self.resid_pdrop,
        }


def is_huggingface(fields: dict[str, Any]) -> bool:
    """Returns whether the content of a `config.json` has Hugging Face's keys and not ours."""
    return not MARKS.isdisjoint(fields)


def shaping_keys(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a `config.json` without the keys that do not change the model."""
    return {name: value for name, value in fields.items() if name not in WITHOUT_EFFECT}
