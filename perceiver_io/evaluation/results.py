"""What came out of an evaluation: results with intervals, baselines, a table of the clips."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.evaluation.rows import ClipRow, column
from perceiver_io.metrics import bootstrap
from perceiver_io.metrics.record import Baseline, Metric


@dataclasses.dataclass(frozen=True)
class ShownWindow:
    """A window that was kept to be looked at and listened to.

    Attributes:
        record: index of its clip in the source.
        original: video uint8 [t, h, w, 3], audio int16 [s, 1], as far as the model has them.
        reconstruction: the same of the model's output, clipped to the range and rounded; label
            holds the scores of the classes, [k].
    """

    record: int
    original: Clip
    reconstruction: Clip

    def first(self, frames: int, spec: ClipSpec) -> 'ShownWindow':
        """The first frames, with the audio that belongs to them."""

        def cut(clip: Clip) -> Clip:
            return clip._replace(
                video=None if clip.video is None else clip.video[:frames],
                audio=None if clip.audio is None else clip.audio[: frames * spec.samples_per_frame],
            )

        return ShownWindow(self.record, cut(self.original), cut(self.reconstruction))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of a model on a set of clips.

    Attributes:
        rows: one for each clip, in the order of the source.
        skipped: (name, reason) of clips that could not be read.
        names: of the clips in the source, by record.
        classes: name of each class index.
        metrics: that were measured.
        baselines: that were measured too.
        shown: the windows that were asked for.
    """

    rows: Sequence[ClipRow]
    skipped: Sequence[tuple[str, str]]
    names: Sequence[str]
    classes: Sequence[str]
    metrics: Sequence[Metric]
    baselines: Sequence[Baseline]
    shown: Sequence[ShownWindow] = ()

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Class indices of the clips whose class is known."""
        labels = np.array([row.label for row in self.rows], int)
        return labels[labels >= 0]

    @functools.cached_property
    def summary(self) -> dict[str, float]:
        """The result of each metric that any clip counts for, and the numbers of clips."""
        found = {}
        for metric in self.metrics:
            values, counts = column(self.rows, metric.column)
            if counts.any():
                found[metric.name] = float(metric.aggregate(values[counts], np.ones(counts.sum())))
        return found | {'clips': len(self.rows), 'labelled_clips': len(self.labels)}

    @functools.cached_property
    def baseline_results(self) -> dict[str, float]:
        """The result of each baseline."""
        found = {}
        for baseline in self.baselines:
            values, counts = column(self.rows, baseline.column)
            if baseline.of_labels is not None and len(self.labels):
                found[baseline.name] = baseline.of_labels(self.labels)
            elif counts.any():
                weights = np.ones(counts.sum())
                found[baseline.name] = float(baseline.metric.aggregate(values[counts], weights))
        return found

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The bootstrap 95% interval over clips of each metric that two clips count for."""
        columns = {metric: column(self.rows, metric.column) for metric in self.metrics}
        columns = {metric: found for metric, found in columns.items() if found[1].sum() > 1}
        results: dict[str, list[float]] = {metric.name: [] for metric in columns}
        for drawn in bootstrap.resampled_weights(len(self.rows)):
            for metric, (values, counts) in columns.items():
                weights = drawn * counts
                if weights.any():
                    results[metric.name].append(float(metric.aggregate(values, weights)))
        return {name: bootstrap.interval(np.array(found)) for name, found in results.items()}

    def clip_table(self) -> list[dict[str, Any]]:
        """A row for each clip, for `clips.csv`: its name, classes, and the value of each column."""
        return [self._clip(row) for row in self.rows]

    def _clip(self, row: ClipRow) -> dict[str, Any]:
        table: dict[str, Any] = {'name': self.names[row.record]}
        if row.best:
            table |= {
                'label': self._class(row.label),
                'predicted': self._class(row.best[0]),
                'top_5_classes': '; '.join(map(self._class, row.best)),
                'score': row.score,
            }
        return table | dict(row.values)

    def _class(self, index: int) -> str:
        return self.classes[index] if 0 <= index < len(self.classes) else ''

    def scalars(self) -> Mapping[str, float]:
        """All results under their names, for TensorBoard and `metrics.jsonl`."""
        return self.summary | self.baseline_results
