"""Silences what Orbax and TensorStore print besides the errors that they raise.

Where a read or a write fails, they log a traceback for every array, and leave others of them to
fail later, in threads and coroutines for which nobody waits.
"""

import logging
import sys
from typing import Any

from absl import logging as absl_logging


def silence() -> None:
    """From now on; with --verbosity=0, the logs are shown. Calling it twice does nothing more."""
    absl_logging.get_absl_logger().addFilter(_is_shown)
    logging.getLogger('asyncio').addFilter(_is_shown)
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


def _is_shown(record: logging.LogRecord) -> bool:
    from_orbax = record.name == 'asyncio' or '/orbax/' in record.pathname
    return not from_orbax or absl_logging.get_verbosity() >= absl_logging.INFO


class _Hook:
    """Passes on to another hook what is not of Orbax and TensorStore."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        coroutine = getattr(unraisable.object, 'cr_code', None)
        if coroutine is not None and '/orbax/' in coroutine.co_filename:
            return
        if str(unraisable.exc_value) == 'Event loop is closed':
            return
        self._before(unraisable)
