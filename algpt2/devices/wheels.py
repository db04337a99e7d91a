"""Which TensorFlow wheel is installed, and what to install when it is none or a wrong mix."""

import os
from importlib import metadata

from algpt2.errors import UserError

EXTRA_OF_WHEEL = {"tensorflow-cpu": "cpu", "tensorflow": "gpu", "tensorflow-tpu": "tpu"}
WORKING_LIBTPU = ((0, 0, 14), (0, 0, 30))


def require_tensorflow() -> None:
    """Checks, without importing it, that exactly one usable TensorFlow wheel is installed.

    Also selects TensorFlow as Keras' backend, so it must run before the first `import keras`.

    Raises:
      UserError: no wheel, several wheels (they overwrite each other's files), or a libtpu that makes
        `import tensorflow` abort the process.
    """
    wheels = [wheel for wheel in EXTRA_OF_WHEEL if _installed_version(wheel)]
    _check_wheels(wheels, _installed_version("libtpu"))
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def has_host_compiler() -> bool:
    """Returns whether XLA can compile for this machine's CPU or GPU; the tensorflow-tpu wheel compiles for TPU only."""
    return _installed_version("tensorflow-tpu") is None


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
    oldest, newest = WORKING_LIBTPU
    return libtpu_version is not None and oldest <= _release(libtpu_version) <= newest


def _installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    """'0.0.52' -> (0, 0, 52); a nightly's suffix is ignored."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
