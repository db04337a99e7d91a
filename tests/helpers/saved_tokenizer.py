"""A tokenizer on disk, as the preparation of records takes it."""

from algpt2.text.tokenizer import Tokenizer


def save_tokenizer(tmp_path_factory, texts):
    """Trains a tokenizer of 300 ids and returns its folder."""
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    Tokenizer.train(texts, 300).save(str(folder))
    return str(folder)
