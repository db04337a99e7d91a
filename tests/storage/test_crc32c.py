"""Checksums of parts, joined to that of the whole."""

import google_crc32c
import pytest

from algpt2.storage.crc32c import joined

TEXT = bytes(range(256)) * 300


def checksum(data):
    return f"{google_crc32c.value(data):08x}"


@pytest.mark.parametrize("cut", [0, 1, 2, 255, 65_536, len(TEXT) - 1, len(TEXT)])
def test_the_checksums_of_two_parts_make_that_of_the_whole(cut):
    """Catches a part that counts as empty, and powers that are wrong from some size on."""
    first, second = TEXT[:cut], TEXT[cut:]
    assert joined(checksum(first), checksum(second), len(second)) == checksum(TEXT)


def test_any_number_of_parts_makes_the_whole():
    whole, bounds = checksum(b""), [0, 3, 3, 4096, 50_000, len(TEXT)]
    for first, end in zip(bounds, bounds[1:], strict=False):
        whole = joined(whole, checksum(TEXT[first:end]), end - first)
    assert whole == checksum(TEXT)
