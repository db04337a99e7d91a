"""How much memory this machine has, and what is said when it is not enough."""

import os

import pytest

from algpt2.devices.host_memory import host_memory_bytes, out_of_memory
from algpt2.errors import UserError


def test_the_memory_is_that_of_the_machine_with_swap_or_less_in_a_container(tmp_path):
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    everything = host_memory_bytes(tmp_path)
    assert everything >= physical
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory_bytes(tmp_path) == everything
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.swap.max").write_text("0\n")
    assert host_memory_bytes(tmp_path) == 1_000_000


@pytest.mark.parametrize("kind", ["python", "tensorflow"])
def test_running_out_of_memory_is_one_sentence_with_the_remedy(kind):
    import tensorflow as tf

    error = MemoryError() if kind == "python" else tf.errors.ResourceExhaustedError(None, None, "OOM\nwhen allocating")
    sentence = r"must fit into memory, and they do not \((MemoryError|OOM)\): buy some\.$"
    with pytest.raises(UserError, match=sentence), out_of_memory("buy some"):
        raise error


def test_other_errors_pass():
    with pytest.raises(KeyError), out_of_memory("buy some"):
        raise KeyError("x")
