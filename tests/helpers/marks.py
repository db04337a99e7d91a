"""Marks for tests that not every machine can run."""

import pytest

from algpt2.devices import wheels

needs_host_compiler = pytest.mark.skipif(
    not wheels.has_host_compiler(), reason="this wheel has no XLA backend for CPUs"
)
