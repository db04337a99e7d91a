import pytest

from algpt2.devices.chips import CHIPS, device_kind_of, peak_flops
from algpt2.errors import UserError


def test_a_replica_is_a_core_on_v3_and_a_chip_later():
    assert peak_flops(2, "v3") == CHIPS["v3"].peak_flops
    assert peak_flops(2, "v4") == 2 * CHIPS["v4"].peak_flops


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("v3-128", "v3"),
        ("v2-8", "v2"),
        ("v5litepod-8", "v5e"),
        ("v5p-16", "v5p"),
        ("v6e-4", "v6e"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("Tesla V100-SXM2-16GB", None),
        (None, None),
    ],
)
def test_the_kind_of_a_device_is_read_from_its_name(name, kind):
    assert device_kind_of(name) == kind


def test_an_unknown_kind_of_device_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match="one of v2, v3.*received 'v100'"):
        peak_flops(1, "v100")
