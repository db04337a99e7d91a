"""Figures that others published of GPT-2 and GPT-3, beside which figures of ours may stand. They have no other home.

A figure is of use only beside one of the same protocol, so each belongs to one protocol of ours, which is theirs.
"""

from typing import NamedTuple

GPT2_VOCAB_SIZE = 50257


class Baseline(NamedTuple):
    """A published figure of a model."""

    model: str
    value: float
    source: str


# WikiText's test text by protocol (`protocols.py`), in windows of 1024. WikiText-2 and -103 have the same raw file.
WIKITEXT_HF = (Baseline("GPT-2 124M", 29.94, "huggingface/transformers, issue 13761, by the documented loop"),)
WIKITEXT_HF_OVERLAP = (Baseline("GPT-2 124M", 25.2, "allenlu2009.github.io, Perplexity Code, by the documented loop"),)
WIKITEXT_HARNESS = (Baseline("GPT-2 124M", 37.37, "huggingface/transformers, issue 13761, by lm-evaluation-harness"),)
WIKITEXT_MEGATRON = (
    Baseline("GPT-2 124M", 35.5, "WikiText-103, reported of Megatron-LM's script; no primary source found"),
    Baseline("GPT-2 124M", 34.7, "WikiText-2, reported of Megatron-LM's script; no primary source found"),
)
WIKITEXT_PAPER = (
    Baseline("GPT-2 124M", 37.50, "WikiText-103, Radford et al. 2019, table 3, there called 117M"),
    Baseline("GPT-2 124M", 29.41, "WikiText-2, Radford et al. 2019, table 3, there called 117M"),
)
# Loss on validation data in nats per token of GPT-2's tokenizer, by the data. A run's validation records are its own,
# so that only its owner can say that they are of one of these.
VALIDATION_BASELINES = {
    "openwebtext": (Baseline("GPT-2 124M", 3.11, "README of github.com/karpathy/nanoGPT, on OpenWebText"),),
    "fineweb-edu": (
        Baseline("GPT-2 124M", 3.2924, "play.ipynb of github.com/karpathy/build-nanogpt, on FineWeb-Edu's first shard"),
    ),
}
# Perplexity per word of the Penn Treebank's test text.
PENN_TREEBANK = (
    Baseline("GPT-2 124M", 65.85, "Radford et al. 2019, table 3, there called 117M, with a private detokenizer"),
)
# GPT-2 124M's figures by protocol (`hellaswag.py`, `lambada.py`), by the names of our own.
HELLASWAG_HARNESS = {"acc": 0.2892, "acc_norm_characters": 0.3114}
HELLASWAG_COMPLETION = {"acc": 0.2859, "acc_norm_tokens": 0.2955}
LAMBADA_HARNESS = {"acc": 0.3256, "perplexity": 40.06}
LAMBADA_LAST_TOKEN = {"acc": 0.4599, "perplexity": 35.13}
BUILD_NANOGPT = "hellaswag.py of github.com/karpathy/build-nanogpt"
HARNESS_ISSUE = "lm-evaluation-harness, issue 2159, on EleutherAI/lambada_openai"
# By the names of metrics in `metrics.jsonl`.
BASELINES = {
    "wikitext_test_word_perplexity": WIKITEXT_HARNESS,
    "hellaswag_acc_norm_tokens": (
        Baseline("GPT-2 124M", HELLASWAG_COMPLETION["acc_norm_tokens"], BUILD_NANOGPT),
        Baseline("GPT-3 125M", 0.337, "Brown et al. 2020, arXiv:2005.14165, table H.1, whose prompt may differ"),
    ),
    "lambada_acc": (Baseline("GPT-2 124M", LAMBADA_HARNESS["acc"], HARNESS_ISSUE),),
    "lambada_perplexity": (Baseline("GPT-2 124M", LAMBADA_HARNESS["perplexity"], HARNESS_ISSUE),),
}
