"""Which TensorFlow wheel is installed, and what to install when it is none or a wrong mix."""

import contextlib
import os
import sys
from importlib import metadata

from absl import logging

from algpt2.devices.startup_chatter import filtered_stderr
from algpt2.errors import UserError

EXTRA_OF_WHEEL = {"tensorflow-cpu": "cpu", "tensorflow": "gpu", "tensorflow-tpu": "tpu"}
OLDEST_LIBTPU, NEWEST_LIBTPU = (0, 0, 14), (0, 0, 30)
LOG_LEVEL, ALL_MESSAGES, ERRORS_ONLY = "TF_CPP_MIN_LOG_LEVEL", "0", "2"


def require_tensorflow() -> None:
    """Checks, without importing it, that exactly one usable TensorFlow wheel is installed.

    It also selects TensorFlow as the backend of Keras and how much TensorFlow's C++ code logs, which both must happen
    before the first import of Keras or TensorFlow.

    Raises:
      UserError: there is no wheel, there are several (they overwrite each other's files), or libtpu is one with which
        `import tensorflow` aborts the process.
    """
    wheels = [wheel for wheel in EXTRA_OF_WHEEL if installed_version(wheel)]
    _check_wheels(wheels, installed_version("libtpu"))
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if logging.level_debug():
        os.environ[LOG_LEVEL] = ALL_MESSAGES
    else:
        os.environ.setdefault(LOG_LEVEL, ERRORS_ONLY)


def load_tensorflow() -> None:
    """Imports TensorFlow, after `require_tensorflow`, without the messages that its libraries write as they start.

    `--verbosity 1`, or a `TF_CPP_MIN_LOG_LEVEL` below 2 in the environment, shows them.

    Raises:
      UserError: as `require_tensorflow`.
    """
    require_tensorflow()
    is_filtered = os.environ[LOG_LEVEL] >= ERRORS_ONLY and "tensorflow" not in sys.modules
    with filtered_stderr() if is_filtered else contextlib.nullcontext():
        import tensorflow  # noqa: F401


def has_host_compiler() -> bool:
    """Returns whether XLA can compile for this machine's CPU or GPU; the tensorflow-tpu wheel compiles for TPU only."""
    return installed_version("tensorflow-tpu") is None


def installed_version(distribution: str) -> str | None:
    """Returns the version of an installed distribution, such as `libtpu`, or None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _check_wheels(wheels: list[str], libtpu_version: str | None) -> None:
    if not wheels:
        raise UserError(
            "TensorFlow is not installed: run `pip install -e '.[cpu]'` "
            "(or '.[gpu]' for NVIDIA GPUs, '.[tpu]' for Cloud TPUs; take exactly one)."
        )
    if len(wheels) > 1:
        raise UserError(
            f"Exactly one TensorFlow wheel may be installed, found {', '.join(wheels)}: "
            f"run `pip uninstall -y {' '.join(wheels)}` and then `pip install -e '.[cpu]'` (or gpu, or tpu)."
        )
    if wheels == ["tensorflow-tpu"] and not _works(libtpu_version):
        raise UserError(
            f"tensorflow-tpu 2.20 works with libtpu 0.0.14 to 0.0.30, found {libtpu_version or 'none'}; with others "
            "`import tensorflow` aborts: run `pip install 'libtpu>=0.0.14,<=0.0.30'`."
        )


def _works(libtpu_version: str | None) -> bool:
    return libtpu_version is not None and OLDEST_LIBTPU <= _release(libtpu_version) <= NEWEST_LIBTPU


def _release(version: str) -> tuple[int, ...]:
    """'0.0.52.dev20260101+nightly' -> (0, 0, 52)."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
