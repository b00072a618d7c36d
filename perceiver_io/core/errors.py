"""Errors that the user can act on."""

import contextlib
from collections.abc import Iterator


class UserError(ValueError):
    """A mistake that the user can correct: the message says what to change.

    The programs print the message as one line and exit with status 1, or 2 for `UsageError`. Any
    other exception is a bug and shows its traceback.
    """


class InvalidFileError(UserError):
    """A file is damaged, or is not what it should be; the message says what is wrong with it."""


class UsageError(UserError):
    """The command line or its config is wrong; the programs exit with status 2."""


@contextlib.contextmanager
def as_usage() -> Iterator[None]:
    """Around checks of what the user typed: a UserError becomes a UsageError, except of a file."""
    try:
        yield
    except (InvalidFileError, UsageError):
        raise
    except UserError as error:
        raise UsageError(str(error)) from error
