"""Ends this process, with one line, when another process of the computation is gone.

JAX's runtime ends the others too, by an abort with a C++ stack, or leaves them waiting in its
shutdown. So the processes tell each other through its key-value store that they are alive, and
the runtime's own limit is twice as long. If process 0 is killed, the store goes with it, and the
runtime can abort first.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import NoReturn, Protocol

import jax

from perceiver_io.distributed.preemption import Stopped

_ALIVE = 'perceiver_io/alive/'  # + process: 1, 2, ... while it runs
_DONE, _FAILED = 'done', 'failed'
_LOOKS = 10  # at the others, in the time after which a silent one counts as gone
# What errors of collectives and of the store say when a process is gone.
_SIGNS = ('Gloo', 'gloo', 'NCCL', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'onnection', 'heartbeat')


class Store(Protocol):
    """The part of the runtime's client that is used."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


class Peers:
    """What is known of the processes; no threads.

    Args:
        store: shared by all of them.
        count: of processes.
        own: which this is.
    """

    def __init__(self, store: Store, count: int, own: int) -> None:
        self._store = store
        self._own = own
        self._beats = 0
        self._last = dict.fromkeys(set(range(count)) - {own}, '')
        self._unchanged = dict.fromkeys(self._last, 0)

    def beat(self) -> None:
        """Says that this process is alive, and asks for the others; can wait for process 0."""
        self._beats += 1
        self.say(str(self._beats))
        for key, value in self._store.key_value_dir_get(_ALIVE):
            process = int(key.rpartition('/')[2])
            if process in self._last and value != self._last[process]:
                self._last[process], self._unchanged[process] = value, 0

    def say(self, value: str) -> None:
        self._store.key_value_set(f'{_ALIVE}{self._own}', value, allow_overwrite=True)

    def gone(self) -> str:
        """What happened to a process that is gone, '' if none is; call it `_LOOKS` times a limit.

        Calls are counted instead of seconds, so that processes that are halted together, and go on
        together, do not miss each other.
        """
        for process, value in sorted(self._last.items()):
            if value == _DONE:
                continue
            self._unchanged[process] += 1
            if value == _FAILED and self._unchanged[process] > 1:  # time to fail for itself
                return f'process {process} has failed'
            if self._unchanged[process] > _LOOKS:
                return f'process {process} is not heard of any more'
        return ''


@contextlib.contextmanager
def watched_peers(timeout: float) -> Iterator[None]:
    """Around the work of one of several processes; does nothing for one alone.

    Args:
        timeout: seconds after which a silent process counts as gone.
    """
    if jax.process_count() == 1:
        yield
        return
    from jax._src.distributed import global_state  # JAX does not publish its store

    assert global_state.client is not None  # there are several processes
    peers = Peers(global_state.client, jax.process_count(), jax.process_index())
    ended = threading.Event()
    pause = timeout / _LOOKS

    def beat() -> None:
        while not ended.wait(pause):
            with contextlib.suppress(Exception):  # `look` notices if it lasts
                peers.beat()

    def look() -> None:
        while not ended.wait(pause):
            if problem := peers.gone():
                _end(problem)

    for work in (beat, look):  # two, because a beat waits as long as process 0 does not answer
        threading.Thread(target=work, daemon=True, name=f'peers-{work.__name__}').start()
    last = _FAILED
    try:
        yield
        last = _DONE
    except Stopped:
        last = _DONE
        raise
    except jax.errors.JaxRuntimeError as error:
        if any(sign in str(error) for sign in _SIGNS):
            _end(f'the connection to another process broke ({str(error).splitlines()[0][:150]})')
        raise
    finally:
        ended.set()
        with contextlib.suppress(Exception):
            peers.say(last)


def _end(problem: str) -> NoReturn:
    text = f'error: {problem}; the others end too: start all processes again to continue\n'
    os.write(2, text.encode())
    os._exit(1)  # not by sys.exit, which would wait for the process that is gone
