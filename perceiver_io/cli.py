"""How the programs start, and how they end when the user has to change something."""

import os
import sys
from collections.abc import Callable, Sequence

from absl import app, logging

from perceiver_io.core.errors import UserError

TRACEBACK = 'PERCEIVER_IO_TRACEBACK'  # set this variable to anything to see where an error arose


def run(
    main: Callable[[Sequence[str]], int | None], define_flags: Callable[[], None] | None = None
) -> None:
    """Parses the flags, runs `main(argv)` and exits with what it returns.

    An error that is the user's to solve becomes one line, `error: ...`, and exit status 1. Anything
    else is a bug, and shows its traceback.

    Args:
        main: takes the arguments that are no flags, after the program's name.
        define_flags: defines the flags. Programs that share names of flags define them here, so
            that importing both does not define one twice.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream.errors == 'strict':  # names of files may be of any bytes
            stream.reconfigure(errors='backslashreplace')
    logging.set_verbosity(logging.WARNING)  # Orbax tells much; --verbosity=0 shows it
    try:
        if define_flags is not None:
            define_flags()
        app.run(main)
    except Exception as error:
        text = message(error)
        if text is None or os.environ.get(TRACEBACK):
            raise
        sys.exit(f'error: {text}')


def message(error: Exception) -> str | None:
    """The line to show to the user, or None if the error is a bug.

    The user can act on `UserError`, on errors of the operating system, and on keys that a config
    does not have.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        # ml_collections reports an unknown key in this form, in two lines.
        return 'the config has no key ' + '; '.join(str(error.args[0].args[0]).splitlines())
    return None
