"""Small made-up files in the official formats of zero-shot evaluations, and a model that reads their words."""

import dataclasses
import json

import numpy as np
from tiny_models import GPT2_CONFIG, randomised

from algpt2.text.tokenizer import Tokenizer

SEQ_LEN = 48
FAVOURITE_WORD = " door"
PASSAGES = (
    "She came in, and behind her closed the door",
    "He looked at the door and then, with his hand on the key, he opened the door",
    "Çà et là, naïve café owners said so;\n\nno one of them would ever open the door",
    "the cat sat on the mat and the cat ate the rat, said the old man of the café",
    "One word after the other, and all of them too many for a model of so few positions, which loses the first " * 2
    + "of them and keeps the door",
    "a  double space, and then a tab\tand then a line\nend",
)
HELLASWAG = (
    ("Roof shingle removal", "A man is sitting on a roof.", "he", 3),
    ("Baking", "Mix the flour. [substeps] Use a bowl, NOT a hat. [step]", "", 0),
    ("Çà et là", "The café is naïve; déjà vu everywhere.", "the Old McDonald", 2),
    (
        "Opening doors",
        "They stand before the door, and behind it is a long, long corridor with many doors " * 2,
        "a",
        1,
    ),
    ("Ties", "All of these are the same.", "so", 2),
)
ENDINGS = (
    ["opens the door.", "sits on the old roof, and sits, and sits.", "eats.", "ate the rat [title] and the mat [step]"],
    ["[title] Oven", "Stir it  well and  then again.", "é" * 12, "a hat, said the man of the café, is no bowl"],
    ["çà", "déjà vu, naïveté, çà et là", "the door", "the cat sat on the mat and ate the rat"],
    ["door", "door door", "door door door", "and behind the door is a door behind which is another door"],
    ["the same.", "the same.", "the same.", "the same."],
)
PIQA = (
    ("How do I open a door?", "Turn the key, then the handle.", "Eat the key ", 0),
    ("çà et là", "é" * 9, "the cat sat on the mat", 1),
    (
        "Keep a rat from the mat, and a cat from the rat, and a man from the roof, and a door from the hat " * 2,
        "a",
        "b",
        1,
    ),
    ("Choose", "the same", "the same", 0),
)


def lambada_jsonl() -> str:
    """The content of a file as EleutherAI's lambada_openai has it."""
    return "".join(json.dumps({"text": passage}) + "\n" for passage in PASSAGES)


def hellaswag_jsonl() -> str:
    """The content of a file such as hellaswag_val.jsonl."""
    lines = []
    for i, ((activity, ctx_a, ctx_b, label), endings) in enumerate(zip(HELLASWAG, ENDINGS, strict=True)):
        texts = {"activity_label": activity, "ctx_a": ctx_a, "ctx_b": ctx_b, "ctx": f"{ctx_a} {ctx_b}".strip()}
        lines.append(json.dumps({"ind": i, **texts, "split": "val", "label": label, "endings": endings}) + "\n")
    return "".join(lines)


def piqa_jsonl() -> str:
    """The content of a file such as valid.jsonl."""
    return "".join(json.dumps({"goal": goal, "sol1": a, "sol2": b}) + "\n" for goal, a, b, _ in PIQA)


def piqa_labels() -> str:
    """The content of a file such as valid-labels.lst."""
    return "".join(f"{label}\n" for *_, label in PIQA)


def word_tokenizer() -> Tokenizer:
    """A tokenizer in which the frequent words of these files are one token each, and most others are several."""
    return Tokenizer.train([f" {text}" for text in (*PASSAGES, *ENDINGS[2], *ENDINGS[3])], 400)


def word_model(tokenizer: Tokenizer):
    """A random model of these texts that finds `FAVOURITE_WORD` the likeliest next token in most places."""
    model = randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size + 5, seq_len=SEQ_LEN))
    (favourite,) = tokenizer.encode(FAVOURITE_WORD)
    direction = model.wte.numpy()[favourite]
    shift = model.named_parameters()["ln_f.bias"]
    shift.assign(shift.numpy() + 6.0 * direction / np.linalg.norm(direction))
    return model
