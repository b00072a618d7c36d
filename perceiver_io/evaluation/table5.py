"""The paper's results table ("Table 5" of its first version), with a row for each model."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from perceiver_io.evaluation.results import Evaluation
from perceiver_io.metrics import registry
from perceiver_io.metrics.baselines import ALL_BASELINES
from perceiver_io.metrics.record import Baseline
from perceiver_io.models.config import AutoencoderConfig

Row = Mapping[str, Any]

# Latents, channels, and what the paper states; the raw compression follows from the sizes.
PAPER: tuple[Row, ...] = (
    {
        'latents': 784,
        'latent_channels': 512,
        'compression': 88.0,
        'raw_compression': 6.1,
        'audio_psnr': 26.97,
        'video_psnr': 24.37,
        'top_1': 0.102,
    },
    {
        'latents': 392,
        'latent_channels': 512,
        'compression': 176.0,
        'raw_compression': 12.2,
        'audio_psnr': 25.33,
        'video_psnr': 24.27,
        'top_1': 0.086,
    },
    {
        'latents': 196,
        'latent_channels': 512,
        'compression': 352.0,
        'raw_compression': 24.3,
        'audio_psnr': 14.15,
        'video_psnr': 23.21,
        'top_1': 0.115,
    },
)

_SIZES = {
    'compression': ('compression', '{:.1f}x'),
    'raw_compression': ('on raw values', '{:.1f}x'),
}
_DEFINITIONS = {
    'compression': 'as the paper counts it: video tokens x their padded channels / (latents x '
    'channels); audio tokens where there is no video',
    'raw_compression': 'pixels x 3 and audio samples of a window / (latents x channels)',
    'psnr': 'dB, peak 1 for video in [0, 1] and for audio in [-1, 1] (with peak 2 the audio is '
    '6.02 dB higher); predictions clipped to the range; the squared error is averaged over the '
    'windows of a clip, the PSNR over clips; at most 100 dB; audio PSNR only of clips that are '
    'not digital silence',
    'top_1, top_5': 'share of the labelled clips, label hidden; scores averaged over windows; ties '
    'count as errors',
    'intervals': 'bootstrap 95% intervals over clips, from 1,000 resamples',
}


def raw_compression(config: AutoencoderConfig) -> float:
    """Values of video and audio in the input / the latents' values: 6.1 at the defaults."""
    values = 0
    if 'video' in config.modalities:
        values += math.prod(config.video_shape) * config.channels
    if 'audio' in config.modalities:
        values += config.samples
    return values / (config.latents * config.latent_channels)


def results(
    config: AutoencoderConfig,
    evaluation: Evaluation,
    unusable: Sequence[tuple[str, str]] = (),
    **facts: Any,
) -> dict[str, Any]:
    """The row of a model and what belongs to it, for JSON; None for metrics that it does not have.

    Args:
        config: of the model.
        evaluation: of it.
        unusable: (name, reason) of clips that were left out before the evaluation.
        facts: what else is to be said of the row.
    """
    row: dict[str, Any] = {
        'compression': config.compression,
        'raw_compression': raw_compression(config),
    }
    row |= {metric.name: evaluation.summary.get(metric.name) for metric in registry.ALL_METRICS}
    skipped = [
        {'name': name, 'reason': reason} for name, reason in (*unusable, *evaluation.skipped)
    ]
    definitions = _DEFINITIONS | {metric.name: metric.definition for metric in evaluation.metrics}
    definitions |= {baseline.name: baseline.definition for baseline in evaluation.baselines}
    return (
        row
        | {
            'intervals': {name: list(ends) for name, ends in evaluation.intervals().items()},
            'clips': evaluation.summary['clips'],
            'labelled_clips': evaluation.summary['labelled_clips'],
            'skipped': len(skipped),
            'skipped_clips': skipped,
            'predictors': evaluation.baseline_results,
            'definitions': definitions,
            'model': dataclasses.asdict(config),
        }
        | facts
    )


def to_json(values: Any) -> str:
    """JSON, with null also for numbers that are not finite."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(values), indent=2, ensure_ascii=False) + '\n'


def text(rows: Sequence[Row]) -> str:
    """The table for a terminal: a line for each model, the baselines, and the paper's rows."""
    columns = _SIZES | {
        metric.name: (metric.title, metric.form)
        for metric in registry.ALL_METRICS
        if metric.in_table
    }
    lines = [
        ['', *(title for title, _ in columns.values())],
        *(_line(title(row, len(rows)), row, columns) for row in rows),
        ['baselines, without a model'],
    ]
    lines += [
        _line(f'  {name}', {baseline.metric.name: value}, columns)
        for name, baseline, value in _baselines(rows)
    ]
    lines.append(['paper, Kinetics-700'])
    sizes = {_size(row['model']) for row in rows}
    lines += [
        _line(f'  {_size(row)}' + (' (this size)' if _size(row) in sizes else ''), row, columns)
        for row in PAPER
    ]
    return _in_columns(lines)


def notes(rows: Sequence[Row]) -> str:
    """Below the table: all metrics with their intervals, and what the baselines mean."""
    lines = []
    for row in rows:
        heading = f'{title(row, len(rows))}, mean over clips [95% interval]'
        lines.append(heading)
        for metric in registry.ALL_METRICS:
            if row[metric.name] is None:
                continue
            value = metric.form.format(row[metric.name])
            if metric.name in row['intervals']:
                ends = ' to '.join(map(metric.form.format, row['intervals'][metric.name]))
                value += f' [{ends}]'
            unit = f' {metric.unit}' if metric.unit == 'dB' else ''
            better = 'higher' if metric.higher_is_better else 'lower'
            lines.append(f'  {metric.name.ljust(18)}{value}{unit}, {better} is better')
    lines.append('baselines see the clips themselves, so a model can be below them:')
    lines += [
        f'  {baseline.title}: {baseline.definition}; {baseline.explanation}'
        for baseline in dict.fromkeys(baseline for _, baseline, _ in _baselines(rows))
    ]
    return '\n'.join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """All metrics in a Markdown table, with intervals, baselines and the paper's rows."""
    columns = _all_columns()
    table = [
        ['', *(title for title, _ in columns.values())],
        ['---', *(['---:'] * len(columns))],
        *(_line(title(row, len(rows)), row, columns, intervals=True) for row in rows),
    ]
    table += [
        _line(f'baseline: {name}', {baseline.metric.name: value}, columns)
        for name, baseline, value in _baselines(rows)
    ]
    table += [_line(f'paper, {_size(row)}', row, columns) for row in PAPER]
    lines = [
        f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in line)} |' for line in table
    ]
    definitions = [f'- {metric.title}: {metric.definition}.' for metric in registry.ALL_METRICS] + [
        f'- {key}: {_DEFINITIONS[key]}.' for key in ('compression', 'raw_compression')
    ]
    brackets = 'In brackets: bootstrap 95% intervals over clips.'
    return '\n'.join([*lines, '', brackets, '', *definitions]) + '\n'


def csv_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """All metrics with the ends of their intervals, a row for each model, baseline and paper row.

    Numbers are as in the JSON: top-1 and top-5 are shares.
    """
    names = [*_SIZES, *(metric.name for metric in registry.ALL_METRICS)]
    table: list[tuple[dict[str, Any], Row]] = [
        ({'row': title(row, len(rows))}, row) for row in rows
    ]
    table += [
        ({'row': f'baseline: {name}'}, {baseline.metric.name: value})
        for name, baseline, value in _baselines(rows)
    ]
    table += [({'row': f'paper, {_size(row)}'}, row) for row in PAPER]
    found = []
    for cells, row in table:
        cells.update({name: row.get(name) for name in names})
        for metric in registry.ALL_METRICS:
            low, high = row.get('intervals', {}).get(metric.name, (None, None))
            cells.update({f'{metric.name}_low': low, f'{metric.name}_high': high})
        found.append(cells)
    return found


def _all_columns() -> dict[str, tuple[str, str]]:
    return _SIZES | {
        metric.name: (
            metric.title + (f' ({metric.unit})' if metric.unit == 'dB' else ''),
            metric.form,
        )
        for metric in registry.ALL_METRICS
    }


def _baselines(rows: Sequence[Row]) -> list[tuple[str, Baseline, float]]:
    """(name, baseline, value) of each; one for every model where their windows make it differ."""
    lines = []
    for baseline in ALL_BASELINES:
        values = {
            title(row, len(rows)): row['predictors'][baseline.name]
            for row in rows
            if baseline.name in row['predictors']
        }
        if len({round(value, 4) for value in values.values()}) == 1:
            values = {'': next(iter(values.values()))}
        lines += [
            (f'{baseline.title}, {model}' if model else baseline.title, baseline, value)
            for model, value in values.items()
        ]
    return lines


def title(row: Row, rows: int) -> str:
    """What a model's row is called, of so many rows."""
    name = 'this run' if rows == 1 else row.get('checkpoint', 'run')
    hidden = ''.join(f', {modality} hidden' for modality in row.get('hidden', ()))
    return f'{name}, {_size(row["model"])}{hidden}'


def _size(sizes: Mapping[str, Any]) -> str:
    return f'{sizes["latents"]} x {sizes["latent_channels"]}'


def _line(
    name: str, values: Row, columns: Mapping[str, tuple[str, str]], intervals: bool = False
) -> list[str]:
    cells = [name]
    for key, (_, form) in columns.items():
        cell = '' if values.get(key) is None else form.format(values[key])
        if intervals and key in values['intervals']:
            cell += f' [{", ".join(map(form.format, values["intervals"][key]))}]'
        cells.append(cell)
    return cells


def _in_columns(lines: Sequence[Sequence[str]]) -> str:
    """Aligned columns between rules; the first line is the head."""
    widths = [
        max(len(line[column]) for line in lines if column < len(line))
        for column in range(len(lines[0]))
    ]
    table = []
    for first, *cells in lines:
        table.append(
            first.ljust(widths[0])
            + ''.join(cell.rjust(width + 2) for cell, width in zip(cells, widths[1:]))
        )
    rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
    return '\n'.join([rule, table[0].rstrip(), rule, *(line.rstrip() for line in table[1:]), rule])
