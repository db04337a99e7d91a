import pytest

from algpt2.preflight.batch_search import Trial, largest_fitting


@pytest.mark.parametrize("known", [1, 3, 40, 56])
def test_the_largest_batch_is_found_where_memory_grows_evenly(known):
    tried = []

    def compile_batch(batch):
        tried.append(batch)
        return Trial(batch, 100 + 25 * batch, 100 + 25 * batch <= 1000)

    assert largest_fitting(compile_batch, compile_batch(known), fixed_bytes=100, memory_bytes=1000) == (36, 37)
    assert len(tried) <= 5


def test_the_largest_batch_is_found_where_the_compiler_recomputes_to_make_it_fit():
    """Peaks that level off below what there is, until nothing helps: a straight line would stop too early."""
    largest, _ = largest_fitting(lambda b: Trial(b, min(100 + 50 * b, 990), b <= 21), Trial(4, 300, True), 100, 1000)
    assert largest == 21
    none = largest_fitting(lambda b: Trial(b, 2000, False), Trial(1, 2000, False), 100, 1000)
    assert none == (0, 1)


def test_a_batch_between_the_largest_that_fits_and_the_smallest_that_does_not_is_tried():
    """The line through the peaks leads to 12, which does not fit, and 11 does."""

    def compile_batch(batch):
        return Trial(batch, 100 * batch, fits=batch <= 11)

    assert largest_fitting(compile_batch, compile_batch(10), 0, 1250) == (11, 12)
