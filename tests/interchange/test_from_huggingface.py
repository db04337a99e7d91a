"""Hugging Face's GPT-2s as checkpoints: they compute the same, and what ours cannot be is refused in a sentence."""

import dataclasses
import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from interchange import GPT2, TEXT, random_ids, read_json, save_randomised, tiny_tokenizer, write_huggingface_gpt2
from safetensors import numpy as safetensors

from algpt2.checkpoints.folder import find_checkpoint
from algpt2.checkpoints.save_load import load_model
from algpt2.config.model_files import load_config
from algpt2.errors import UserError
from algpt2.interchange.convert import convert
from algpt2.runs.plan import InitialWeights
from algpt2.text.tokenizer import Tokenizer
from algpt2.training.initial_weights import find_initial_weights, set_initial_weights

MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of Hugging Face's GPT-2, and its tensors. Read only."""
    folder = tmp_path_factory.mktemp("huggingface") / "gpt2"
    return folder, write_huggingface_gpt2(folder)


@pytest.fixture
def theirs(source, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(source[0], tmp_path / "theirs"))


def taken(folder, out="ours"):
    """Converts a folder; returns the checkpoint's path and its parameters."""
    ours = str(folder.with_name(out))
    convert(str(folder), ours)
    return ours, safetensors.load_file(f"{ours}/{MODEL}")


def require_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor.astype(np.float32))


def save(folder, tensors, name=MODEL):
    safetensors.save_file(tensors, folder / name, {"format": "pt"})


def edit(folder, name="config.json", **changes):
    fields = read_json(folder, name) | changes
    (folder / name).write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))


@pytest.mark.parametrize(
    "changes", [{}, {"n_layer": 1, "n_head": 1}, {"n_head": 5, "d_model": 35, "d_ff": None}, {"vocab_size": 270}]
)
def test_a_model_that_transformers_has_saved_computes_the_same_here(tmp_path, changes):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = dataclasses.replace(GPT2, **changes)
    sizes = {"n_embd": config.d_model, "n_layer": config.n_layer, "n_head": config.n_head, "n_inner": config.d_ff}
    sizes |= {"vocab_size": config.vocab_size, "n_positions": config.seq_len}
    torch.manual_seed(3)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "theirs")
    tiny_tokenizer().save(str(tmp_path / "theirs"))
    convert(str(tmp_path / "theirs"), str(tmp_path / "ours"))
    for length in (1, 5, 12):
        ids = random_ids(config, batch=3, length=length)
        with torch.no_grad():
            logits = model(torch.tensor(ids)).logits.numpy()
        assert np.abs(load_model(str(tmp_path / "ours"))(ids).numpy() - logits).max() <= 1e-5


def test_the_result_is_a_committed_checkpoint_that_says_where_it_comes_from(source, theirs):
    ours, parameters = taken(theirs)
    require_same(parameters, source[1])
    assert find_checkpoint(ours).folder == ours, "intact: every hash is right"
    assert {file.name for file in Path(ours).iterdir()} == {
        MODEL,
        "config.json",
        "tokenizer.json",
        "state.json",
        "COMMITTED",
    }
    assert load_config(ours) == GPT2
    assert Tokenizer.load(ours).sha256 == tiny_tokenizer().sha256
    imported = read_json(ours, "state.json")["imported"]
    assert imported["folder"] == str(theirs)
    assert imported["files_sha256"].keys() == {MODEL}


def test_a_run_begins_with_its_weights(source, theirs):
    from algpt2.model.gpt import GPT

    ours, _ = taken(theirs)
    model = GPT(GPT2, seed=5)
    checkpoint = find_initial_weights(InitialWeights(ours, False), GPT2, tiny_tokenizer())
    set_initial_weights(model, checkpoint, tiny_tokenizer())
    require_same({name: p.numpy() for name, p in model.named_parameters().items()}, source[1])


def test_names_may_have_transformers_prefix_and_a_tied_head_and_masks_beside_them(source, theirs):
    tensors = {f"transformer.{name}": tensor for name, tensor in source[1].items()}
    tensors["lm_head.weight"] = source[1]["wte.weight"]
    for layer in range(GPT2.n_layer):
        tensors[f"transformer.h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 12, 12), bool))
        tensors[f"transformer.h.{layer}.attn.masked_bias"] = np.array(-1e4, np.float32)
    save(theirs, tensors)
    require_same(taken(theirs)[1], source[1])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32_and_the_log_says_so(source, theirs, dtype, caplog):
    caplog.set_level("INFO", "absl")
    tensors = {name: tensor.astype(dtype) for name, tensor in source[1].items()}
    tensors["ln_f.bias"] = source[1]["ln_f.bias"]
    save(theirs, tensors)
    require_same(taken(theirs)[1], tensors)
    assert f"{len(tensors) - 1} of {len(tensors)} tensors are {np.dtype(dtype).name} and become float32" in caplog.text


def shard(folder, tensors, **misplaced):
    """Puts tensors into two files with an index, in which the names of `misplaced` have another file."""
    (folder / MODEL).unlink()
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, some in halves.items():
        save(folder, {name: tensors[name] for name in some}, file)
    place_of = {name: file for file, some in halves.items() for name in some}
    fields = {"metadata": {"total_size": 1}, "weight_map": place_of | misplaced}
    (folder / f"{MODEL}.index.json").write_text(json.dumps(fields))


def test_several_files_with_an_index_are_one_model(source, theirs):
    shard(theirs, source[1])
    ours, parameters = taken(theirs)
    require_same(parameters, source[1])
    assert len(read_json(ours, "state.json")["imported"]["files_sha256"]) == 2


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json and merges.txt"])
def test_the_tokenizer_may_be_in_either_form_that_gpt2_is_published_in(theirs, form):
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        if name not in form:
            (theirs / name).unlink()
    tokenizer = Tokenizer.load(taken(theirs)[0])
    assert tokenizer.encode(TEXT) == tiny_tokenizer().encode(TEXT)
    assert tokenizer.eos_id == tiny_tokenizer().eos_id


def test_a_folder_without_our_key_means_the_same_as_one_with_it(tmp_path):
    """What our GPT-2 checkpoints say to transformers is read like any other folder of it."""
    save_randomised(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "COMMITTED").unlink()
    assert load_config(taken(tmp_path / "checkpoint")[0]) == GPT2


def spoil(folder, tensors, **changes):
    """Saves the tensors with some changed; None leaves one out."""
    changed = {**tensors, **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save(folder, {name: tensor for name, tensor in changed.items() if tensor is not None})


def truncate(file):
    file.write_bytes(file.read_bytes()[:-5])


def replaced_by_pickle(folder):
    (folder / MODEL).rename(folder / "pytorch_model.bin")


def without_tokenizer(folder):
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink()


def with_another_last_id(folder):
    without_tokenizer(folder)
    vocab = {token: id_ for id_, token in enumerate([*(f"t{i}" for i in range(3)), "<|endoftext|>", "last"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")


NOT_FINITE = np.full(18, np.nan, np.float32)
WRONG = [
    (lambda f, t: edit(f, model_type="llama"), "its model_type is 'llama'", "config.json"),
    (lambda f, t: edit(f, model_type="algpt2"), "its model_type is 'algpt2'"),
    (lambda f, t: edit(f, model_type=None), "its model_type is None"),
    (lambda f, t: edit(f, scale_attn_by_inverse_layer_idx=True), "its scale_attn_by_inverse_layer_idx is true"),
    (lambda f, t: edit(f, tie_word_embeddings=False), "its tie_word_embeddings is false"),
    (lambda f, t: edit(f, rotary_dim=4), "unknown keys ['rotary_dim']"),
    (lambda f, t: (f / "config.json").write_text("{"), "it is not JSON", "config.json"),
    (lambda f, t: spoil(f, t, h__1__ln_2__bias=None), "lacks h.1.ln_2.bias:"),
    (lambda f, t: edit(f, n_layer=4), "lacks h.3.attn.c_attn.bias, h.3.attn.c_attn.weight,", "and more"),
    (lambda f, t: spoil(f, t, score__weight=NOT_FINITE), "has besides score.weight:"),
    (lambda f, t: spoil(f, t, transformer__ln_f__bias=t["ln_f.bias"]), "ln_f.bias and transformer.ln_f.bias"),
    (lambda f, t: edit(f, n_positions=13), "wpe.weight must have the shape (13, 18)", "it has (12, 18)"),
    (lambda f, t: edit(f, n_embd=36), "must have the shape (275, 36)"),
    (lambda f, t: spoil(f, t, lm_head__weight=t["wte.weight"] + 1), "the head must be tied", "lm_head.weight differs"),
    (lambda f, t: spoil(f, t, ln_f__bias=NOT_FINITE), "must be finite, and ln_f.bias"),
    (
        lambda f, t: spoil(f, t, ln_f__bias=np.ones(18, np.int8)),
        "float32, float16, bfloat16, float64",
        "ln_f.bias",
        "I8",
    ),
    (lambda f, t: truncate(f / MODEL), "must be a whole safetensors file", MODEL, "copy it again"),
    (lambda f, t: (f / MODEL).write_bytes(b""), "must be a whole safetensors file"),
    (lambda f, t: (f / MODEL).unlink(), "must hold model.safetensors or model.safetensors.index.json"),
    (lambda f, t: replaced_by_pickle(f), "has only pytorch_model.bin", "save_pretrained(NEW_DIR)"),
    (lambda f, t: shard(f, t, no__such="model-00001-of-00002.safetensors"), "it does not of no__such:"),
    (lambda f, t: shard(f, t, **{"ln_f.bias": "model-00002-of-00002.safetensors"}), "it does not of ln_f.bias:"),
    (lambda f, t: shard(f, t, more="model-3.safetensors"), "names model-3.safetensors, and ", "lacks it"),
    (
        lambda f, t: shard(f, t, more="../x.safetensors"),
        "names '../x.safetensors', which is no safetensors file beside",
    ),
    (lambda f, t: shard(f, t) or edit(f, f"{MODEL}.index.json", weight_map=None), "it has no weight_map"),
    (lambda f, t: without_tokenizer(f), "the model's tokenizer must be beside it", "copy it there"),
    (lambda f, t: with_another_last_id(f), "<|endoftext|> must have the last id, 4"),
    (lambda f, t: edit(f, vocab_size=269) or spoil(f, t, wte__weight=t["wte.weight"][:269]), "269 rows for 270 ids"),
    (lambda f, t: edit(f, eos_token_id=5), "must be the tokenizer's <|endoftext|>", "it is 5 for 269"),
]


@pytest.mark.parametrize(("change", "parts"), [(change, parts) for change, *parts in WRONG], ids=[w[1] for w in WRONG])
def test_what_no_checkpoint_can_be_made_of_is_refused_in_a_sentence_and_nothing_is_written(
    source, theirs, change, parts
):
    change(theirs, source[1])
    with pytest.raises(UserError) as raised:
        convert(str(theirs), str(theirs.with_name("ours")))
    for part in (*parts, str(theirs)):
        assert part in str(raised.value)
    assert not theirs.with_name("ours").exists()


def test_a_file_that_lies_is_not_run(theirs):
    """Pickled weights beside safetensors are not read."""
    (theirs / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    taken(theirs)
