"""What tests do in processes of their own, which find it by its name in this module."""

import os
import signal

from algpt2.errors import UserError


def process_id():
    """Returns the id of the process that it runs in."""
    return os.getpid()


def refuse(received):
    """Raises `UserError`."""
    raise UserError(f"a rule, {received}: a remedy.")


def die():
    """Ends its process as the system does where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
