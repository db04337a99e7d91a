"""A checkpoint opened for evaluation."""

import dataclasses
import json
from pathlib import Path

import pytest
import tensorflow as tf
from tiny_checkpoints import save_random
from tiny_models import ALGPT2_CONFIG
from tiny_step import TWO, strategy_of

from algpt2.checkpoints.opened import open_checkpoint
from algpt2.errors import UserError
from algpt2.text.tokenizer import Tokenizer


def test_its_model_lies_on_the_replicas_that_will_score_and_its_tokenizer_is_its_own(good):
    opened = open_checkpoint(str(good / "algpt2"), False, strategy_of(TWO))
    assert Path(opened.folder).parent == good / "algpt2" / "checkpoints"
    assert opened.tokenizer.vocab_size == Tokenizer.load(str(good / "tokenizer")).vocab_size
    assert len(opened.model.wte.value.values) == 2


def test_a_tokenizer_with_ids_that_the_model_lacks_is_refused(good, tmp_path):
    tokenizer = json.loads((good / "tokenizer" / "tokenizer.json").read_text())
    n_ids = Tokenizer.load(str(good / "tokenizer")).vocab_size
    save_random(str(tmp_path), 0, dataclasses.replace(ALGPT2_CONFIG, vocab_size=n_ids - 1), tokenizer)
    with pytest.raises(UserError, match=f"has {n_ids} ids where the model has {n_ids - 1}"):
        open_checkpoint(str(tmp_path), False, tf.distribute.get_strategy())
