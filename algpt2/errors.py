"""The one exception for what a user can mend."""


class UserError(Exception):
    """Wrong arguments or input: one sentence with the rule, what was received, and the remedy.

    Scripts print the sentence on stderr and exit with status 2, without a traceback.
    """


class Interrupted(Exception):
    """A run that a signal stopped after saving: exit status 75; the same command again goes on."""


class TrainingStopped(Exception):
    """A run that cannot go on, through no wrong input: one sentence, exit status 1. Its checkpoints are intact."""
