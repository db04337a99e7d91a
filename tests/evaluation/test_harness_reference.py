"""lm-evaluation-harness itself, really run on the same model and articles: every figure of ours is its own."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import GPT2_CONFIG, randomised

from algpt2.evaluation.protocols import PROTOCOLS

FIGURES = ("word_perplexity", "byte_perplexity", "bits_per_byte")
SHORT = " = Short = \n \n A well @-@ known text , of 1 @,@ 000 words ; it 's here . \n \n"
SECTION = ' = = Part = = \n \n He said " no " ( 3 @.@ 5 % ) : so it is ! \n 20 ° C , the years \' end \n \n'
# Longer than several windows, shorter than one, without a text, and with a last window that is exactly full or not.
ARTICLES = [SHORT, f" = Long = \n \n{SECTION * 3}", " = Empty = \n", f"{SHORT}{SECTION}", " = End = \n \n çà et là \n"]


@pytest.fixture(scope="module")
def tokenizer():
    from algpt2.text.tokenizer import Tokenizer

    return Tokenizer.train(ARTICLES, 300)


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory):
    """A folder with a GPT-2 of ours, written as a run writes it, and our model."""
    from algpt2.checkpoints.folder import CheckpointState
    from algpt2.checkpoints.save_load import Snapshot, save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint")
    model = randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size))
    parameters = {name: np.array(value) for name, value in model.named_parameters().items()}
    tokenizer.save(str(folder / "tokenizer"))
    tokenizer_json = (folder / "tokenizer" / "tokenizer.json").read_bytes()
    state = CheckpointState(1, 10, {}, tokenizer.sha256, 1)
    save_checkpoint(str(folder / "step"), Snapshot(model.config, parameters, {}), state, tokenizer_json)
    return folder / "step", model


@pytest.fixture(scope="module")
def theirs(checkpoint, tmp_path_factory):
    """What lm-evaluation-harness says of our checkpoint under its task `wikitext`, with our articles."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval's extra hf is not installed")
    from lm_eval import evaluator

    folder = tmp_path_factory.mktemp("harness")
    # A page of the data set ends before the line end in front of the next heading.
    pages = [*(article.removesuffix("\n") for article in ARTICLES[:-1]), ARTICLES[-1]]
    (folder / "pages.jsonl").write_text("".join(json.dumps({"page": page}) + "\n" for page in pages))
    (folder / "task.yaml").write_text(local_task(folder))
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint[0])
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint[0])
    lm = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, device="cpu")
    results = evaluator.simple_evaluate(lm, tasks=[str(folder / "task.yaml")], bootstrap_iters=0)["results"]
    return results["local_wikitext"]


def local_task(folder):
    """Returns the definition of the task `wikitext` with nothing changed but where its documents come from."""
    import lm_eval

    definition = Path(lm_eval.__file__).parent / "tasks" / "wikitext" / "wikitext.yaml"
    fields = {"include": str(definition), "task": "local_wikitext", "dataset_path": "json", "dataset_name": None}
    files = {"data_files": {"test": str(folder / "pages.jsonl")}, "cache_dir": str(folder / "cache")}
    return json.dumps({**fields, "training_split": None, "validation_split": None, "dataset_kwargs": files})


@pytest.mark.parametrize("figure", FIGURES)
def test_our_figure_is_lm_evaluation_harnesss(theirs, checkpoint, tokenizer, figure):
    from algpt2.evaluation.perplexity import evaluate_text
    from algpt2.evaluation.scorer import Scorer

    scorer = Scorer(checkpoint[1], batch_size=2, jit_compile=False)
    ours = evaluate_text(scorer, tokenizer, "".join(ARTICLES), PROTOCOLS["harness"])
    assert ours["articles"] == len(ARTICLES)
    assert ours[figure] == pytest.approx(theirs[f"{figure},none"], rel=1e-4)
