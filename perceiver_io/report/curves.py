"""Training curves of a run, and accuracy by class."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from perceiver_io.report.charts import Chart, Series, chart

_CURVES = (
    ('Loss', 'loss', ('train/loss', 'eval/loss')),
    ('Video PSNR', 'dB', ('train/video_psnr', 'eval/video_psnr')),
    ('Audio PSNR', 'dB', ('train/audio_psnr', 'eval/audio_psnr')),
    ('Top-1 accuracy', 'share', ('train/accuracy', 'eval/top_1')),
)
_MOST_POINTS = 400  # of a curve


def training_charts(entries: Sequence[Mapping[str, float]]) -> list[Chart]:
    """A chart for each of the curves that a run has."""
    charts = []
    for title, unit, names in _CURVES:
        series = []
        for name in names:
            points = [
                (float(values['step']), float(values[name]))
                for values in entries
                if isinstance(values.get(name), int | float)
            ]
            stride = -(-len(points) // _MOST_POINTS) or 1
            series.append(Series(name.replace('eval/', 'validation/'), points[::stride]))
        found = chart(title, 'step', unit, series)
        if found is not None:
            charts.append(found)
    return charts


class ClassAccuracy(NamedTuple):
    """The clips of a class, and the shares of them that are right."""

    name: str
    clips: int
    top_1: float
    top_5: float


def accuracy_by_class(lines: Sequence[Mapping[str, Any]]) -> list[ClassAccuracy]:
    """Of the lines of `clips.csv` with a class that the model knows, by name."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line.get('label') and line.get('top_1') is not None:
            groups.setdefault(line['label'], []).append(line)
    return [
        ClassAccuracy(
            name,
            len(group),
            sum(line['top_1'] for line in group) / len(group),
            sum(line['top_5'] for line in group) / len(group),
        )
        for name, group in sorted(groups.items())
    ]
