"""Which documents are held out, and in which order the others stand, is the same in every process and for ever."""

import subprocess
import sys

from places import REPOSITORY

from algpt2.preparation.document_keys import content_digest, is_held_out

TEXTS = [f"document {number}" for number in range(16)]
# Worked out from BLAKE2b by a separate program. A change would hold out documents that models were trained on.
HELD_OUT_OF_HALF = "1000000110110001"
PROGRAM = """
from algpt2.preparation.document_keys import content_digest, is_held_out, key_array, order_key, sorting

digests = [content_digest(f"document {number}".encode()) for number in range(16)]
print("".join(str(int(is_held_out(digest, 0.5))) for digest in digests))
print(*sorting(key_array([order_key(digest, 0) for digest in digests])))
"""


def split_of(texts, val_fraction):
    return "".join(str(int(is_held_out(content_digest(text.encode()), val_fraction))) for text in texts)


def test_these_documents_are_held_out_and_no_others():
    assert split_of(TEXTS, 0.5) == HELD_OUT_OF_HALF
    assert split_of(TEXTS, 0.0) == "0" * len(TEXTS)


def test_split_and_order_are_the_same_in_processes_whose_hashes_are_salted_differently():
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    (first, second) = (process.communicate()[0].splitlines() for process in processes)
    assert first == second
    assert first[0] == HELD_OUT_OF_HALF
    assert sorted(map(int, first[1].split())) == list(range(16))
