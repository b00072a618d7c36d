"""The paper's results table ("Table 5" of its first version), with a row for a run of ours."""

import json
import math
from collections.abc import Sequence
from typing import Any

from perceiver_io.evaluation.evaluation import DEFINITIONS, Evaluation
from perceiver_io.models.autoencoder import AutoencoderConfig

# Latents, channels, and what the paper states; the raw compression follows from the sizes.
PAPER = (
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

_COLUMNS = {
    'compression': ('compression', '{:.1f}x'),
    'raw_compression': ('on raw values', '{:.1f}x'),
    'audio_psnr': ('audio PSNR', '{:.2f}'),
    'video_psnr': ('video PSNR', '{:.2f}'),
    'top_1': ('top-1', '{:.1%}'),
    'top_5': ('top-5', '{:.1%}'),
}

# Which column each predictor that learned nothing stands in.
_PREDICTORS = {
    'mean_colour': 'video_psnr',
    'mean_frame': 'video_psnr',
    'silence': 'audio_psnr',
    'commonest_class': 'top_1',
    'five_commonest_classes': 'top_5',
}


def compression(config: AutoencoderConfig) -> float:
    """As the paper counts it: video tokens x their padded channels / the latents' values.

    88.0 at the defaults. For a model without video, audio tokens instead (ours).
    """
    tokens = (
        math.prod(config.video_token_shape)
        if 'video' in config.modalities
        else config.audio_patches
    )
    return tokens * config.token_channels / (config.latents * config.latent_channels)


def raw_compression(config: AutoencoderConfig) -> float:
    """Values of video and audio that go in / the latents' values: 6.1 at the defaults."""
    values = 0
    if 'video' in config.modalities:
        values += math.prod(config.video_shape) * config.channels
    if 'audio' in config.modalities:
        values += config.samples
    return values / (config.latents * config.latent_channels)


def results(
    config: AutoencoderConfig, evaluation: Evaluation, unusable: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """The row and what belongs to it, ready for JSON; None for what the model does not have.

    Args:
        config: of the model.
        evaluation: of it.
        unusable: (name, reason) of clips that were left out before the evaluation.
    """
    row = {'compression': compression(config), 'raw_compression': raw_compression(config)}
    row |= {
        name: evaluation.summary.get(name)
        for name in ('audio_psnr', 'video_psnr', 'top_1', 'top_5')
    }
    skipped = [
        {'name': name, 'reason': reason} for name, reason in (*unusable, *evaluation.skipped)
    ]
    return row | {
        'clips': evaluation.summary['clips'],
        'labelled_clips': evaluation.summary['labelled_clips'],
        'skipped': len(skipped),
        'skipped_clips': skipped,
        'predictors': evaluation.predictors,
        'definitions': DEFINITIONS,
    }


def to_json(results: dict[str, Any]) -> str:
    """JSON, with null also for what is not a finite number."""

    def finite(value):
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(results), indent=2, ensure_ascii=False) + '\n'


def text(results: dict[str, Any], config: AutoencoderConfig) -> str:
    """The table for a terminal: our row, what learned nothing, and the paper's rows."""
    lines = [
        ['', *(title for title, _ in _COLUMNS.values())],
        _line(f'this run, {_size(vars(config))}', results),
    ]
    lines.append(['learned nothing'])
    lines += [
        _line(f'  {name.replace("_", " ")}', {_PREDICTORS[name]: value})
        for name, value in results['predictors'].items()
    ]
    lines.append(['paper, Kinetics-700'])
    ours = _size(vars(config))
    lines += [
        _line(f'  {_size(row)}' + (' (this size)' if _size(row) == ours else ''), row)
        for row in PAPER
    ]
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
    rule = '-' * (sum(widths) + 2 * len(_COLUMNS))
    return '\n'.join([rule, table[0].rstrip(), rule, *(line.rstrip() for line in table[1:]), rule])


def _size(sizes: dict[str, Any]) -> str:
    return f'{sizes["latents"]} x {sizes["latent_channels"]}'


def _line(name: str, values: dict[str, Any]) -> list[str]:
    return [
        name,
        *(
            '' if values.get(key) is None else form.format(values[key])
            for key, (_, form) in _COLUMNS.items()
        ),
    ]
