"""How the programs start, and how they end when the user has to change something."""

import linecache
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, logging

TRACEBACK = 'PERCEIVER_IO_TRACEBACK'  # set this variable to anything to see where an error arose

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(main: Callable[[Sequence[str]], int | None],
        define_flags: Callable[[], None] | None = None) -> None:
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
    """What to tell the user; None where the error is a bug.

    For the user are the ValueErrors that this project raises itself (those that a library raises
    are bugs of ours), what the system refuses, and keys that a config does not have.
    """
    if isinstance(error, ValueError) and _raised_here(error):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        # This is how ml_collections says it, in two lines.
        return 'the config has no key ' + '; '.join(str(error.args[0].args[0]).splitlines())
    return None


def _raised_here(error: Exception) -> bool:
    """Whether a `raise` in the project's own code is where the error arose."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    path = pathlib.Path(frame.filename).resolve()
    own = path.parent == _ROOT or _ROOT / 'perceiver_io' in path.parents
    return own and linecache.getline(frame.filename, frame.lineno).lstrip().startswith('raise ')
