"""Trains and evaluates points, one after the other, each in processes of its own.

The folder of a point:

| | |
| --- | --- |
| config.py | its config, complete |
| run/ | the run |
| eval/ | its evaluation |
| train.log, eval.log | what the programs print |
| point.json | its values, the seconds of training so far, and whether it is finished |
"""

import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from perceiver_io.core import files
from perceiver_io.core.errors import UserError

STATE = 'point.json'
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_POLL = 0.5  # seconds
_EVALUATION = 0.1  # of the time of a point, for the progress bar


class PointFailed(UserError):
    """A program failed; the message is its own."""


class SweepStopped(Exception):
    """A signal came, and was passed on to the program that was running.

    Attributes:
        signal: that came.
    """

    def __init__(self, received: int) -> None:
        super().__init__(f'stopped by {signal.Signals(received).name}')
        self.signal = received


def read_state(folder: pathlib.Path) -> dict[str, Any]:
    """What `point.json` says; {} where there is none or it is damaged."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def is_finished(folder: pathlib.Path, config: str) -> bool:
    """Whether a point was trained and evaluated with this config."""
    state = read_state(folder)
    return bool(state.get('finished')) and state.get('config') == config


def run_point(
    folder: pathlib.Path,
    config: str,
    steps: int,
    evaluation: Sequence[str],
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Trains and evaluates a point, or goes on with it.

    Args:
        folder: of the point.
        config: the source of its config.
        steps: of its training.
        evaluation: flags of `perceiver-io eval` besides those of the folders.
        progress: is told which share of the point is done, in [0, 1].

    Raises:
        PointFailed: a program failed, or the training stopped before its last step.
        SweepStopped: a signal came; the same call goes on.
    """
    run, results = folder / 'run', folder / 'eval'
    files.write_text(folder / 'config.py', config)
    before = float(read_state(folder).get('train_seconds', 0.0))
    begin = time.monotonic()

    def keep(finished: bool, seconds: float) -> None:
        state = {'finished': finished, 'train_seconds': round(seconds, 1), 'config': config}
        files.write_text(folder / STATE, json.dumps(state, indent=1) + '\n')

    train = [f'--config={folder / "config.py"}', f'--workdir={run}']
    try:
        _run('train', train, folder, lambda: progress(_trained(run, steps) * (1 - _EVALUATION)))
    finally:
        seconds = before + time.monotonic() - begin
        keep(False, seconds)
    flags = [f'--checkpoint={run}', f'--output={results}', *evaluation]
    _run('eval', flags, folder, lambda: None)
    step = read_row(folder)['step']
    if step != steps:
        raise PointFailed(f'the training stopped at step {step} of {steps}: start the sweep again')
    keep(True, seconds)
    progress(1.0)


def read_row(folder: pathlib.Path) -> Mapping[str, Any]:
    """The row of `table5.json` of a point."""
    path = folder / 'eval' / 'table5.json'
    try:
        row = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'{path} is missing or damaged: remove {folder / STATE}') from error
    return row if isinstance(row, dict) else {}


def _run(
    program: str, flags: Sequence[str], folder: pathlib.Path, tick: Callable[[], None]
) -> None:
    """Runs a program of the package; its output goes to a log in the folder."""
    path = folder / f'{program}.log'
    with open(path, 'ab') as log:
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, '-m', f'perceiver_io.{program}', *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches it once, through this process
        )
        with _Forwarding(process) as signals:
            for _ in _until_ended(process):
                tick()
    if signals.received is not None:
        raise SweepStopped(signals.received)
    if process.returncode:
        said = path.read_bytes()[begin:].decode(errors='replace').splitlines()
        last = next((line.strip() for line in reversed(said) if line.strip()), 'it said nothing')
        raise PointFailed(f'{last.removeprefix("error: ")} (see {path})')


def _until_ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    while True:
        try:
            process.wait(timeout=_POLL)
            return
        except subprocess.TimeoutExpired:
            yield


class _Forwarding:
    """Passes signals on to a process while the context lasts.

    Attributes:
        received: the first of them; None if there was none.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.received: int | None = None
        self._process = process
        self._before: dict[int, Any] = {}

    def __enter__(self) -> '_Forwarding':
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is not None:  # this process must not leave the other behind
            self._process.kill()
            self._process.wait()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        self._process.send_signal(number)


def _trained(run: pathlib.Path, steps: int) -> float:
    """The share of the steps that the run has logged."""
    try:
        with open(run / 'metrics.jsonl', 'rb') as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().splitlines()
    except OSError:
        return 0.0
    for line in reversed(lines):
        try:
            return min(1.0, json.loads(line)['step'] / steps)
        except (ValueError, KeyError, TypeError):
            continue
    return 0.0
