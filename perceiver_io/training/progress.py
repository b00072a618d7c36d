"""The progress line of a training run; stops the run if a metric is not finite."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple, Protocol

import jax
import numpy as np

from perceiver_io.core.errors import UserError
from perceiver_io.core.progress import progress_bar
from perceiver_io.distributed.processes import is_first
from perceiver_io.training.experiment import TrainingConfig

_BOTTLENECK = 0.1  # of the time, waiting for data, is worth a word
_PATIENCE = 10.0  # seconds of training before that word
# Without a bar, whose place the numbers need; `bar:0` has tqdm cut the line at a terminal's edge.
_FORMAT = (
    '{desc}: {percentage:3.0f}%{bar:0} {n_fmt}/{total_fmt} '
    '[{elapsed}<{remaining}, {rate_fmt}{postfix}]'
)


class Pending(NamedTuple):
    """A step, the names of its clips, and its metrics with the time at which they were computed."""

    step: int
    clips: Sequence[str]
    fetched: futures.Future[tuple[dict[str, float], float]]


class Writer(Protocol):
    """What takes metrics and bad steps, such as `MetricWriter`."""

    def scalars(self, step: int, values: Mapping[str, float], prefix: str) -> None: ...

    def bad_step(self, step: int, clips: Sequence[str]) -> None: ...


class NotFinite(UserError):
    """A quantity of the training became NaN or infinite."""


class TrainingLog:
    """Takes the metrics of every step, shows them, writes some, and stops the run if one is NaN.

    A step's metrics are asked for when the next step has been handed to the device, so that the
    device never waits for the host; `flush` fetches the last ones, before anything is saved. So a
    step also runs while the next batch is read and put on the device, and the device waits for
    data only from the end of one step to the end of `waiting`: that is the share shown.

    Args:
        writer: for the metrics of every `log_every`-th step.
        config: of the loop.
        first_step: done before this start of the run.
        schedule: the learning rate of an update, counted from 0.
        clock: gives the time in seconds, also in other threads.
    """

    def __init__(
        self,
        writer: Writer,
        config: TrainingConfig,
        first_step: int,
        schedule: Callable[[int], float | jax.Array],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._steps = config.steps
        self._batch_size = config.batch_size
        self._log_every = config.log_every
        self._pending: Pending | None = None
        self._max_bad_steps = config.max_bad_steps
        self._bad_steps = 0  # in a row
        self._all_bad_steps = 0
        self._failed: set[str] = set()
        self._schedule = schedule
        self._clock = clock
        self._since: tuple[float, int] | None = None  # (when it ended, step) of the last line
        self._fetcher = futures.ThreadPoolExecutor(1)  # is there when a step ends, to note the time
        self._wait = (0.0, 0.0)  # when waiting for the newest batch began and ended
        self._starved = 0.0  # seconds that the device waited for data since the last line
        self._sums = np.zeros(2)  # of such seconds, and of all seconds, since the start
        self._said_bottleneck = False
        self._timed = False  # whether the bar counts the time of steps alone
        self._bar = progress_bar(
            description='training',
            total=config.steps,
            initial=first_step,
            unit='step',
            smoothing=0.05,
            bar_format=_FORMAT,
            disable=not is_first(),
        )

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what fetches the next batch."""
        begin = self._clock()
        yield
        self._wait = (begin, self._clock())

    def add(self, step: int, metrics: Mapping[str, jax.Array], clips: Sequence[str] = ()) -> None:
        """The metrics of a step, still on the device, and the names of its clips."""
        fetched = self._fetcher.submit(self._fetch, metrics)
        previous, self._pending = self._pending, Pending(step, clips, fetched)
        self._take(previous)
        if previous is not None:
            begin, end = self._wait
            self._starved += max(0.0, end - max(begin, previous.fetched.result()[1]))

    def flush(self) -> None:
        """Raises NotFinite unless all that was added is finite."""
        previous, self._pending = self._pending, None
        self._take(previous)
        self._since = None  # an evaluation, for instance, is not counted as training time

    def failures(self, failures: Iterable[tuple[str, str]]) -> None:
        """Names, once each, the clips that could not be read and were replaced."""
        for name, reason in failures:
            if name not in self._failed:
                self._failed.add(name)
                self._write(f'skipped {name}: {reason} ({len(self._failed)} so far)')

    def say(self, text: str) -> None:
        """A line above the live line, from the first process."""
        if is_first():
            self._write(text)

    def _write(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._fetcher.shutdown()
        self._bar.close()

    def _take(self, entry: Pending | None) -> None:
        if entry is None:
            return
        step, (metrics, ended) = entry.step, entry.fetched.result()
        if metrics.get('bad_step'):
            self._bad_step(entry, metrics)
        else:
            self._bad_steps = 0
            check_finite(step, metrics)
        if self._since is None:
            self._since, self._starved = (ended, step), 0.0
        seconds, steps = ended - self._since[0], step - self._since[1]
        speed = (
            {
                'examples_per_second': steps * self._batch_size / seconds,
                'data_wait': min(1.0, self._starved / seconds),
            }
            if steps
            else {}
        )
        self._bar.set_postfix_str(_line(metrics | speed), refresh=False)
        self._advance(step)
        if step % self._log_every == 0 or step == self._steps:
            rate = {'learning_rate': float(self._schedule(step - 1))}
            self._writer.scalars(step, metrics | rate | speed, 'train')
            self._sums += self._starved, seconds
            self._since, self._starved = (ended, step), 0.0
            self._say_bottleneck()

    def _advance(self, step: int) -> None:
        if self._timed or self._bar.disable:
            self._bar.update(step - self._bar.n)
            return
        # The first step took a compilation too: speed and time left are of the steps after it.
        self._timed = True
        self._bar.unpause()
        self._bar.n = self._bar.last_print_n = self._bar.initial = step
        self._bar.refresh()

    def _bad_step(self, entry: Pending, metrics: Mapping[str, float]) -> None:
        self._bad_steps += 1
        self._all_bad_steps += 1
        self._writer.bad_step(entry.step, entry.clips)
        self.say(
            f'step {entry.step} was skipped: its loss or gradient is not finite '
            f'({self._all_bad_steps} so far; its clips are in bad_steps.jsonl)'
        )
        if self._bad_steps >= self._max_bad_steps:
            check_finite(entry.step, metrics, f' ({self._bad_steps} bad steps in a row)')

    def _say_bottleneck(self) -> None:
        starved, seconds = self._sums
        if seconds > _PATIENCE and starved > _BOTTLENECK * seconds and not self._said_bottleneck:
            self._said_bottleneck = True
            self.say(
                f'reading is the bottleneck, {starved / seconds:.0%} of the time is spent '
                'waiting for data: raise --config.data.workers to the number of processor '
                'cores, or prepare the clips with perceiver-io prepare'
            )

    def _fetch(self, metrics: Mapping[str, jax.Array]) -> tuple[dict[str, float], float]:
        """(the metrics as floats, when they were there); blocks until the step is done."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        return values, self._clock()


def check_finite(step: int, metrics: Mapping[str, float], times: str = '') -> None:
    """Raises NotFinite, naming the first quantity of `metrics` that is NaN or infinite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise NotFinite(
                f'{name} is {value} at step {step}{times}: nothing of it was saved; try a lower '
                'optimizer.learning_rate or optimizer.clip_norm in another --workdir, with '
                '--config.init_from from the last checkpoint of this run if there is one'
            )


def _line(metrics: Mapping[str, float]) -> str:
    """The few numbers that fit on the live line."""
    line = []
    for name, places in (('video', '.4f'), ('audio', '.4f'), ('label', '.3f')):
        if f'loss/{name}' in metrics:
            psnr = f' {metrics[f"{name}_psnr"]:.1f} dB' if f'{name}_psnr' in metrics else ''
            line.append(f'{name} {metrics[f"loss/{name}"]:{places}}{psnr}')
    if 'data_wait' in metrics:
        line.append(f'{metrics["data_wait"]:.0%} waiting for data')
        line.append(f'{metrics["examples_per_second"]:.3g} examples/s')
    return ', '.join(line)
