"""The loss over conversations: that of what the assistant says, each conversation as if it were alone."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from conversations import conversations, make_records, write_conversations
from saved_tokenizer import save_tokenizer
from tiny_models import ALGPT2_CONFIG, randomised

from algpt2.evaluation.validation import Validator
from algpt2.model.losses import token_nats
from algpt2.records.record_set import open_record_set
from algpt2.text.chat import Message, Template
from algpt2.text.tokenizer import Tokenizer

SOME = conversations()[:7]


def test_the_loss_is_that_of_each_reply_alone_padded_or_packed_with_the_document_mask(tmp_path, tmp_path_factory):
    """Catches: weights of the wrong targets, fillings that count, and conversations of a row that see each other."""
    chat_file = write_conversations(tmp_path / "chat.jsonl", SOME)
    plain = save_tokenizer(tmp_path_factory, [json.dumps(one) for one in SOME])
    tokenizer = Tokenizer.load(plain).with_chat_tokens()
    config = dataclasses.replace(
        ALGPT2_CONFIG, vocab_size=tokenizer.vocab_size, seq_len=160, position_encoding="alibi", n_layer=1
    )
    model = randomised(dataclasses.replace(config, document_eos_id=tokenizer.eos_id))

    total, targets = 0.0, 0
    for messages in SOME:
        ids, weights = Template(tokenizer).encode([Message(**one) for one in messages])
        nats = token_nats(model(ids[None, :-1]), tf.constant(ids[None, 1:])).numpy()[0]
        total += float(nats[weights[1:] == 1].sum())
        targets += int(weights.sum())
    spelt = sum(len(one["content"]) for messages in SOME for one in messages if one["role"] == "assistant")

    rows = []
    for packing in ("padded", "whole"):
        folder = tmp_path / packing
        make_records(folder, chat_file, plain, packing=packing, seq_len=config.seq_len, val_fraction=0)
        records = open_record_set([str(folder)], "train")
        loss = Validator(tf.distribute.get_strategy(), model, records, batch_size=4, jit_compile=False)()
        assert (loss.tokens, loss.text_bytes) == (targets, spelt)
        assert loss.total_nats == pytest.approx(total, rel=1e-5)
        assert records.packs_conversations == (packing == "whole")
        rows.append(records.records)
    assert rows[0] == len(SOME) > rows[1], "the test needs conversations that share a row"
    assert np.isfinite(total)
