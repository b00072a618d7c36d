"""Stopping at a point where all state can be saved: on SIGTERM, SIGUSR1 and Ctrl-C.

A scheduler that needs the machine sends SIGTERM, some (SLURM's `--signal`) SIGUSR1, and kills the
process a while later.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

Item = TypeVar('Item')

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_PATIENCE = 1.0  # seconds after a signal, before a line says that it has come


def end_at_sigterm() -> None:
    """SIGTERM ends this program at once, as it ends programs without `--distributed`.

    For programs that do not use `StopSignals`: JAX's runtime catches the signal to tell the other
    processes, and the program would go on until it is killed.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Stopped(Exception):
    """The program has been asked to stop, and reached a point at which it can.

    Attributes:
        signal: by which it was asked.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(f'stopped by {received.name}')
        self.signal = received


class StopSignals:
    """Turns signals into `Stopped`, raised only at points where that does no harm.

    A context manager: the handlers that were there come back at the end. Without entering it,
    nothing ever stops. A second Ctrl-C is an ordinary KeyboardInterrupt. Python calls the handlers
    only when a step or a compilation that is running has ended; a line on stderr says so if that
    takes more than a second.

    With several processes, every one of them must call `check` equally often: the first at which
    all know of the signal is the one where all stop. JAX passes SIGTERM on among them; the
    other signals are turned into it.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._interruptible = False
        self._checks = 0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> 'StopSignals':
        several = jax.process_count() > 1
        for number in SIGNALS:
            if several and number == signal.SIGTERM:
                continue  # the handler of jax.distributed must stay
            self._before[number] = signal.signal(number, self._receive)
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=_confirm, args=(read,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._write)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        if jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)
        elif self._interruptible:
            raise Stopped(self._received)

    def check(self) -> None:
        """Raises Stopped if a signal has come, at the same call in all processes."""
        if jax.process_count() == 1:
            if self._received is not None:
                raise Stopped(self._received)
            return
        self._checks += 1
        if multihost_utils.reached_preemption_sync_point(self._checks):
            raise Stopped(self._received or signal.SIGTERM)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Around code that waits, such as reading: a signal raises Stopped at once.

        On several processes it does not, because the others would not know of it.
        """
        if self._received is not None and jax.process_count() == 1:
            raise Stopped(self._received)
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def checking(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, with a check before each; waiting for one is interrupted."""
        iterator = iter(items)
        while True:
            self.check()
            with self.interrupting():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


def _confirm(read: int) -> None:
    """Says that the first of `SIGNALS` has come, unless the program ends soon after it.

    Args:
        read: the end of a pipe from which the numbers of signals come. It is closed at the end.
    """
    said = False
    while number := os.read(read, 1):  # to its end: signals go on writing into it
        if number[0] in SIGNALS and not said:
            said = True
            ready, _, _ = select.select([read], [], [], _PATIENCE)
            if not ready or os.read(read, 1):
                name = signal.Signals(number[0]).name
                print(f'{name}: the run stops when its present step has ended', file=sys.stderr)
    os.close(read)
