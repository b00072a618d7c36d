"""PSNR and accuracy, and what is meant by them.

The paper gives no definition of its PSNR; these are ours. Peak 1 for both modalities, the video in
[0, 1] and the audio in [-1, 1]: with the audio's whole range as the peak (2) every audio PSNR would
be 6.02 dB higher. A reconstruction is clipped to the range of its modality first.
"""

import jax
import jax.numpy as jnp

from perceiver_io.core.clip import Output

PEAK = 1.0
SMALLEST_ERROR = 1e-10  # a mean squared error below this counts as this: no PSNR is above 100 dB


def psnr(mean_squared_error: jax.Array) -> jax.Array:
    """Peak signal to noise ratio in dB, peak 1; at most 100 dB. Also takes numpy arrays."""
    return 10 * jnp.log10(PEAK**2 / jnp.maximum(mean_squared_error, SMALLEST_ERROR))


def squared_error(ours: jax.Array, target: jax.Array, low: float) -> jax.Array:
    """[b, ...] twice to the mean squared error of each example, [b]; ours clipped to [low, 1]."""
    difference = jnp.clip(ours, low, 1.0) - target
    return jnp.square(difference).mean(axis=tuple(range(1, ours.ndim)))


def in_top(logits: jax.Array, label: jax.Array, k: int) -> jax.Array:
    """Whether each label [b] is among the k highest of its logits [b, k]; ties count against it."""
    own = jnp.take_along_axis(logits, jnp.maximum(label, 0)[:, None], axis=-1)
    return (jnp.sum(logits >= own, axis=-1) <= k) & (label >= 0)


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
