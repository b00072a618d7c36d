"""Evaluation: every window decoded whole, with the label hidden, and every clip counted once.

The windows of a clip make one row: squared errors are averaged before the PSNR is taken, class
scores (softmax) before the classes are ranked. Predictors that have learned nothing stand beside
the model.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from perceiver_io.core.clip import Clip, Output, to_float
from perceiver_io.core.errors import UserError
from perceiver_io.distributed.sharding import (
    clip_sharding,
    example_sharding,
    put_clip,
    put_examples,
    replicated,
)
from perceiver_io.metrics import quality
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.models.autoencoder import Autoencoder

DEFINITIONS = {
    'compression': 'as the paper counts it: video tokens x their padded channels / (latents x '
    'channels); audio tokens where there is no video',
    'raw_compression': 'pixels x 3 and audio samples of a window / (latents x channels)',
    'psnr': 'dB, peak 1 for video in [0, 1] and for audio in [-1, 1] (with peak 2 the audio is '
    '6.02 dB higher); reconstructions clipped to the range; the squared error is averaged '
    'over the windows of a clip, the PSNR over clips; at most 100 dB; audio PSNR only of '
    'clips that are not digital silence',
    'top_1, top_5': 'share of the labelled clips, label hidden; scores averaged over windows; ties '
    'count as errors',
    'mean_colour': 'the one colour that is the mean of the window',
    'mean_frame': 'the mean over time of the window, in every frame',
    'silence': 'zeros',
    'commonest_class': 'top-1 of always the commonest class of these clips',
    'five_commonest_classes': 'top-5 of always the five commonest classes of these clips',
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        clips: a row for each clip: name, label, prediction, and the numbers of DEFINITIONS.
        skipped: (name, reason) of clips that could not be read.
        summary: means over the clips: 'loss', 'video_psnr', 'audio_psnr', 'top_1', 'top_5', as far
            as the model has the modalities, and the numbers of rows, 'clips', and of those whose
            class is known, 'labelled_clips'.
        predictors: the same measures for predictors that have learned nothing.
    """

    clips: list[dict[str, Any]]
    skipped: list[tuple[str, str]]
    summary: dict[str, float]
    predictors: dict[str, float]


def make_eval_step(model: Autoencoder, mesh: Mesh) -> Callable:
    """step(params, clip, info) -> (measures, info) of a batch: everything [b, ...], on all devices.

    `info` is any tree of arrays [b, ...] that should be seen by all processes.
    """

    def eval_step(params: hk.Params, clip: Clip, info):
        clip = to_float(clip)
        output = model.reconstruct(params, video=clip.video, audio=clip.audio)
        return _measure(output, clip), info

    everywhere = replicated(mesh)
    return jax.jit(
        eval_step,
        in_shardings=(everywhere, clip_sharding(mesh), example_sharding(mesh)),
        out_shardings=everywhere,
    )


def evaluate(
    eval_step: Callable,
    params: hk.Params,
    batches: Iterable,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    weights: LossWeights,
    mesh: Mesh,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Evaluation:
    """Runs `eval_step` over all batches and sums up.

    Args:
        eval_step: from `make_eval_step`.
        params: of the model.
        batches: from `evaluation_batches`, with a clip, its mask and where it comes from.
        names: of the records that `Batch.record` counts.
        classes: the name of each class index.
        weights: of the terms in 'loss'.
        mesh: that of `eval_step`.
        progress: wraps the batches, to show how far it is.
    """
    measured, infos = [], []
    reasons: dict[int, str] = {}
    for batch in progress(batches):
        info = {
            'mask': batch.mask,
            'record': batch.record,
            'label': batch.clip.label,
            'failed': batch.failed,
        }
        reasons |= batch.reasons
        info = put_examples(info, mesh)
        measures, info = jax.device_get(eval_step(params, put_clip(batch.clip, mesh), info))
        measured.append(measures)
        infos.append(info)
    if not infos:
        raise UserError('there is nothing to evaluate: no batches')
    join = lambda trees: jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)  # noqa: E731
    return _summarise(join(measured), join(infos), reasons, names, classes, weights)


def _measure(output: Output, clip: Clip) -> dict[str, jax.Array]:
    """Errors of the model and of what learned nothing, [b] each, and the class scores [b, k]."""
    measures = {}
    if output.video is not None:
        over = lambda x, axes: jnp.broadcast_to(  # noqa: E731
            x.mean(axes, keepdims=True), x.shape
        )
        measures |= {
            'video_l1': _mean(jnp.abs(output.video - clip.video)),
            'video_error': quality.squared_error(output.video, clip.video, 0.0),
            'mean_colour_error': quality.squared_error(
                over(clip.video, (1, 2, 3)), clip.video, 0.0
            ),
            'mean_frame_error': quality.squared_error(over(clip.video, 1), clip.video, 0.0),
        }
    if output.audio is not None:
        measures |= {
            'audio_l1': _mean(jnp.abs(output.audio - clip.audio)),
            'audio_error': quality.squared_error(output.audio, clip.audio, -1.0),
            'silence_error': _mean(jnp.square(clip.audio)),
        }
    if output.label is not None:
        log_scores = jax.nn.log_softmax(output.label)
        own = jnp.take_along_axis(log_scores, jnp.maximum(clip.label, 0)[:, None], axis=1)[:, 0]
        measures |= {
            'scores': jnp.exp(log_scores),
            'cross_entropy': jnp.where(clip.label >= 0, -own, 0.0),
        }
    return measures


def _mean(x: jax.Array) -> jax.Array:
    return x.mean(axis=tuple(range(1, x.ndim)))


def _summarise(measures, info, known, names, classes, weights) -> Evaluation:
    reasons = {
        names[record]: known.get(record, 'another process could not read it')
        for record in info['failed'].tolist()
        if record >= 0
    }
    kept = info['mask'] & ~np.isin(info['record'], info['failed'])  # all windows of a clip or none
    records, clip_of_window = np.unique(info['record'][kept], return_inverse=True)
    if not len(records):
        raise UserError(
            f'none of the {len(reasons)} clips could be read; the first: '
            f'{next(iter(reasons.items()), "")}'
        )

    def of_clips(values):
        """[b, ...] to the mean over the windows of each clip."""
        total = np.zeros((len(records), *values.shape[1:]))
        np.add.at(total, clip_of_window, values[kept])
        return (total.T / np.bincount(clip_of_window)).T

    means = {name: of_clips(values) for name, values in measures.items()}
    labels = of_clips(info['label']).astype(int)
    known = labels >= 0
    columns: dict[str, Any] = {'name': [names[record] for record in records]}
    loss = np.zeros(len(records))
    if 'video_error' in means:
        for name in ('video', 'mean_colour', 'mean_frame'):
            columns[f'{name}_psnr'] = np.asarray(quality.psnr(means[f'{name}_error']))
        loss += weights.video * means['video_l1']
    if 'audio_error' in means:
        heard = means['silence_error'] > 0
        for name in ('audio', 'silence'):
            psnr = np.asarray(quality.psnr(means[f'{name}_error']))
            columns[f'{name}_psnr'] = np.where(heard, psnr, None)
        loss += weights.audio * means['audio_l1']
    if 'scores' in means:
        scores = means['scores']
        best = np.argsort(-scores, axis=1, kind='stable')[:, :5]
        name_of = lambda index: classes[index] if 0 <= index < len(classes) else ''  # noqa: E731
        columns['label'] = [name_of(label) for label in labels]
        columns['predicted'] = [name_of(row[0]) for row in best]
        columns['top_5_classes'] = ['; '.join(map(name_of, row)) for row in best]
        columns['score'] = scores[np.arange(len(scores)), best[:, 0]]
        for k in (1, 5):
            hits = np.asarray(quality.in_top(scores, labels, k)).astype(float)
            columns[f'top_{k}'] = np.where(known, hits, None)
        loss += weights.label * means['cross_entropy']
    columns['loss'] = loss

    summary = _means(
        columns, {name: name for name in ('loss', 'video_psnr', 'audio_psnr', 'top_1', 'top_5')}
    )
    predictors = _means(
        columns, {name: f'{name}_psnr' for name in ('mean_colour', 'mean_frame', 'silence')}
    )
    if 'scores' in means and known.any():
        counts = np.sort(np.bincount(labels[known]))[::-1]
        predictors |= {
            'commonest_class': float(counts[0] / known.sum()),
            'five_commonest_classes': float(counts[:5].sum() / known.sum()),
        }
    summary |= {'clips': len(records), 'labelled_clips': int(known.sum())}
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return Evaluation(rows, sorted(reasons.items()), summary, predictors)


def _means(columns: dict[str, Any], wanted: dict[str, str]) -> dict[str, float]:
    """The mean of each wanted column, under its new name, over the clips that have a value."""
    values = {
        name: [value for value in columns.get(column, ()) if value is not None]
        for name, column in wanted.items()
    }
    return {name: float(np.mean(found)) for name, found in values.items() if found}
