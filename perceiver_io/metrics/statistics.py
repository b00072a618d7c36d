"""The statistics of windows that metrics are made of; see `record`."""

import functools

import jax
import jax.numpy as jnp

from perceiver_io.core.clip import Clip, Output
from perceiver_io.metrics import quality, spectra, ssim
from perceiver_io.metrics.losses import LossWeights, example_losses
from perceiver_io.metrics.quality import AUDIO_RANGE, VIDEO_RANGE
from perceiver_io.metrics.record import Statistic


def _clipped_audio(audio: jax.Array) -> jax.Array:
    """[b, s, 1] to [b, s], clipped to [-1, 1]."""
    return jnp.clip(audio[..., 0], *AUDIO_RANGE)


def _video_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return quality.squared_error(prediction, target, VIDEO_RANGE[0])


def _audio_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return quality.squared_error(prediction, target, AUDIO_RANGE[0])


def _ssim(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return ssim.ssim(jnp.clip(prediction, *VIDEO_RANGE), target)


def _si_sdr(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return spectra.si_sdr_sums(_clipped_audio(prediction), target[..., 0])


def _log_mel_distance(prediction: jax.Array, target: jax.Array, *, sample_rate: int) -> jax.Array:
    return spectra.log_mel_distance(_clipped_audio(prediction), target[..., 0], sample_rate)


def _stft(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return spectra.stft_sums(_clipped_audio(prediction), target[..., 0])


def _class_scores(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return jax.nn.softmax(prediction)


def _audio_energy(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return quality.mean_of_each(jnp.square(target))


def loss(weights: LossWeights) -> Statistic:
    """The weighted loss of a window."""

    def weighted(prediction: Output, target: Clip) -> jax.Array:
        return example_losses(prediction, target, weights)

    return Statistic('loss', None, weighted)


def log_mel(sample_rate: int) -> Statistic:
    """The log-mel distance of audio at a sample rate."""
    return Statistic(
        'log_mel', 'audio', functools.partial(_log_mel_distance, sample_rate=sample_rate)
    )


VIDEO_ERROR = Statistic('video_error', 'video', _video_error)
SSIM = Statistic('ssim', 'video', _ssim)
AUDIO_ERROR = Statistic('audio_error', 'audio', _audio_error)
AUDIO_ENERGY = Statistic('audio_energy', 'audio', _audio_energy)  # 0 for digital silence
SI_SDR = Statistic('si_sdr_sums', 'audio', _si_sdr)
STFT = Statistic('stft_sums', 'audio', _stft)
CLASS_SCORES = Statistic('class_scores', 'label', _class_scores)
