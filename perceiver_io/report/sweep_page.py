"""The comparison of a sweep: one table, one plot, and a page with a section for each point."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from perceiver_io.core import files
from perceiver_io.evaluation import table5
from perceiver_io.metrics import registry
from perceiver_io.metrics.record import Metric
from perceiver_io.report import curves
from perceiver_io.report.charts import HEIGHT, WIDTH, Chart, Series, chart
from perceiver_io.report.page import environment


@dataclasses.dataclass(frozen=True)
class Result:
    """A point that is finished.

    Attributes:
        index: of the point, from 0.
        title: what varies, in words.
        varied: the keys by which points differ, with their values here.
        row: of `table5.results`.
        train_seconds: wall-clock, over all starts of the training.
        training: the entries of the run's `metrics.jsonl`.
        report: where the point's own report is, relative to the page; None if there is none.
    """

    index: int
    title: str
    varied: Mapping[str, Any]
    row: Mapping[str, Any]
    train_seconds: float
    training: Sequence[Mapping[str, float]] = ()
    report: str | None = None


def write(
    name: str, results: Sequence[Result], total: int, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes `index.html` and `sweep.*`, in place of earlier ones; returns their paths.

    Args:
        name: of the sweep.
        results: of the points that are finished, at least one.
        total: how many points there are.
        folder: of the sweep.
    """
    plot = psnr_chart(results)
    templates = environment()
    page = templates.get_template('sweep.html').render(
        name=name,
        total=total,
        table=cells(results),
        chart=plot,
        sections=[
            {
                'result': result,
                'metrics': [_metric(metric, result.row) for metric in _metrics([result])],
                'charts': curves.training_charts(result.training),
            }
            for result in results
        ],
        width=WIDTH,
        height=HEIGHT,
    )
    lines = [csv_row(result) for result in results]
    texts = {
        'index.html': page,
        'sweep.md': markdown(results),
        'sweep.json': table5.to_json({'name': name, 'points': total, 'results': lines}),
    }
    if plot is not None:
        texts['sweep.svg'] = templates.get_template('plot.svg').render(
            chart=plot, labels=_labels(plot, results), width=WIDTH, height=HEIGHT
        )
    for file, text in texts.items():
        files.write_text(folder / file, text)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    files.write_csv(folder / 'sweep.csv', lines, columns)
    return [folder / file for file in (*texts, 'sweep.csv')]


def csv_row(result: Result) -> dict[str, Any]:
    """The numbers of a point; top-1 and top-5 are shares."""
    row = result.row
    line = {'index': result.index, 'point': result.title, **result.varied}
    line |= {key: row[key] for key in ('compression', 'raw_compression', 'step', 'clips')}
    line['train_seconds'] = result.train_seconds
    for metric in registry.ALL_METRICS:
        line[metric.name] = row.get(metric.name)
        low, high = row['intervals'].get(metric.name, (None, None))
        line |= {f'{metric.name}_low': low, f'{metric.name}_high': high}
    return line


def cells(results: Sequence[Result]) -> list[list[str]]:
    """The table as text: a head, and a line for each point."""
    metrics = _metrics(results)
    head = ['point', 'compression', 'on raw values']
    head += [f'{each.title} (dB)' if each.unit == 'dB' else each.title for each in metrics]
    table = [[*head, 'training (s)']]
    for result in results:
        row = result.row
        line = [result.title, f'{row["compression"]:.1f}x', f'{row["raw_compression"]:.1f}x']
        line += [
            '' if row.get(metric.name) is None else metric.form.format(row[metric.name])
            for metric in metrics
        ]
        table.append([*line, f'{result.train_seconds:.0f}'])
    return table


def markdown(results: Sequence[Result]) -> str:
    """The table in Markdown."""
    head, *lines = cells(results)
    rule = ['---', *(['---:'] * (len(head) - 1))]
    return '\n'.join(f'| {" | ".join(line)} |' for line in (head, rule, *lines)) + '\n'


def psnr_chart(results: Sequence[Result]) -> Chart | None:
    """PSNR of video and audio against compression, a mark for each point."""
    series = []
    for title, name in (('video PSNR', 'video_psnr'), ('audio PSNR', 'audio_psnr')):
        found = [
            (float(result.row['raw_compression']), float(result.row[name]))
            for result in results
            if result.row.get(name) is not None
        ]
        if found:
            series.append(Series(title, sorted(found), line=True))
    return chart(
        'PSNR against compression',
        'pixel values and audio samples per value of the latents (logarithmic)',
        'PSNR in dB',
        series,
        log_x=True,
    )


def _labels(plot: Chart, results: Sequence[Result]) -> list[tuple[float, float, str]]:
    """(x, y, title) of the marks of the first series, each place named once."""
    first = [
        (float(result.row['raw_compression']), result.title)
        for result in sorted(results, key=lambda result: result.row['raw_compression'])
        if any(result.row.get(name) is not None for name in ('video_psnr', 'audio_psnr'))
    ]
    places = {x: point for (x, _), point in zip(plot.values[0].points, plot.series[0].points)}
    titles = {x: title for x, title in reversed(first)}
    return [(*places[x], title) for x, title in titles.items() if x in places]


def _metrics(results: Sequence[Result]) -> list[Metric]:
    """Those of the table in the terminal, and SSIM, that some point has."""
    return [
        metric
        for metric in registry.ALL_METRICS
        if (metric.in_table or metric.name == 'ssim')
        and any(result.row.get(metric.name) is not None for result in results)
    ]


def _metric(metric: Metric, row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Title, value and interval."""
    unit = f' {metric.unit}' if metric.unit == 'dB' else ''
    ends = row['intervals'].get(metric.name)
    return (
        metric.title,
        metric.form.format(row[metric.name]) + unit,
        ' to '.join(map(metric.form.format, ends)) if ends else '',
    )
