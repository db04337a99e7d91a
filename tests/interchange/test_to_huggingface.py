"""Checkpoints as Hugging Face's GPT-2: what transformers computes of them, on PyTorch, is what our model computes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from interchange import ALGPT2, GPT2, TEXT, random_ids, read_json, save_randomised, tiny_tokenizer
from numpy_gpt import forward
from safetensors import numpy as safetensors

from algpt2.interchange.convert import convert
from algpt2.model.sizes import parameter_shapes

# Odd numbers everywhere, so that no axis can be taken for another.
VARIANTS = {
    "gpt2": GPT2,
    "algpt2": ALGPT2,
    "shared": dataclasses.replace(ALGPT2, embedding_size=None),
    "factorized": dataclasses.replace(ALGPT2, share_layers=False),
    "as wide as the model": dataclasses.replace(ALGPT2, embedding_size=18),
    "one layer, one head, E 1": dataclasses.replace(ALGPT2, n_layer=1, n_head=1, embedding_size=1),
    "five heads, wide": dataclasses.replace(ALGPT2, n_head=5, d_model=35, d_ff=None, embedding_size=7, n_layer=2),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Of each variant: our model, and the folder that it was written to."""
    folder, found = tmp_path_factory.mktemp("variants"), {}
    for name, config in VARIANTS.items():
        model = save_randomised(folder / name / "ours", config)
        facts = convert(str(folder / name / "ours"), str(folder / name / "theirs"), "huggingface")
        assert facts["parameters"] == config.parameter_count()
        tensors = safetensors.load_file(folder / name / "theirs" / "model.safetensors")
        assert facts["written_parameters"] == sum(tensor.size for tensor in tensors.values())
        found[name] = model, folder / name / "theirs"
    return found


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    return pytest.importorskip("transformers", reason="transformers is not installed")


def logits_of(theirs, ids):
    import torch

    with torch.no_grad():
        return theirs(torch.tensor(ids)).logits.numpy()


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_computes_the_same_logits_for_batches_of_every_length(written, transformers, variant):
    model, folder = written[variant]
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), "nothing is missing, left over or of another shape"
    for length in (1, 5, model.config.seq_len):
        ids = random_ids(model.config, batch=3, length=length)
        difference = np.abs(logits_of(theirs, ids) - model(ids).numpy()).max()
        assert difference <= 1e-5, f"{difference} for {length} positions"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_written_tensors_are_a_gpt2_that_computes_the_same_in_float64(written, variant):
    """Without transformers, and without the rounding of its arithmetic: only that of the stored numbers is left."""
    model, folder = written[variant]
    config, ours = model.config, {name: p.numpy() for name, p in model.named_parameters().items()}
    tensors = safetensors.load_file(folder / "model.safetensors")
    theirs = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    ids = random_ids(config)
    found, expected = (forward(one, ids, config.n_layer, config.n_head) for one in (theirs, ours))
    assert np.abs(found - expected).max() <= 1e-5


def test_a_gpt2_keeps_every_bit(written):
    model, folder = written["gpt2"]
    tensors = safetensors.load_file(folder / "model.safetensors")
    assert tensors.keys() == parameter_shapes(GPT2).keys()
    for name, parameter in model.named_parameters().items():
        assert tensors[name].tobytes() == parameter.numpy().tobytes()


def test_a_head_is_written_only_where_it_cannot_be_tied(written):
    for name, (model, folder) in written.items():
        is_tied = read_json(folder, "config.json")["tie_word_embeddings"]
        assert is_tied == (not model.config.embedding_size), name
        assert is_tied != ("lm_head.weight" in safetensors.load_file(folder / "model.safetensors")), name


def test_the_folder_is_a_plain_gpt2_and_no_checkpoint_of_ours(written):
    _, folder = written["algpt2"]
    fields = read_json(folder, "config.json")
    assert (fields["model_type"], fields["architectures"], fields["n_layer"]) == ("gpt2", ["GPT2LMHeadModel"], 3)
    assert "algpt2" not in fields
    assert not (folder / "COMMITTED").exists()


def test_transformers_tokenizer_has_the_same_ids_and_knows_the_end_of_text(written, transformers):
    tokenizer = transformers.AutoTokenizer.from_pretrained(written["algpt2"][1])
    ids = tokenizer(TEXT)["input_ids"]
    assert ids == tiny_tokenizer().encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert len(tokenizer) == tiny_tokenizer().vocab_size
    assert tokenizer.eos_token_id == tokenizer("<|endoftext|>")["input_ids"][0] == tiny_tokenizer().eos_id
    assert tokenizer.model_max_length == ALGPT2.seq_len


def test_transformers_generates_what_our_model_finds_likeliest(written, transformers):
    import torch

    model, folder = written["algpt2"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = random_ids(ALGPT2, batch=1, length=2)
    text = theirs.generate(torch.tensor(ids, dtype=torch.long), max_new_tokens=6, do_sample=False).numpy()
    for length in range(2, text.shape[1]):
        assert text[0, length] == np.argmax(model(text[:, :length].astype("int32")).numpy()[0, -1])


def test_a_gpt2_comes_back_bit_for_bit(tmp_path, written):
    model, folder = written["gpt2"]
    convert(str(folder), str(tmp_path / "ours"))
    convert(str(tmp_path / "ours"), str(tmp_path / "theirs"), "huggingface")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "theirs" / name).read_bytes() == Path(folder, name).read_bytes()
