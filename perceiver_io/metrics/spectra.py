"""Measures of audio: SI-SDR, log-mel distance, multi-resolution STFT distance.

Where the mean over the windows of a clip is not the clip's value, there is a function to sums that
can be averaged, and one from their mean to the value.

Spectra are of frames that lie wholly inside the window, each under a Hann window, without padding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

FLOOR = 1e-10  # power below which a spectrum counts as this: 100 dB below a power of 1
DECIBELS = 100.0  # no SI-SDR is above this or below its negative

MEL_FFT, MEL_HOP, MEL_BANDS = 2048, 512, 80
STFT_SIZES = (512, 1024, 2048)  # samples of a frame; the hop is a quarter of it
SHORTEST = 2048  # samples that a window must have for the spectra


def si_sdr(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Scale-invariant signal to distortion ratio (Le Roux et al. 2019): [b, s] twice to [b], in dB.

    The mean of the signals is not removed. The result is in [-100, 100] dB, with -100 dB for a
    silent prediction, and has no meaning for a silent target.
    """
    power = jnp.sum(jnp.square(target), axis=-1, keepdims=True)
    scale = jnp.sum(prediction * target, axis=-1, keepdims=True) / jnp.where(power > 0, power, 1)
    signal = jnp.sum(jnp.square(scale * target), axis=-1)
    noise = jnp.sum(jnp.square(prediction - scale * target), axis=-1)
    ratio = jnp.where(noise > 0, signal / noise, jnp.where(signal > 0, jnp.inf, signal))
    low, high = 10 ** (-DECIBELS / 10), 10 ** (DECIBELS / 10)
    return 10 * jnp.log10(jnp.clip(ratio, low, high))


def si_sdr_sums(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """[b, s] twice to [b, 2]: the SI-SDR and 1, or 0 and 0 where the target is silent."""
    heard = jnp.any(target != 0, axis=-1)
    return jnp.stack([jnp.where(heard, si_sdr(prediction, target), 0), heard], axis=-1)


def mean_si_sdr(sums: np.ndarray) -> np.ndarray:
    """The mean over the windows that are not silent, from the mean of their sums [..., 2]."""
    return sums[..., 0] / sums[..., 1]


def log_mel_distance(prediction: jax.Array, target: jax.Array, sample_rate: int) -> jax.Array:
    """The mean absolute difference of log-mel spectra in dB: [b, s] twice to [b].

    Power spectra of 2,048 samples every 512, in 80 bands on Slaney's mel scale from 0 Hz to half
    the sample rate, each band divided by its width.
    """

    def decibels(audio: jax.Array) -> jax.Array:
        power = jnp.square(magnitudes(audio, MEL_FFT, MEL_HOP))
        bands = jnp.einsum(
            'bfn,mn->bfm', power, mel_filters(sample_rate), precision=jax.lax.Precision.HIGHEST
        )
        return 10 * jnp.log10(jnp.maximum(bands, FLOOR))

    return jnp.abs(decibels(prediction) - decibels(target)).mean(axis=(1, 2))


def stft_sums(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """[b, s] twice to [b, 3 resolutions, 3], for `stft_distance`.

    Of each resolution: the mean squared difference of the magnitudes, the mean squared magnitude of
    the target, and the mean absolute difference of the natural logarithms of the magnitudes.
    """
    sums = []
    for size in STFT_SIZES:
        ours, theirs = (magnitudes(audio, size, size // 4) for audio in (prediction, target))
        logs = [jnp.log(jnp.maximum(magnitude, FLOOR**0.5)) for magnitude in (ours, theirs)]
        values = jnp.square(ours - theirs), jnp.square(theirs), jnp.abs(logs[0] - logs[1])
        sums.append(jnp.stack([value.mean(axis=(1, 2)) for value in values], axis=-1))
    return jnp.stack(sums, axis=1)


def stft_distance(sums: np.ndarray) -> np.ndarray:
    """Multi-resolution STFT distance (Yamamoto, Song and Kim 2020): [..., 3, 3] to [...].

    Spectral convergence plus the difference of log magnitudes, averaged over frames of 512, 1,024
    and 2,048 samples. The target must not be silent.
    """
    difference, power, logs = np.moveaxis(sums, -1, 0)
    return (np.sqrt(difference / power) + logs).mean(axis=-1)


def magnitudes(audio: jax.Array, size: int, hop: int) -> jax.Array:
    """Magnitudes of the short-time Fourier transform: [b, s] to [b, frames, size // 2 + 1]."""
    starts = np.arange(0, audio.shape[-1] - size + 1, hop)
    frames = audio[:, starts[:, None] + np.arange(size)]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return jnp.abs(jnp.fft.rfft(frames * hann.astype(np.float32)))


@functools.cache
def mel_filters(sample_rate: int) -> np.ndarray:
    """Triangular filters [bands, frequencies] on Slaney's mel scale, float32.

    The scale is linear below 1 kHz, with 200/3 Hz a mel, and logarithmic above, with 27 mels for a
    factor of 6.4. Each filter is divided by half its width in Hz.
    """
    linear, step = 200 / 3, np.log(6.4) / 27
    knee = 1000 / linear
    highest = sample_rate / 2
    top = highest / linear if highest < 1000 else knee + np.log(highest / 1000) / step
    mels = np.linspace(0, top, MEL_BANDS + 2)
    edges = np.where(mels < knee, linear * mels, 1000 * np.exp(step * (mels - knee)))
    frequencies = np.linspace(0, highest, MEL_FFT // 2 + 1)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - lower) / (centre - lower)
    falling = (upper - frequencies) / (upper - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (upper - lower)).astype(np.float32)
