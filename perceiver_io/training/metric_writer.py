"""Writes the metrics, images and audio of a run: TensorBoard files, `metrics.jsonl`, and W&B."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from tensorboardX import SummaryWriter

from perceiver_io.core.metrics_file import METRICS, read_metrics
from perceiver_io.distributed.processes import is_first


@dataclasses.dataclass(frozen=True)
class Extras:
    """What a run writes and does on request.

    Attributes:
        histograms: of the parameters, at every evaluation.
        wandb: everything to Weights & Biases too, see `wandb_sink`.
        gradient_norms: of groups of modules, see `gradient_norms`.
        selectivity: of attention and output at every evaluation, see `selectivity`.
        profile: how many steps are profiled.
        watchdog: minutes without progress after which all threads are shown; 0 for never.
        watchdog_exit: whether the process is then ended.
    """

    histograms: bool = False
    wandb: bool = False
    gradient_norms: bool = False
    selectivity: bool = False
    profile: int = 0
    watchdog: float = 0.0
    watchdog_exit: bool = False


NO_EXTRAS = Extras()


class Sink(Protocol):
    """A place for what a run writes."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def image(self, step: int, name: str, image: np.ndarray) -> None: ...

    def audio(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None: ...

    def histogram(self, step: int, name: str, values: np.ndarray) -> None: ...

    def close(self) -> None: ...


class MetricWriter:
    """Writes to all sinks; without any, it does nothing.

    Args:
        sinks: where to; () on all processes of a run but the first.
        extras: what is wanted besides.
        bad_steps: the file that lists bad steps; None for no list.
        written: the last step of which an earlier start of the run has written metrics.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        extras: Extras = NO_EXTRAS,
        bad_steps: pathlib.Path | None = None,
        written: int = 0,
    ) -> None:
        self._sinks = sinks
        self._bad_steps = bad_steps
        self.written = written
        self.wants_histograms = extras.histograms and bool(sinks)
        self.wants_selectivity = extras.selectivity and bool(sinks)

    @classmethod
    def open(
        cls, workdir: str | os.PathLike, config: str, extras: Extras = NO_EXTRAS
    ) -> 'MetricWriter':
        """Of a run. Processes but the first write nothing but the clips of their bad steps.

        Args:
            workdir: of the run.
            config: of the run, as JSON; shown as text.
            extras: what is wanted besides.

        Raises:
            UserError: Weights & Biases is asked for, and not installed or not reachable.
        """
        workdir = pathlib.Path(workdir)
        if not is_first():
            return cls((), bad_steps=workdir / f'bad_steps_{jax.process_index()}.jsonl')
        sinks: list[Sink] = []
        if extras.wandb:  # first, since it can fail
            from perceiver_io.training.wandb_sink import WandbSink

            sinks.append(WandbSink(workdir, json.loads(config)))
        lines = JsonSink(workdir)
        sinks += [TensorBoardSink(workdir / 'tensorboard', config), lines]
        return cls(sinks, extras, workdir / 'bad_steps.jsonl', lines.written)

    def scalars(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        """Scalars under `prefix`, such as 'train'."""
        named = {f'{prefix}/{name}': float(value) for name, value in values.items()}
        for sink in self._sinks:
            sink.scalars(step, named)

    def bad_step(self, step: int, clips: Sequence[str]) -> None:
        """A step that changed nothing, and the names of its clips that this process has read."""
        if self._bad_steps is not None:
            with open(self._bad_steps, 'a') as file:
                file.write(json.dumps({'step': step, 'clips': list(clips)}) + '\n')

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """An image, uint8 [h, w, 3]."""
        for sink in self._sinks:
            sink.image(step, name, image)

    def audio(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None:
        """Audio, float [s, 1] in [-1, 1]; what is outside is clipped."""
        for sink in self._sinks:
            sink.audio(step, name, audio.clip(-1, 1), sample_rate)

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """A histogram of the values of each array."""
        for name, values in arrays.items():
            for sink in self._sinks:
                sink.histogram(step, name, values)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


class TensorBoardSink:
    """Event files for `tensorboard --logdir`, with the config as text."""

    def __init__(self, folder: pathlib.Path, config: str) -> None:
        self._folder = folder
        self._problem: OSError | None = None
        self._summary = SummaryWriter(str(folder))
        # Its thread would die of a full disk with a traceback, and then block this one.
        file = self._summary._get_file_writer().event_writer._ev_writer
        for name in ('write_event', 'flush', 'close'):
            setattr(file, name, self._kept(getattr(file, name)))
        indented = ''.join(f'    {line}\n' for line in config.splitlines())  # code in Markdown
        self._summary.add_text('config', indented)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._problem is not None:
            raise OSError(self._problem.errno, self._problem.strerror, str(self._folder))
        for name, value in values.items():
            self._summary.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._summary.add_image(name, image, step, dataformats='HWC')

    def audio(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None:
        self._summary.add_audio(name, audio, step, sample_rate)

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        self._summary.add_histogram(name, values, step)

    def close(self) -> None:
        self._summary.close()

    def _kept(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """`write`, of which an error is kept for the next call of `scalars`."""

        def kept(*arguments: Any) -> Any:
            try:
                return write(*arguments)
            except OSError as error:
                self._problem = error

        return kept


class JsonSink:
    """`metrics.jsonl`: a line of scalars for each entry."""

    def __init__(self, workdir: pathlib.Path) -> None:
        path = workdir / METRICS
        _cut_part_of_line(path)
        trained = [entry['step'] for entry in read_metrics(workdir) if 'train/loss' in entry]
        self.written = int(max(trained, default=0))
        self._path = path
        self._lines = open(path, 'a')

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        try:
            self._lines.write(json.dumps({'step': step, **values}) + '\n')
            self._lines.flush()
        except OSError as error:  # where the disk is full, it names no file
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        pass

    def audio(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None:
        pass

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a line that `scalars` could not write
            self._lines.close()


def _cut_part_of_line(path: pathlib.Path) -> None:
    """Removes what a full disk has left of a line; the run writes its step again."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b'\n') + 1
        if whole < len(content):
            os.truncate(path, whole)
