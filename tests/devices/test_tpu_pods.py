import pytest

from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import pod_named, roofline
from algpt2.errors import UserError


@pytest.mark.parametrize(
    ("name", "n_chips", "n_replicas", "hbm_gib"),
    [("v3-128", 64, 128, 16), ("v2-8", 4, 8, 8), ("v4-8", 4, 4, 32), ("v5litepod-8", 8, 8, 16), ("v6e-1", 1, 1, 32)],
)
def test_the_number_of_a_pod_counts_cores_or_chips(name, n_chips, n_replicas, hbm_gib):
    pod = pod_named(name)
    assert (pod.n_chips, pod.n_replicas, pod.replica_hbm_bytes) == (n_chips, n_replicas, hbm_gib * GIB)
    assert pod_named("v5e-8").n_replicas == pod_named("v5litepod-8").n_replicas


@pytest.mark.parametrize("name", ["v3", "v3-7", "v3-0", "v3-4096", "v7-8", "v5e-512", "my-pod", "xv3-8"])
def test_an_unknown_pod_is_refused_with_the_list(name):
    with pytest.raises(UserError, match=r"v2-N .*v5litepod-N or v5e-N .*v6e-N .*received"):
        pod_named(name)


def test_the_all_reduce_sends_twice_the_bytes_over_all_links_of_a_chip():
    pod = pod_named("v3-128")
    assert pod.all_reduce_seconds(4 * 328e9) == pytest.approx(2 * 63 / 64 * 4)
    assert pod_named("v3-2").all_reduce_seconds(1e9) == 0


def test_a_step_takes_the_longer_of_arithmetic_and_memory_and_then_the_all_reduce():
    bound = roofline(pod_named("v3-8"), flops=2 * 61.5e12, hbm_bytes_moved=450e9, reduced_bytes=328e9)
    assert (bound.compute_seconds, bound.memory_seconds, bound.all_reduce_seconds) == pytest.approx((2, 1, 1.5))
    assert bound.seconds == pytest.approx(3.5)
