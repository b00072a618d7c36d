"""From the statistics of windows to a row for each clip.

Rows of different clips do not depend on each other: evaluations of parts of a set of clips are
joined by putting their rows together.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_io.evaluation.step import Places
from perceiver_io.metrics import statistics
from perceiver_io.metrics.record import Baseline, ClipFacts, Metric, Statistic

BEST = 5  # classes with the highest scores that a row keeps


@dataclasses.dataclass(frozen=True)
class ClipRow:
    """The values of a clip.

    Attributes:
        record: its index in the source.
        label: class index; -1 where unknown.
        values: column of a metric or a baseline to value; None where the clip does not count.
        best: indices of the classes with the highest scores, best first; () without classes.
        score: of the best class; None without classes.
    """

    record: int
    label: int
    values: Mapping[str, float | None]
    best: tuple[int, ...] = ()
    score: float | None = None


def statistics_of(metrics: Sequence[Metric], baselines: Sequence[Baseline]) -> list[Statistic]:
    """What has to be measured, each statistic once."""
    found = [metric.statistic for metric in metrics]
    found += [baseline.statistic for baseline in baselines if baseline.statistic is not None]
    found += [statistics.AUDIO_ENERGY, statistics.CLASS_SCORES]
    return list({statistic.name: statistic for statistic in found}.values())


class RowCollector:
    """Adds up the windows of each clip.

    A clip is finished with its last window, so that few are held at a time.

    Attributes:
        rows: of the clips that are finished.
        failed: records of the clips of which a window cannot be read.
    """

    def __init__(
        self, metrics: Sequence[Metric], baselines: Sequence[Baseline], windows: int
    ) -> None:
        """
        Args:
            metrics, baselines: that rows have values of.
            windows: of every clip.
        """
        self._columns = [(metric.column, metric.statistic, metric) for metric in metrics]
        self._columns += [
            (baseline.column, baseline.statistic, baseline.metric)
            for baseline in baselines
            if baseline.statistic is not None
        ]
        self._windows = windows
        self._open: dict[int, _OpenClip] = {}
        self.rows: list[ClipRow] = []
        self.failed: list[int] = []

    def add(
        self, statistics: Mapping[str, np.ndarray], places: Places
    ) -> tuple[list[ClipRow], list[int]]:
        """Takes the windows of a batch, [b, ...] each.

        Returns:
            What the batch finished: rows, and the records of which a window cannot be read.
        """
        rows, failed = len(self.rows), len(self.failed)
        for line, record in enumerate(places.record):
            if record < 0:
                continue
            clip = self._open.setdefault(int(record), _OpenClip(int(places.label[line])))
            clip.add({name: values[line] for name, values in statistics.items()})
            clip.failed |= not places.mask[line]
            if clip.windows == self._windows:
                del self._open[int(record)]
                self._close(int(record), clip)
        return self.rows[rows:], self.failed[failed:]

    def _close(self, record: int, clip: '_OpenClip') -> None:
        if clip.failed:
            self.failed.append(record)
        else:
            self.rows.append(self._row(record, clip))

    def _row(self, record: int, clip: '_OpenClip') -> ClipRow:
        means = {name: total[None] / clip.windows for name, total in clip.sums.items()}
        energy = means.get(statistics.AUDIO_ENERGY.name, np.zeros(1))
        facts = ClipFacts(np.array([clip.label]), energy > 0)
        values: dict[str, float | None] = {}
        for column, statistic, metric in self._columns:
            if statistic.name in means:
                counts = metric.counts(facts)[0]
                value = float(metric.value(means[statistic.name], facts)[0]) if counts else None
                values[column] = value
        scores = means.get(statistics.CLASS_SCORES.name)
        if scores is None:
            return ClipRow(record, clip.label, values)
        best = np.argsort(-scores[0], kind='stable')[:BEST]
        return ClipRow(record, clip.label, values, tuple(map(int, best)), float(scores[0, best[0]]))


@dataclasses.dataclass
class _OpenClip:
    """A clip of which windows are still to come."""

    label: int
    windows: int = 0
    failed: bool = False
    sums: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, statistics: Mapping[str, np.ndarray]) -> None:
        self.windows += 1
        for name, value in statistics.items():
            self.sums[name] = self.sums.get(name, 0.0) + np.asarray(value, np.float64)


def column(rows: Iterable[ClipRow], name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column's values [n], 0 where a clip does not count, and whether each does, [n]."""
    values = [row.values.get(name) for row in rows]
    counts = np.array([value is not None for value in values], bool)
    return np.array([0.0 if value is None else value for value in values]), counts
