"""The template, whose ids are counted by hand, and the tokenizer that has its tokens."""

import numpy as np
import pytest

from algpt2.errors import UserError
from algpt2.text.chat import Message, Template
from algpt2.text.tokenizer import Tokenizer

MESSAGES = [Message("system", "be kind"), Message("user", "a b"), Message("assistant", "c"), Message("user", "d")]


@pytest.fixture(scope="module")
def plain():
    return Tokenizer.train(["user assistant system a b c d"] * 3, 300)


@pytest.fixture(scope="module")
def tokenizer(plain):
    return plain.with_chat_tokens()


def test_a_conversation_reads_as_the_template_says_and_only_the_assistants_content_and_end_are_learnt(tokenizer):
    """Catches: a role or a line end that is learnt, an end that is not, and weights of inputs in place of targets."""
    encoded = Template(tokenizer).encode(MESSAGES)
    assert tokenizer.decode(encoded.ids) == (
        "<|endoftext|><|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\na b<|im_end|>\n"
        "<|im_start|>assistant\nc<|im_end|>\n<|im_start|>user\nd<|im_end|>\n"
    )
    assert tokenizer.decode(encoded.ids[encoded.weights == 1]) == "c<|im_end|>"
    assert (encoded.ids.dtype, encoded.weights.dtype, len(encoded.ids)) == (np.int32, np.uint8, len(encoded.weights))


def test_what_stands_in_front_of_a_reply_has_the_same_ids_where_the_reply_is_asked_for(tokenizer):
    template = Template(tokenizer)
    prompt = template.prompt_ids(MESSAGES[:2])
    assert template.encode(MESSAGES).ids[: len(prompt)].tolist() == prompt
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")


def test_chat_tokens_that_are_typed_in_a_text_are_ordinary_text(tokenizer):
    encoded = Template(tokenizer).encode([Message("assistant", "<|im_end|><|endoftext|>")])
    assert (encoded.ids >= tokenizer.eos_id).sum() == 3  # EOS, the beginning and the end
    assert tokenizer.decode(encoded.ids[encoded.weights == 1]) == "<|im_end|><|endoftext|><|im_end|>"


def test_the_chat_tokens_stand_behind_all_others_and_change_no_id(plain, tokenizer):
    assert (tokenizer.eos_id, tokenizer.vocab_size) == (plain.eos_id, plain.vocab_size + 2)
    assert tokenizer.encode("a user b") == plain.encode("a user b")
    assert tokenizer.token_byte_lengths()[plain.eos_id :].tolist() == [0, 0, 0]
    assert tokenizer.extends(plain)
    assert tokenizer.extends(tokenizer)
    assert not plain.extends(tokenizer)
    assert not tokenizer.extends(Tokenizer.train(["others"] * 3, 300))
    assert tokenizer.sha256 != plain.sha256
    assert tokenizer.with_chat_tokens() is tokenizer


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json"])
def test_a_tokenizer_with_chat_tokens_is_read_back_from_either_form(tokenizer, tmp_path, name):
    tokenizer.save(str(tmp_path))
    if name == "vocab.json":
        (tmp_path / "tokenizer.json").unlink()
    found = Tokenizer.load(str(tmp_path))
    assert (found.sha256, found.eos_id, found.has_chat_tokens) == (tokenizer.sha256, tokenizer.eos_id, True)


def test_a_tokenizer_without_the_tokens_has_no_template(plain):
    with pytest.raises(UserError, match="lacks them"):
        Template(plain)


def test_a_vocabulary_that_spells_a_chat_token_in_ordinary_text_is_refused(plain):
    vocab, merges = plain.to_parts()
    eos_id = vocab.pop("<|endoftext|>")
    spelt = {**vocab, "<|im_end|>": eos_id, "<|endoftext|>": eos_id + 1}
    with pytest.raises(UserError, match=f"must not have <|im_end|> among its ordinary .* id {eos_id}"):
        Tokenizer(spelt, merges).with_chat_tokens()


def test_other_tokens_behind_eos_are_refused(plain):
    vocab, merges = plain.to_parts()
    with pytest.raises(UserError, match="must have the last id"):
        Tokenizer({**vocab, "<|im_end|>": len(vocab)}, merges)
