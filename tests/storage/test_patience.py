"""How long an outage is waited out, by whom."""

import threading
import time

import pytest

from algpt2 import storage
from algpt2.storage.patience import patience_seconds, trying_for

OPERATIONS = {
    "a write": lambda: storage.write_text("gs://bucket/a", "text"),
    "a question": lambda: storage.exists("gs://bucket/a"),
    "a reading": lambda: storage.read_text("gs://bucket/a"),
    "a listing": lambda: storage.of("gs://bucket").list_files("gs://bucket"),
    "a deletion": lambda: storage.of("gs://bucket").delete_file("gs://bucket/a"),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_on_cloud_storage_fails_when_the_patience_is_over(cloud, operation):
    """Google's own patience is two minutes, in which a background thread should have given a sign."""
    storage.write_text("gs://bucket/a", "text")
    with cloud.failing(), trying_for(0.2):
        begin = time.monotonic()
        with pytest.raises(Exception, match="."):
            operation()
        assert time.monotonic() - begin < 10


def test_patience_is_that_of_one_thread_and_ends_with_its_block():
    found = []
    with trying_for(5):
        thread = threading.Thread(target=lambda: found.append(patience_seconds()))
        thread.start()
        thread.join()
        assert patience_seconds() == 5
    assert found == [patience_seconds()] == [120]
