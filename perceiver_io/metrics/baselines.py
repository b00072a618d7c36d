"""The baselines of an evaluation: predictions that take no training, measured as a model's are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.metrics import registry, statistics
from perceiver_io.metrics.record import Baseline, Statistic


def baselines_for(modalities: tuple[str, ...]) -> tuple[Baseline, ...]:
    """The baselines of a model, in the order of tables."""
    of = {
        'video': (MEAN_COLOUR, MEAN_FRAME),
        'audio': (SILENCE,),
        'label': (COMMONEST_CLASS, FIVE_COMMONEST_CLASSES),
    }
    return tuple(
        baseline
        for modality, baselines in of.items()
        if modality in modalities
        for baseline in baselines
    )


def _mean_colour(prediction: jax.Array, target: jax.Array) -> jax.Array:
    colour = target.mean((1, 2, 3), keepdims=True)
    return statistics.VIDEO_ERROR.function(jnp.broadcast_to(colour, target.shape), target)


def _mean_frame(prediction: jax.Array, target: jax.Array) -> jax.Array:
    frame = target.mean(1, keepdims=True)
    return statistics.VIDEO_ERROR.function(jnp.broadcast_to(frame, target.shape), target)


def _share_of_commonest(labels: np.ndarray, *, k: int) -> float:
    """The share of the clips [n] that are of the k commonest of their classes."""
    counts = np.sort(np.bincount(labels))[::-1]
    return float(counts[:k].sum() / len(labels))


MEAN_COLOUR = Baseline(
    name='mean_colour',
    title='mean colour',
    definition='the one colour that is the mean of the window',
    explanation='it is taken from the clip itself, so a model below it has not learned even that',
    metric=registry.VIDEO_PSNR,
    statistic=Statistic('mean_colour_error', 'video', _mean_colour),
)
MEAN_FRAME = Baseline(
    name='mean_frame',
    title='mean frame',
    definition='the mean over time of the window, in every frame',
    explanation='it is taken from the clip itself, at full resolution, and is exact where nothing '
    'moves: in short windows a good model can stay below it',
    metric=registry.VIDEO_PSNR,
    statistic=Statistic('mean_frame_error', 'video', _mean_frame),
)
SILENCE = Baseline(
    name='silence',
    title='silence',
    definition='zeros',
    explanation='its PSNR is high where clips are quiet',
    metric=registry.AUDIO_PSNR,
    statistic=statistics.AUDIO_ENERGY,
)
COMMONEST_CLASS = Baseline(
    name='commonest_class',
    title='commonest class',
    definition='top-1 of always the commonest class of these clips',
    explanation='it knows the labels of these clips',
    metric=registry.TOP_1,
    of_labels=functools.partial(_share_of_commonest, k=1),
)
FIVE_COMMONEST_CLASSES = Baseline(
    name='five_commonest_classes',
    title='five commonest classes',
    definition='top-5 of always the five commonest classes of these clips',
    explanation='it knows the labels of these clips',
    metric=registry.TOP_5,
    of_labels=functools.partial(_share_of_commonest, k=5),
)

ALL_BASELINES = baselines_for(('video', 'audio', 'label'))
