"""Stopping at a point where all state can be saved: on SIGTERM, SIGUSR1 and Ctrl-C.

A scheduler that needs the machine sends SIGTERM, some (SLURM's `--signal`) SIGUSR1, and kills the
process a while later.
"""

import contextlib
import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

Item = TypeVar('Item')

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


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
    nothing ever stops. A second Ctrl-C is an ordinary KeyboardInterrupt.

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
        return self

    def __exit__(self, *_: object) -> None:
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
