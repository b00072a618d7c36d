"""The metrics against scikit-image and librosa, and against their formulas in float64."""

import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from perceiver_io.metrics import spectra
from perceiver_io.metrics.ssim import ssim


def videos(height, width):
    """Smooth video and a noisy copy, float32 [2, 3, height, width, 3] in [0, 1]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width] / 10
    phases = rng.uniform(0, 6, (2, 3, 1, 1, 3))
    target = 0.5 + 0.4 * np.sin(rows[..., None] + 2 * columns[..., None] + phases)
    noise = rng.normal(0, [[[[[0.02]]]], [[[[0.3]]]]], target.shape)
    return np.clip(target + noise, 0, 1).astype(np.float32), target.astype(np.float32)


def sounds(samples=9000, rate=48_000):
    """Tones with noise, and noisier copies, float32 [3, samples] in [-1, 1]."""
    rng = np.random.default_rng(1)
    seconds = np.arange(samples) / rate
    tones = 0.3 * np.sin(2 * np.pi * np.array([[220.0], [1000.0], [9000.0]]) * seconds)
    target = tones + rng.normal(0, 0.003, tones.shape)
    prediction = 0.7 * target + rng.normal(0, [[0.001], [0.05], [0.3]], tones.shape)
    return np.clip(prediction, -1, 1).astype(np.float32), target.astype(np.float32)


@pytest.mark.parametrize('height, width', [(11, 11), (24, 33)])
def test_ssim_is_that_of_scikit_image(height, width):
    prediction, target = videos(height, width)
    expected = [
        np.mean(
            [
                structural_similarity(
                    one,
                    other,
                    data_range=1,
                    channel_axis=-1,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
                for one, other in zip(clip, of_clip)
            ]
        )
        for clip, of_clip in zip(prediction, target)
    ]
    found = ssim(jnp.array(prediction), jnp.array(target))
    assert expected[0] > 0.9 and expected[1] < 0.6
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize('rate', [8000, 48_000])
def test_log_mel_distance_is_that_of_librosa(rate):
    prediction, target = sounds(rate=rate)

    def decibels(audio):
        power = librosa.feature.melspectrogram(
            y=audio, sr=rate, n_fft=2048, hop_length=512, center=False, power=2, n_mels=80
        )
        return librosa.power_to_db(power, amin=1e-10, top_db=None)

    expected = [np.abs(decibels(p) - decibels(t)).mean() for p, t in zip(prediction, target)]
    found = spectra.log_mel_distance(jnp.array(prediction), jnp.array(target), rate)
    assert expected[0] < expected[1] < expected[2]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_mel_filters_are_those_of_librosa():
    for rate in (1500, 16_000, 48_000):
        expected = librosa.filters.mel(sr=rate, n_fft=2048, n_mels=80)
        np.testing.assert_allclose(spectra.mel_filters(rate), expected, atol=1e-7)


def test_stft_distance_is_that_of_librosas_spectra():
    prediction, target = sounds()
    expected = []
    for pair in zip(prediction, target):
        distances = []
        for size in (512, 1024, 2048):
            ours, theirs = (
                np.abs(librosa.stft(audio, n_fft=size, hop_length=size // 4, center=False))
                for audio in pair
            )
            logs = [np.log(np.maximum(magnitude, 1e-5)) for magnitude in (ours, theirs)]
            convergence = np.linalg.norm(theirs - ours) / np.linalg.norm(theirs)
            distances.append(convergence + np.abs(logs[0] - logs[1]).mean())
        expected.append(np.mean(distances))
    sums = spectra.stft_sums(jnp.array(prediction), jnp.array(target))
    np.testing.assert_allclose(spectra.stft_distance(np.float64(sums)), expected, atol=1e-4)


def test_si_sdr_is_its_formula():
    prediction, target = sounds()
    expected = []
    for ours, theirs in zip(np.float64(prediction), np.float64(target)):
        scaled = (ours @ theirs) / (theirs @ theirs) * theirs
        expected.append(10 * np.log10((scaled @ scaled) / ((ours - scaled) @ (ours - scaled))))
    found = spectra.si_sdr(jnp.array(prediction), jnp.array(target))
    assert expected[0] > 20 and expected[2] < 0
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_si_sdr_of_hand_made_signals():
    target = jnp.array([[1.0, 0.0, 0.0, 0.0]])
    for prediction, expected in (
        ([3.0, 3.0, 0.0, 0.0], 0.0),  # as much of the target as of something else
        ([0.0, 0.0, 0.0, 0.0], -100.0),
        ([-2.0, 0.0, 0.0, 0.0], 100.0),  # scale and sign do not count
        ([0.0, 1.0, 0.0, 0.0], -100.0),
    ):
        assert spectra.si_sdr(jnp.array([prediction]), target)[0] == pytest.approx(expected)
    assert np.isnan(spectra.si_sdr(jnp.array([[np.nan, 1.0, 1.0, 1.0]]), target)[0])


def test_silent_windows_do_not_count_in_a_clips_si_sdr():
    target = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    prediction = jnp.array([[1.0, 1.0], [1.0, 1.0], [10.0, 1.0]])
    sums = np.float64(spectra.si_sdr_sums(prediction, target))
    np.testing.assert_allclose(sums, [[0, 1], [0, 0], [20, 1]], atol=1e-5)
    assert spectra.mean_si_sdr(sums.mean(axis=0)) == pytest.approx(10)
