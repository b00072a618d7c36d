"""Writes the report: `index.html` from templates, and the media that it links."""

import json
import math
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from perceiver_io.core import files
from perceiver_io.evaluation import table5
from perceiver_io.metrics import registry
from perceiver_io.metrics.baselines import ALL_BASELINES
from perceiver_io.report import attention, codecs, curves, facts, gallery
from perceiver_io.report.charts import HEIGHT, WIDTH, Chart, Series, chart
from perceiver_io.report.codecs import Codec
from perceiver_io.report.content import Look, Model

# Of the paper's windows: pixels take a byte for each channel, samples two.
_PAPER_BYTES = 16 * 224 * 224 * 3 + 2 * 30_720


def write_report(models: Sequence[Model], folder: pathlib.Path) -> pathlib.Path:
    """Writes the report to a folder, in place of an earlier one; returns the path of the page.

    Args:
        models: at least one; the codecs compress the windows of the first that has video.
        folder: that holds nothing but the report.
    """
    if (folder / 'media').is_dir():
        shutil.rmtree(folder / 'media')
    folder.mkdir(parents=True, exist_ok=True)
    measured = next((model for model in models if model.half is not None), None)
    codec_points: list[Codec] = []
    if measured is not None and measured.half is not None:
        codec_points = codecs.measure(measured.half.windows, measured.spec)
    sections = [
        {
            'model': model,
            'title': f'{model.row["model"]["latents"]} x {model.row["model"]["latent_channels"]}',
            'hidden': ''.join(f', {modality} hidden' for modality in model.row.get('hidden', ())),
            'table': metric_table(model.row),
            'cards': gallery.write_cards(model, folder, number),
            'looks': looks(model, folder, number),
            'charts': curves.training_charts(model.training),
            'by_class': curves.accuracy_by_class(model.lines),
            'config': json.dumps(model.config, indent=2, ensure_ascii=False, default=str),
        }
        for number, model in enumerate(models, 1)
    ]
    page = (
        environment()
        .get_template('index.html')
        .render(
            sections=sections,
            rate=rate_chart(models, codec_points),
            codecs=codec_points,
            windows=len(measured.half.windows) if measured and measured.half else 0,
            opus=codecs.OPUS_BIT_RATE // 1000,
            facts=facts.surroundings(),
            width=WIDTH,
            height=HEIGHT,
            wave_width=gallery.WAVE_WIDTH,
            wave_height=gallery.WAVE_HEIGHT,
        )
    )
    path = folder / 'index.html'
    files.write_text(path, page)
    return path


def looks(model: Model, folder: pathlib.Path, number: int) -> list[tuple[Look, str]]:
    """What attention looks at, with the paths of the pictures, relative to the page."""
    if model.attention is None:
        return []
    names = attention.write_pictures(model.attention, folder / 'media', f'm{number}attention')
    return [(each, f'media/{name}') for each, name in zip(model.attention.looks, names)]


def environment() -> jinja2.Environment:
    """Escapes whatever is put into a page; names that a template misspells are errors."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / 'templates'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def nearest_paper_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The paper's row whose compression is nearest, by ratio."""
    return min(
        table5.PAPER,
        key=lambda paper: abs(math.log(paper['compression'] / row['compression'])),
    )


def metric_table(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line for each metric that the model has: ours, interval, the paper's, the difference."""
    nearest = nearest_paper_row(row)
    lines = []
    for metric in registry.ALL_METRICS:
        value = row.get(metric.name)
        if value is None:
            continue
        ends = row['intervals'].get(metric.name)
        unit = f' {metric.unit}' if metric.unit == 'dB' else ''
        difference = ''
        if metric.name in nearest:
            scale, what = (100, ' points') if metric.unit == '%' else (1, unit)
            difference = f'{scale * (value - nearest[metric.name]):+.2f}{what}'
        lines.append(
            {
                'title': metric.title,
                'definition': metric.definition,
                'ours': metric.form.format(value) + unit,
                'interval': ' to '.join(map(metric.form.format, ends)) if ends else '',
                'paper': [
                    metric.form.format(paper[metric.name]) if metric.name in paper else ''
                    for paper in table5.PAPER
                ],
                'difference': difference,
                'better': 'higher' if metric.higher_is_better else 'lower',
            }
        )
    return {
        'lines': lines,
        'papers': [f'{paper["compression"]:.0f}x' for paper in table5.PAPER],
        'nearest': f'{nearest["compression"]:.0f}x',
        'predictors': [
            (baseline.title, baseline.definition, baseline.metric, row['predictors'][baseline.name])
            for baseline in ALL_BASELINES
            if row['predictors'].get(baseline.name) is not None
        ],
    }


def rate_chart(models: Sequence[Model], found: Sequence[Codec]) -> Chart | None:
    """Video PSNR against compression on raw bytes."""
    ours: dict[str, list[tuple[float, float]]] = {'float32': [], 'float16': [], 'all': []}
    for model in models:
        if model.row.get('hidden'):
            continue  # it reconstructs less than the whole clip
        sizes = model.row['model']
        ratio = codecs.raw_bytes(model.spec) / (4 * sizes['latents'] * sizes['latent_channels'])
        if model.row.get('video_psnr') is not None:
            ours['all'].append((ratio, model.row['video_psnr']))
        if model.half is not None:
            ours['float32'].append((ratio, model.half.whole))
            ours['float16'].append((2 * ratio, model.half.half))
    papers = [
        (_PAPER_BYTES / (4 * paper['latents'] * paper['latent_channels']), paper['video_psnr'])
        for paper in table5.PAPER
    ]
    series = [
        Series('ours, float32 latents, these windows', sorted(ours['float32']), line=False),
        Series('ours, float16 latents, these windows', sorted(ours['float16']), line=False),
        Series('ours, float32 latents, all clips', sorted(ours['all']), line=False),
        Series('paper, float32 latents, Kinetics-700', sorted(papers)),
    ]
    series += [
        Series(codec.title, sorted((point.payload, point.psnr) for point in codec.points))
        for codec in found
    ]
    if not any(ours.values()):
        return None
    return chart(
        'Video PSNR against compression',
        'compression on raw bytes (logarithmic)',
        'PSNR in dB',
        series,
        log_x=True,
    )
