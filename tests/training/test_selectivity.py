"""How selective a model is, at both starts and at the extremes."""

import functools

import jax
import numpy as np
import pytest
from helpers.tiny import TINY, random_clip

from perceiver_io.core.clip import Clip
from perceiver_io.evaluation.results import ShownWindow
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training import selectivity
from perceiver_io.training.initialization.placed import placed_parameters
from perceiver_io.training.initialization.placement import Placement

CONFIG = AutoencoderConfig(**TINY)
CLIP = Clip(*[None if array is None else array[0] for array in random_clip(CONFIG, 1)])


@functools.cache
def original_params():
    return jax.device_get(Autoencoder(CONFIG).init(jax.random.key(0)))


def measure(params, reconstruction=CLIP):
    return selectivity.measure(Autoencoder(CONFIG), params, [ShownWindow(0, CLIP, reconstruction)])


def test_the_placed_start_is_more_selective():
    placed = measure(placed_parameters(original_params(), CONFIG, Placement(), 0))
    original = measure(original_params())
    assert original.keys() == {
        'tokens_per_latent',
        'latents_per_video_query',
        'latents_per_audio_query',
        'latents_per_label_query',
        'video_variation',
        'audio_variation',
    }
    tokens = 2 * 2 * 2 + 128 // 16 + 1
    assert 0.5 * tokens < original['tokens_per_latent'] <= tokens + 1e-3
    assert placed['tokens_per_latent'] < 0.5 * original['tokens_per_latent']
    assert 5 < original['latents_per_video_query'] <= 6.001
    # The video has 2 x 2 of the 6 latents, and a query aims at 2 along each axis.
    assert 3.5 < placed['latents_per_video_query'] < 4.5


@pytest.mark.parametrize('share', [0, 0.5, 1])
def test_variation_is_that_of_the_output_over_that_of_the_original(share):
    def shrunk(values):
        mean = values.mean((0, 1, 2) if values.ndim == 4 else 0)
        return mean + share * (values - mean)

    output = Clip(video=shrunk(CLIP.video), audio=shrunk(CLIP.audio))
    measured = measure(original_params(), output)
    assert measured['video_variation'] == pytest.approx(share**2)
    assert measured['audio_variation'] == pytest.approx(share**2)


def test_a_silent_window_has_no_variation():
    silent = CLIP._replace(audio=np.zeros_like(CLIP.audio))
    window = ShownWindow(0, silent, CLIP)
    measured = selectivity.measure(Autoencoder(CONFIG), original_params(), [window])
    assert 'audio_variation' not in measured and 'video_variation' in measured
