"""A run of `train.py` that is halted in the middle of something, and then hurt."""

import collections
import json
import os
import pathlib
import random
import signal
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import numpy as np
import orbax.checkpoint as ocp
from helpers.several_processes import start
from helpers.tiny import TINY_DEMO

from perceiver_io.checkpoints.repair import UNFINISHED
from perceiver_io.training.run_lock import LOCK

STEPS, SAVED_EVERY, EVALUATED_EVERY, KEPT = 40, 4, 8, 8
KEYS: dict[str, object] = TINY_DEMO | {
    'training.steps': STEPS,
    'training.log_every': 1,
    'training.eval_every': EVALUATED_EVERY,
    'training.checkpoint_every': SAVED_EVERY,
    'training.keep': KEPT,
    'model.dropout': 0.1,
    # Less to trace and to compile at each start.
    'model.modalities': "('video','label')",
    'optimizer.name': 'adamw',
    'optimizer.learning_rate': 2e-3,
    'data.render_size': 128,  # so that reading takes a part of the time
    'data.render_seconds': 2.0,
    'data.eval_windows': 2,
}
# What a start is doing, and for how many seconds a fault in the middle of it waits at most.
PHASES = {
    'start': 4.0,  # imports, restoring
    'compile': 6.0,
    'read': 0.05,
    'step': 0.05,
    'evaluate': 0.2,
    'save': 0.05,
}
TIMES = {'train/examples_per_second', 'train/data_wait'}  # metrics that no two runs share
NOISE = (
    'Traceback',
    'Exception ignored',
    'Exception in thread',
    'never retrieved',
    'Fatal',
    'Failed to json parse',  # Orbax, of metadata that it can do without
)


class Run:
    """A run and its starts, one after the other.

    Args:
        workdir: of the run.
        cache: for rendered clips.
        processes: of each start.
        environment: of the processes.
        keys: of the config, besides KEYS.
        outputs: the folder for what the processes show; None for the one around `workdir`.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        cache: pathlib.Path,
        processes: int = 1,
        environment: Mapping[str, str] = os.environ,
        keys: Mapping[str, object] = MappingProxyType({}),
        outputs: pathlib.Path | None = None,
    ) -> None:
        self.workdir = workdir
        self.outputs = outputs or workdir.parent
        self.cache = cache
        self.processes = processes
        self._environment = environment
        self._keys = KEYS | dict(keys)
        self._starts = 0
        self._skip = 0  # bytes of metrics.jsonl from before this start
        self.running: list = []
        self._outputs: list[pathlib.Path] = []

    def __enter__(self) -> 'Run':
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.kill()
            process.wait()

    def start(self) -> None:
        self._starts += 1
        metrics = self.workdir / 'metrics.jsonl'
        # A full disk can leave a part of a line, which the start cuts off.
        self._skip = metrics.read_bytes().rfind(b'\n') + 1 if metrics.exists() else 0
        self._outputs = [
            self.outputs / f'{self.workdir.name}_{self._starts}_{index}.txt'
            for index in range(self.processes)
        ]
        more = ['--peer_timeout=20'] if self.processes > 1 else []
        self.running = start(
            self.workdir,
            self.cache,
            self.processes,
            *more,
            keys=self._keys,
            outputs=self._outputs,
            environment={**self._environment, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'},
        )

    def end(self, seconds: float = 200) -> list[int]:
        """Waits for the end of the start; returns the exit statuses."""
        deadline = time.monotonic() + seconds
        for process in self.running:
            process.wait(timeout=max(1, deadline - time.monotonic()))
        return [process.returncode for process in self.running]

    def shown(self, index: int = 0) -> str:
        return self._outputs[index].read_text()

    def lines(self) -> list[dict]:
        """The lines of this start in `metrics.jsonl`."""
        path = self.workdir / 'metrics.jsonl'
        if not path.exists():
            return []
        content = path.read_bytes()[self._skip :]
        return [json.loads(line) for line in content.split(b'\n')[:-1]]

    def reached(self) -> int:
        """The last step that this start has logged, or the one at which it went on."""
        went_on = [line for line in self.shown().splitlines() if line.startswith('continuing at')]
        first = int(went_on[0].split()[3].rstrip(',')) if went_on else 0
        return max([first, *(line['step'] for line in self.lines() if 'train/loss' in line)])

    def saved(self) -> list[int]:
        """The steps of the finished checkpoints."""
        folder = self.workdir / 'checkpoints'
        return sorted(int(path.name) for path in folder.glob('[0-9]*') if path.name.isdigit())

    def has_begun(self) -> bool:
        """Whether this start holds the lock of the run; before, signals end it at once."""
        lock = self.workdir / LOCK
        return lock.exists() and f'pid {self.running[0].pid}\n' in lock.read_text()

    def phase(self) -> str:
        """One of PHASES."""
        if 'compiling;' not in self.shown():
            return 'start'
        if any((self.workdir / 'checkpoints').glob(f'*{UNFINISHED}')):
            return 'save'
        lines = self.lines()
        if not any('train/loss' in line for line in lines):
            return 'compile'
        if 'train/loss' in lines[-1] and lines[-1]['step'] % EVALUATED_EVERY == 0:
            return 'evaluate'
        return 'read' if any(_reads(process.pid) for process in self.running) else 'step'

    def halt(self, wanted: str, rng: random.Random) -> str:
        """Halts all processes at a random moment, in the middle of what is wanted.

        Returns:
            What they are in the middle of, which may be the phase after a wanted 'start' or
            'compile'; '' if the start has come to its end before.
        """
        steps = 0 if wanted in ('start', 'compile') else rng.randrange(2 * SAVED_EVERY)
        first = self.reached()
        while self._goes_on():
            if self.phase() == wanted and self.reached() >= first + steps:
                time.sleep(rng.uniform(0, PHASES[wanted]))
                self.send(signal.SIGSTOP)
                while self._goes_on() and not all(_is_halted(each.pid) for each in self.running):
                    time.sleep(0.001)
                phase = self.phase()
                if phase == wanted or wanted in ('start', 'compile'):
                    return phase if self._goes_on() else ''
                self.send(signal.SIGCONT)
            time.sleep(rng.uniform(0, 0.01))
        return ''

    def send(self, number: signal.Signals, to: Sequence[int] | None = None) -> None:
        for index, process in enumerate(self.running):
            if to is None or index in to:
                process.send_signal(number)

    def _goes_on(self) -> bool:
        return all(process.poll() is None for process in self.running)


class Table:
    """Counts faults, by what was done and in the middle of what; what became of them."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str], collections.Counter[str]] = {}

    def add(self, fault: str, phase: str, end: str) -> None:
        self._ends.setdefault((fault, phase), collections.Counter())[end] += 1

    def count(self) -> int:
        return sum(sum(ends.values()) for ends in self._ends.values())

    def __str__(self) -> str:
        return '\n'.join(
            f'{fault} | {phase} | {sum(ends.values())} | '
            + ', '.join(f'{end} ({times})' for end, times in sorted(ends.items()))
            for (fault, phase), ends in sorted(self._ends.items())
        )

    def show(self) -> None:
        """Prints the table, and adds it to the file that CHAOS_TABLE names."""
        print(self)
        if path := os.environ.get('CHAOS_TABLE'):
            with open(path, 'a') as file:
                file.write(f'{self}\n')


def check_silent(run: Run) -> None:
    """No start of a run showed what users should not see."""
    for path in run.outputs.glob(f'{run.workdir.name}_*.txt'):
        text = path.read_text()
        assert not any(noise in text for noise in NOISE), text


def check_same(run: Run, undisturbed: Run) -> None:
    """Parameters, optimizer state and metrics at the end are equal bit for bit."""
    assert run.saved()[-1] == STEPS
    assert not any((run.workdir / 'checkpoints').glob(f'*{UNFINISHED}*'))
    for item in ('params', 'training'):
        ours, theirs = (_arrays(each.workdir, item) for each in (run, undisturbed))
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype and ours[name].shape == value.shape, name
            assert ours[name].tobytes() == value.tobytes(), name
    ours, theirs = _metrics(run.workdir), _metrics(undisturbed.workdir)
    assert ours.keys() == theirs.keys()
    # A step that was trained twice has written its metrics twice.
    assert {key: set(values) for key, values in ours.items()} == {
        key: set(values) for key, values in theirs.items()
    }


def _metrics(workdir: pathlib.Path) -> dict[tuple[int, str], list[str]]:
    found: dict[tuple[int, str], list[str]] = {}
    for text in (workdir / 'metrics.jsonl').read_text().splitlines():
        line = json.loads(text)
        for name, value in line.items():
            if name != 'step' and name not in TIMES and not name.startswith('seconds/'):
                found.setdefault((line['step'], name), []).append(repr(value))
    return found


def _arrays(workdir: pathlib.Path, item: str) -> dict[str, np.ndarray]:
    folder = workdir / 'checkpoints' / str(STEPS) / item
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(folder).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = reader.restore(folder, restore_args=as_numpy)
    leaves = jax.tree_util.tree_flatten_with_path(restored)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _reads(pid: int) -> bool:
    """Whether a process has a clip open."""
    try:
        opened = list(pathlib.Path(f'/proc/{pid}/fd').iterdir())
    except OSError:
        return False
    for link in opened:
        try:
            if os.readlink(link).endswith('.mp4'):
                return True
        except OSError:
            pass  # closed in the meantime
    return False


def _is_halted(pid: int) -> bool:
    try:
        text = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return True
    return text.rpartition(')')[2].split()[0] in 'TZ'
