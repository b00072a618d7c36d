"""Progress bars that all programs share."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

import tqdm

LOG_SECONDS = 20  # between the lines of a progress bar in a log


def progress_bar(
    iterable: Iterable[Any] | None = None,
    description: str | None = None,
    *,
    leave: bool = True,
    **settings: Any,
) -> tqdm.tqdm:
    """A `tqdm` bar on stderr: redrawn in a terminal, a line every 20 s elsewhere.

    Args:
        iterable: what to count; None to call `update`.
        description: what stands before the bar.
        leave: whether the bar stays when it is done. One that does not stay writes nothing into a
            log in its first 20 s.
        **settings: those of `tqdm.tqdm`, such as `total`, `unit` and `disable`.
    """
    settings |= {'iterable': iterable, 'desc': description, 'leave': leave}
    if sys.stderr.isatty():
        return tqdm.tqdm(dynamic_ncols=True, mininterval=0.5, **settings)
    return tqdm.tqdm(
        file=_Lines(sys.stderr),
        mininterval=LOG_SECONDS,
        maxinterval=2 * LOG_SECONDS,
        delay=0 if leave else LOG_SECONDS,
        **settings,
    )


class _Lines:
    """A stream for logs: tqdm overwrites the current line, this writes another one."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.replace('\r', '').strip()
        if line:
            self._stream.write(f'{line}\n')

    def flush(self) -> None:
        self._stream.flush()
