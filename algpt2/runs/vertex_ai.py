"""The folders that Vertex AI names to a job, which stand for flags that say the same and were left out.

A run's folder is what a restarted job must find again, and that is what Vertex AI means by its folder of checkpoints.
`AIP_MODEL_DIR` is not read: it is for a finished model, which Vertex AI may copy and serve as it finds it, and a run's
folder has optimizer states and figures in it (docs/design/runs.md).
"""

import argparse
from collections.abc import Mapping

from absl import logging

VARIABLES = {"model_dir": "AIP_CHECKPOINT_DIR", "tensorboard_dir": "AIP_TENSORBOARD_LOG_DIR"}


def with_folders(arguments: argparse.Namespace, environment: Mapping[str, str]) -> argparse.Namespace:
    """Returns the flags with Vertex AI's folders in the place of those that were not given, and logs which these are.

    Args:
      arguments: the parsed flags of train_tfrecords.py.
      environment: of the process; a variable that is empty counts as not set.
    """
    taken = {}
    for flag, variable in VARIABLES.items():
        folder = environment.get(variable, "").rstrip("/")
        if folder and getattr(arguments, flag) is None and _is_wanted(flag, arguments):
            taken[flag] = folder
            logging.info("--%s is %s, from the environment variable %s", flag, folder, variable)
    return argparse.Namespace(**{**vars(arguments), **taken})


def _is_wanted(flag: str, arguments: argparse.Namespace) -> bool:
    return flag != "tensorboard_dir" or getattr(arguments, "tensorboard", True)
