"""PSNR and accuracy, and what is meant by them.

The paper does not define its PSNR; these definitions are not in the paper. The peak is 1 for both
modalities, with video in [0, 1] and audio in [-1, 1]: with the audio's whole range as the peak (2),
every audio PSNR would be 6.02 dB higher. A prediction is clipped to the range of its modality
first.
"""

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Array, Output

PEAK = 1.0
PEAK_2_DECIBELS = 20 * math.log10(2)  # what peak 2 adds to a PSNR of peak 1
SMALLEST_ERROR = 1e-10  # a mean squared error below this counts as this: no PSNR is above 100 dB

VIDEO_RANGE = (0.0, 1.0)
AUDIO_RANGE = (-1.0, 1.0)

NumpyOrJax = TypeVar('NumpyOrJax', np.ndarray, jax.Array)


def psnr(mean_squared_error: NumpyOrJax) -> NumpyOrJax:
    """Peak signal to noise ratio in dB, peak 1; at most 100 dB."""
    xp = jnp if isinstance(mean_squared_error, jax.Array) else np
    return 10 * xp.log10(PEAK**2 / xp.maximum(mean_squared_error, SMALLEST_ERROR))


def squared_error(prediction: jax.Array, target: jax.Array, low: float) -> jax.Array:
    """The mean squared error of each example: [b, ...] twice to [b].

    The prediction is clipped to [low, 1], the range of its modality.
    """
    difference = jnp.clip(prediction, low, 1.0) - target
    return mean_of_each(jnp.square(difference))


def mean_of_each(x: jax.Array) -> jax.Array:
    """The mean of each example: [b, ...] to [b]."""
    return x.mean(axis=tuple(range(1, x.ndim)))


def has_sound(audio: Array) -> bool:
    """Whether audio is more than digital silence, that is, has a sample that is not zero.

    The rule for silence: a PSNR, or any other comparison, of audio that is digital silence says
    nothing about a model, and is not reported.
    """
    return bool(np.any(np.asarray(audio)))


def in_top(logits: NumpyOrJax, label: NumpyOrJax, k: int) -> NumpyOrJax:
    """Whether each label [b] is among the k highest of its logits [b, k]; ties count against it.

    A label of -1, which means unknown, is never among them, and neither is a logit of NaN.
    """
    xp = jnp if isinstance(logits, jax.Array) else np
    own = xp.take_along_axis(logits, xp.maximum(label, 0)[:, None], axis=-1)
    # As "not below", which is also true of NaN.
    return (xp.sum(~(logits < own), axis=-1) <= k) & (label >= 0)


def batch_metrics(output: Output, target: Output) -> dict[str, jax.Array]:
    """PSNR and accuracy of a training batch, on what was decoded; means over the batch."""
    result = {}
    if output.video is not None:
        error = squared_error(output.video, target.video, 0.0)
        result['video_psnr'] = psnr(error).mean()
    if output.audio is not None:
        error = squared_error(output.audio, target.audio, -1.0)
        result['audio_psnr'] = psnr(error).mean()
    if output.label is not None:
        known = target.label >= 0
        hits = in_top(output.label, target.label, 1)
        result['accuracy'] = hits.sum() / jnp.maximum(known.sum(), 1)
    return result
