"""Errors that the user can act on."""


class UserError(ValueError):
    """A mistake that the user can correct: the message says what to change.

    The programs print the message as one line and exit with status 1, or 2 for `UsageError`. Any
    other exception is a bug and shows its traceback.
    """


class InvalidFileError(UserError):
    """A file is damaged, or is not what it should be; the message says what is wrong with it."""


class UsageError(UserError):
    """The command line is wrong or incomplete; the programs exit with status 2."""
