"""Checkpoints as SavedModels, which a process without our package runs."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from interchange import ALGPT2, GPT2, random_ids, save_randomised, tiny_tokenizer
from tiny_models import randomised

from algpt2.config.sampling import SamplingConfig
from algpt2.evaluation.generation import CachedDecoder, generate_ids
from algpt2.interchange.convert import convert
from algpt2.interchange.to_saved_model import Graphs
from algpt2.text.tokenizer import Tokenizer

VARIANTS = {"gpt2": dataclasses.replace(GPT2, n_layer=1), "algpt2": dataclasses.replace(ALGPT2, n_layer=2)}
# Without `site`, so that no installed link leads to our package.
CLEAN_PROGRAM = """
import sys
sys.path.append(sys.argv[1])
sys.modules["algpt2"] = sys.modules["keras"] = None
import numpy as np
import tensorflow as tf
given = np.load(sys.argv[3])
model = tf.saved_model.load(sys.argv[2])
results = {name: model.logits(ids).numpy() for name, ids in given.items()}
new = model.generate(given["several"][:, :5], [5, 3, 1], 7, 0.8, 20, 0.9, 6)
np.savez(sys.argv[4], **results, new=new.numpy())
"""


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """Of each variant: our model, and the folder that it was written to."""
    folder, found = tmp_path_factory.mktemp("variants"), {}
    for name, config in VARIANTS.items():
        model = save_randomised(folder / name / "ours", config)
        convert(str(folder / name / "ours"), str(folder / name / "theirs"), "saved_model")
        found[name] = model, folder / name / "theirs"
    return found


@pytest.fixture(params=VARIANTS)
def written(request, variants):
    return variants[request.param]


def test_it_gives_the_logits_of_batches_of_every_length(written):
    model, folder = written
    loaded = tf.saved_model.load(str(folder))
    for batch, length in ((1, 1), (3, 5), (2, model.config.seq_len)):
        ids = random_ids(model.config, batch, length)
        np.testing.assert_allclose(loaded.logits(ids), model(ids), atol=1e-5)
        (served,) = loaded.signatures["serving_default"](ids=tf.constant(ids)).values()
        np.testing.assert_array_equal(served, loaded.logits(ids))


def ids_before_eos(rows):
    """The ids of each row, which has EOS from where its text ends."""
    eos_id = tiny_tokenizer().eos_id
    return [list(itertools.takewhile(lambda id_: id_ != eos_id, row)) for row in rows.tolist()]


def generated_by_us(model, ids, **sampling):
    """What `generate.py` draws after prompts of 5, 3 and 1 ids."""
    config = SamplingConfig(**{"max_new_tokens": 7, "top_k": 20, "top_p": 0.9, "seed": 6, **sampling})
    decoder = CachedDecoder(model, jit_compile=False)
    prompts = [row[:length].tolist() for row, length in zip(ids, (5, 3, 1), strict=True)]
    return [list(generate_ids(decoder, prompt, tiny_tokenizer().eos_id, config)) for prompt in prompts]


def test_it_generates_what_our_decoder_does_and_takes_its_choices_by_name(variants):
    model, folder = variants["gpt2"]
    loaded = tf.saved_model.load(str(folder))
    ids = random_ids(model.config, 3, 5) % tiny_tokenizer().vocab_size
    given = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0}
    new = loaded.generate(ids, [5, 3, 1], 7, *given.values()).numpy()
    assert new.shape == (3, 7)
    assert ids_before_eos(new) == generated_by_us(model, ids, **given)
    inputs = {"ids": ids, "lengths": [5, 3, 1], "max_new_tokens": 7, **given}
    served = loaded.signatures["generate"](**{name: tf.constant(value) for name, value in inputs.items()})
    np.testing.assert_array_equal(*served.values(), new)


def test_prompts_that_cannot_be_continued_are_refused(variants):
    _, folder = variants["gpt2"]
    loaded = tf.saved_model.load(str(folder))
    for lengths, max_new_tokens, reason in (
        ([5, 3], 8, "the model has 12 positions"),
        ([5, 0], 1, "at least one token"),
        ([6, 1], 1, "longer than its row"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
            loaded.generate(np.zeros((2, 5), "int32"), lengths, max_new_tokens, 1.0, 0, 1.0, 0)


def test_more_positions_than_the_model_has_are_refused(written):
    model, folder = written
    loaded = tf.saved_model.load(str(folder))
    with pytest.raises(tf.errors.InvalidArgumentError, match="the model has 12 positions"):
        loaded.logits(np.zeros((1, 13), "int32"))


def test_a_process_without_our_package_and_without_keras_runs_it(variants, tmp_path):
    model, folder = variants["algpt2"]
    given = {"one": random_ids(model.config, 1, 4), "several": random_ids(model.config, 3, 12) % 270}
    np.savez(tmp_path / "given.npz", **given)
    site = str(Path(tf.__file__).parents[1])
    places = [site, str(folder), str(tmp_path / "given.npz"), str(tmp_path / "results.npz")]
    command = [sys.executable, "-I", "-S", "-c", CLEAN_PROGRAM, *places]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PATH": ""})
    assert ended.returncode == 0, ended.stderr
    results = np.load(tmp_path / "results.npz")
    for name, ids in given.items():
        np.testing.assert_allclose(results[name], model(ids), atol=1e-5)
    assert ids_before_eos(results["new"]) == generated_by_us(model, given["several"][:, :5], temperature=0.8)


def test_the_tokenizer_lies_beside_it_and_the_card_names_its_functions(variants):
    _, folder = variants["gpt2"]
    assert Tokenizer.load(str(folder)).sha256 == tiny_tokenizer().sha256
    card = (folder / "README.md").read_text()
    assert "| functions.logits | ids int32 (batch, length up to 12) -> float32 (batch, length, 275) |" in card
    assert "-> int32 (batch, max_new_tokens), id 269 from where a text ends |" in card


def test_its_graphs_know_distances_and_documents():
    """A prompt has the border of two documents within it, and new tokens see the second one alone."""
    eos_id = tiny_tokenizer().eos_id
    config = dataclasses.replace(ALGPT2, n_layer=1, position_encoding="alibi", document_eos_id=eos_id)
    model, ids = randomised(config), random_ids(config, 2) % eos_id
    kernel = model.named_parameters()["h.0.attn.c_proj.weight"]
    kernel.assign(30 * kernel)  # what is attended to decides
    ids[:, 3] = eos_id
    graphs = Graphs(model, eos_id)
    for length in (2, 7, 12):
        np.testing.assert_allclose(graphs.logits(ids[:, :length]), model(ids[:, :length]), atol=1e-5)
    new = graphs.generate(ids[:, :6], [6, 5], 3, 0.0, 0, 1.0, 0).numpy()
    for row, length in enumerate((6, 5)):
        text = ids[row, 3:length].tolist()
        for token in new[row]:
            text.append(int(np.argmax(model(np.array([text]))[0, -1, : eos_id + 1])))
            assert text[-1] == token
