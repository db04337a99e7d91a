"""Marks for tests that not every machine can run."""

import pytest

from algpt2.devices import wheels
from algpt2.errors import UserError
from algpt2.preflight import tpu_compiler

needs_host_compiler = pytest.mark.skipif(
    not wheels.has_host_compiler(), reason="this wheel has no XLA backend for CPUs"
)


def _missing_tpu_compiler() -> str:
    """Returns the sentence that says what a rehearsal lacks here, empty if nothing."""
    try:
        tpu_compiler.require_compiler()
    except UserError as error:
        return str(error)
    return ""


needs_tpu_compiler = pytest.mark.skipif(bool(_missing_tpu_compiler()), reason=_missing_tpu_compiler())
