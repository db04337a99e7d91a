"""Checkpoints as files of LiteRT."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from interchange import ALGPT2, random_ids, save_randomised

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError
from algpt2.interchange.convert import convert
from algpt2.interchange.ways_out import WAYS_OUT


@pytest.fixture(scope="module", params=[{}, {"position_encoding": "alibi", "document_eos_id": 7}])
def written(tmp_path_factory, request):
    """Our model, and the folder that it was written to."""
    folder = tmp_path_factory.mktemp("litert")
    model = save_randomised(folder / "ours", dataclasses.replace(ALGPT2, n_layer=2, **request.param))
    convert(str(folder / "ours"), str(folder / "theirs"), "litert")
    return model, folder / "theirs"


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_it_gives_the_logits_of_a_text_of_the_models_length(written):
    model, folder = written
    interpreter = tf.lite.Interpreter(str(folder / "model.tflite"))
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    ids = random_ids(ALGPT2, batch=1)
    ids[:, 5] = 7
    interpreter.set_tensor(given["index"], ids)
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(result["index"]), model(ids), atol=1e-5)


def test_the_code_of_the_card_runs(written):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    model, folder = written
    usage = WAYS_OUT["litert"].usage.replace("FOLDER", str(folder)).replace("Once upon a time", "the cat")
    names: dict = {}
    exec(usage, names)
    np.testing.assert_allclose(names["logits"], model(np.array([names["ids"]]))[0], atol=1e-5)


def test_a_model_beyond_the_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(GPTConfig, "parameter_count", lambda _: 2**29)
    save_randomised(tmp_path / "ours", dataclasses.replace(ALGPT2, n_layer=1))
    with pytest.raises(UserError, match="at most 2,147,483,647 bytes.* 2,147,483,648: use --to saved_model"):
        convert(str(tmp_path / "ours"), str(tmp_path / "theirs"), "litert")
