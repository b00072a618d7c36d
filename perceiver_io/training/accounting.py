"""Where the time of a run goes, and a watchdog that says where it is stuck (not in the paper)."""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

# In the order of the line at the end of a run.
PARTS = ('start', 'compile', 'data', 'step', 'replay', 'evaluate', 'save')
_UNWATCHED = ('start', 'compile')  # these can take as long as they like
_LOOKS = 20  # at the run, in the time after which it counts as stuck
_SHOWN = 20  # clips


class Accounting:
    """Adds up the seconds of each part of a run.

    Data are the seconds in which the loop waits for the next batch; steps run on the device in that
    time too. Replay are the steps that an earlier start of the run had trained and not saved, up to
    the last that it has logged. The first batch of an evaluation counts as compilation.

    Args:
        clock: gives the time in seconds.

    Attributes:
        part: what the run does now.
        since: when that began.
        step: that was begun last; 0 for none.
        clips: names of those of its batch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self.part, self.since = PARTS[0], clock()
        self.step = 0
        self.clips: Sequence[str] = ()

    def now(self, part: str) -> None:
        """Ends the part that went on, and begins another one."""
        now = self._clock()
        self._seconds[self.part] += now - self.since
        self.part, self.since = part, now

    def batch(self, step: int, clips: Sequence[str]) -> None:
        """A step is about to begin, on these clips."""
        self.step, self.clips = step, clips

    def now_for(self) -> float:
        """For how many seconds the part has gone on."""
        return self._clock() - self.since

    def seconds(self) -> dict[str, float]:
        """Of each part, up to now."""
        self.now(self.part)
        return dict(self._seconds)

    def __str__(self) -> str:
        """One line: the seconds of each part, and its share of all."""
        seconds = self.seconds()
        whole = max(sum(seconds.values()), 1e-9)
        parts = ', '.join(
            f'{name} {value:.0f} s ({value / whole:.0%})' for name, value in seconds.items()
        )
        return f'{whole:.0f} s in all: {parts}'


@contextlib.contextmanager
def watchdog(account: Accounting, minutes: float, ends: bool) -> Iterator[None]:
    """Watches a run: if nothing happens for some minutes, prints where every thread is.

    Not while the run starts or compiles. In an evaluation, each batch is progress. It prints once
    for each time that the run is stuck.

    Args:
        account: of the run.
        minutes: after which it counts as stuck; 0 for no watchdog.
        ends: whether the process is then ended, with exit status 1, so that a scheduler starts it
            again.
    """
    if not minutes:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        said = None
        while not ended.wait(60 * minutes / _LOOKS):
            stuck = account.part not in _UNWATCHED and account.now_for() > 60 * minutes
            if stuck and said != account.since:
                said = account.since
                _say(account, ends)

    thread = threading.Thread(target=watch, daemon=True, name='watchdog')
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


_DOING = {
    'data': 'waiting for data',
    'step': 'in a step',
    'replay': 'in a step',
    'evaluate': 'in an evaluation',
    'save': 'saving',
}


def _say(account: Accounting, ends: bool) -> None:
    names = ', '.join(account.clips[:_SHOWN])
    more = f' and {len(account.clips) - _SHOWN} more' if len(account.clips) > _SHOWN else ''
    doing = _DOING[account.part]
    print(
        f'no progress for {account.now_for() / 60:.1f} minutes, {doing}; the last batch was that '
        f'of step {account.step}: {names}{more}. All threads:',
        file=sys.stderr,
        flush=True,
    )
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    if ends:
        os._exit(1)  # not by an exception: the main thread does not run
