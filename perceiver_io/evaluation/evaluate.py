"""Evaluation: every window decoded once, with the label hidden, and every clip counted once.

Training and `eval.py` evaluate in this one pass. Windows that are to be shown are kept from it.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import haiku as hk
import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data import loader
from perceiver_io.data.config import DataConfig
from perceiver_io.data.loader import Batch
from perceiver_io.data.records import Record, Source
from perceiver_io.distributed import sharding
from perceiver_io.evaluation.results import Evaluation, ShownWindow
from perceiver_io.evaluation.rows import ClipRow, RowCollector, statistics_of
from perceiver_io.evaluation.step import Measured, Places, Reconstructs, make_eval_step, make_row
from perceiver_io.media import reader
from perceiver_io.metrics import registry
from perceiver_io.metrics.baselines import baselines_for
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.metrics.record import Baseline, Metric
from perceiver_io.models.autoencoder import Autoencoder

Progress = Callable[[Iterable[Batch], int], Iterable[Batch]]  # (batches, how many there are)


def no_progress(batches: Iterable[Batch], total: int) -> Iterable[Batch]:
    """Shows nothing."""
    return batches


class Finished(NamedTuple):
    """The clips that an evaluation, or a part of one, has finished.

    Attributes:
        rows: one for each clip that was measured.
        failed: records of the clips that cannot be read.
        shown: windows that were kept.
    """

    rows: Sequence[ClipRow] = ()
    failed: Sequence[int] = ()
    shown: Sequence[ShownWindow] = ()

    def records(self) -> set[int]:
        """Of the clips that were measured and those that cannot be read."""
        return {row.record for row in self.rows} | set(self.failed)


NOTHING_YET = Finished()


class Pass:
    """A model's pass over batches of windows, compiled once for all sets of parameters."""

    def __init__(
        self,
        model: Reconstructs,
        metrics: Sequence[Metric],
        baselines: Sequence[Baseline],
        mesh: Mesh,
    ) -> None:
        self.metrics = metrics
        self.baselines = baselines
        self._mesh = mesh
        self._step = make_eval_step(model, statistics_of(metrics, baselines), mesh)
        self._row = make_row(mesh)

    def run(
        self,
        params: hk.Params,
        batches: Iterable[Batch],
        *,
        windows: int = 1,
        show: Collection[int] = (),
        save: Callable[[Finished], None] | None = None,
    ) -> Finished:
        """Decodes and measures all batches.

        Args:
            params: of the model, on every device.
            batches: this process's part of each batch.
            windows: of every clip, in the batches.
            show: records of which the first window is kept.
            save: called after every batch with the clips that it finished.

        Returns:
            The same on all processes.
        """
        collector = RowCollector(self.metrics, self.baselines, windows)
        shown: dict[int, ShownWindow] = {}
        for batch in batches:
            places = Places(batch.mask, batch.record, batch.clip.label)
            clip, measured = self._measure(params, batch.clip, places)
            statistics, places = jax.device_get((measured.statistics, measured.places))
            for line, record in enumerate(places.record.tolist()):
                if record in show and record not in shown and places.mask[line]:
                    shown[record] = self._shown(clip, measured, line)
            rows, failed = collector.add(statistics, places)
            if save is not None:
                save(Finished(rows, failed))
        return Finished(collector.rows, collector.failed, list(shown.values()))

    def reconstruct(
        self,
        params: hk.Params,
        windows: Iterable[tuple[Clip, int]],
        spec: ClipSpec,
        batch_size: int,
    ) -> Iterator[ShownWindow]:
        """Windows and their reconstructions, in order, cut to their valid frames.

        Args:
            params: of the model, on every device.
            windows: (window, valid frames), as `media.reader.read_windows` yields them; the same on
                all processes.
            spec: of the windows.
            batch_size: windows decoded at a time, over all devices.
        """
        own = sharding.own_rows(self._mesh, batch_size)
        windows = iter(windows)
        while part := list(itertools.islice(windows, batch_size)):
            padded = [clip for clip, _ in part] + [part[-1][0]] * (batch_size - len(part))
            clip = jax.tree.map(lambda *leaves: np.stack(leaves), *[padded[row] for row in own])
            unknown = np.full(len(own), -1, np.int32)
            places = Places(np.ones(len(own), bool), unknown, unknown)
            clip, measured = self._measure(params, clip._replace(label=unknown), places)
            for line, (_, frames) in enumerate(part):
                yield self._shown(clip, measured, line).first(frames, spec)

    def _measure(self, params: hk.Params, clip: Clip, places: Places) -> tuple[Clip, Measured]:
        """Puts this process's part of a batch on the mesh, and runs the step."""
        clip = sharding.put_clip(clip, self._mesh)
        return clip, self._step(params, clip, sharding.put_examples(places, self._mesh))

    def _shown(self, clip: Clip, measured: Measured, line: int) -> ShownWindow:
        original, reconstruction, places = self._row(
            (clip, measured.reconstruction, measured.places), line
        )
        return ShownWindow(int(places.record), original, reconstruction)


def measures_for(
    modalities: tuple[str, ...], spec: ClipSpec, loss: LossWeights
) -> tuple[Sequence[Metric], Sequence[Baseline]]:
    """The metrics and baselines of a model with these modalities, for windows as it takes them."""
    metrics = registry.metrics_for(
        modalities,
        height=spec.height,
        width=spec.width,
        samples=spec.samples,
        sample_rate=spec.sample_rate,
        loss=loss,
    )
    return metrics, baselines_for(modalities)


class Evaluator:
    """Evaluates parameters of a model on a set of clips, on all devices of all processes.

    Every process reads its part of each batch; all of them get the same `Evaluation`.
    """

    def __init__(
        self,
        model: Autoencoder,
        clips: Source,
        spec: ClipSpec,
        mesh: Mesh,
        *,
        data: DataConfig,
        loss: LossWeights,
        batch_size: int,
    ) -> None:
        """
        Args:
            model: the model.
            clips: all of which are evaluated.
            spec: of the windows, as the model takes them.
            mesh: of devices.
            data: says how many windows of a clip are evaluated, and what reads them.
            loss: weights of the terms in 'loss'.
            batch_size: windows decoded at a time, over all devices; a multiple of the mesh's
                devices along its data axis.
        """
        sharding.check_divisible(mesh, batch_size=batch_size, frames=spec.frames)
        self._clips = clips
        self._spec = spec
        self._mesh = mesh
        self._data = data
        self._batch_size = batch_size
        self.metrics, baselines = measures_for(model.config.modalities, spec, loss)
        self._pass = Pass(model, self.metrics, baselines, mesh)

    def __call__(
        self,
        params: hk.Params,
        *,
        show: Collection[int] = (),
        progress: Progress = no_progress,
        finished: Finished = NOTHING_YET,
        save: Callable[[Finished], None] | None = None,
    ) -> Evaluation:
        """Evaluates.

        Args:
            params: of the model, whole on every process.
            show: records of which the first window is kept in `Evaluation.shown`.
            progress: wraps the batches, to show how far the evaluation is.
            finished: what an evaluation that was interrupted has saved; the same on all processes.
            save: called after every batch with the clips that it finished.

        Raises:
            UserError: none of the clips could be read.
        """
        windows, total = self._data.eval_windows, len(self._clips.records)
        # The first batch with a clip that is not finished; it is decoded again as a whole, so that
        # the results are those of an evaluation that was not interrupted.
        known = finished.records()
        todo = next((record for record in range(total) if record not in known), total)
        first = todo * windows // self._batch_size
        batches = loader.evaluation_batches(
            self._clips,
            self._spec,
            batch_size=self._batch_size,
            windows=windows,
            first_batch=first,
            workers=self._data.workers,
            threads=self._data.threads,
            rows=sharding.own_rows(self._mesh, self._batch_size),
        )
        new = self._pass.run(
            sharding.put_replicated(params, self._mesh),
            progress(batches, math.ceil(total * windows / self._batch_size) - first),
            windows=windows,
            show=show,
            save=save,
        )
        rows = {row.record: row for row in (*new.rows, *finished.rows)}
        failed = sorted({*finished.failed, *new.failed} - rows.keys())
        skipped = [
            (
                self._clips.records[record].name,
                loader.why_unreadable(self._clips, record, self._spec, windows),
            )
            for record in failed
        ]
        if not rows:
            raise UserError(
                f'none of the {len(skipped)} clips could be read; the first: '
                f'{": ".join(skipped[0]) if skipped else ""}'
            )
        return Evaluation(
            rows=[rows[record] for record in sorted(rows)],
            skipped=sorted(skipped),
            names=[record.name for record in self._clips.records],
            classes=self._clips.classes,
            metrics=self._pass.metrics,
            baselines=self._pass.baselines,
            shown=new.shown,
        )

    def reconstruct(
        self, params: hk.Params, record: Record, seconds: float
    ) -> Iterator[ShownWindow]:
        """The windows of the first seconds of a clip, one after the other, in order to be shown.

        They go through the program that evaluates. The last one is cut to the frames that the clip
        has. On several processes, all of them must iterate, and all of them read the file.

        Raises:
            UnreadableMedia: the file is damaged where the evaluation did not read.
        """
        count = max(1, round(seconds / self._spec.seconds))
        windows = itertools.islice(reader.read_windows(record.load(), self._spec), count)
        params = sharding.put_replicated(params, self._mesh)
        yield from self._pass.reconstruct(params, windows, self._spec, self._batch_size)
