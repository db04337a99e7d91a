import pytest

from algpt2.devices.chips import GIB
from algpt2.preflight import tpu_compiler


@pytest.mark.parametrize(
    ("message", "peak"),
    [
        ("Ran out of memory in memory space hbm. Used 36.52G of 31.25G hbm. Exceeded", round(36.52 * GIB)),
        ("RESOURCE_EXHAUSTED: Allocation (size=19604480000) would exceed memory (size=17179869184) ::", 19604480000),
        ("RESOURCE_EXHAUSTED: Allocation (size=5) would exceed memory (size=17179869184) ::", 17179869184),
    ],
)
def test_what_libtpu_says_of_too_large_a_program_is_read(message, peak):
    """As libtpu 0.0.30 said it for v6e and for v3."""
    found = tpu_compiler.too_large(message)
    assert (found.fits, found.peak_hbm_bytes, found.flops) == (False, peak, None)
    assert tpu_compiler.too_large("some other error") is None
