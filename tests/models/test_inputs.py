"""Checks of the model's inputs: what is converted, and one line for each mistake."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.models import UNEVEN

from perceiver_io.core.clip import Clip, to_float
from perceiver_io.core.errors import UserError
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.models.inputs import check_clip, check_label, check_queries

CONFIG = AutoencoderConfig(**UNEVEN)
RNG = np.random.default_rng(0)
VIDEO = RNG.random((2, *CONFIG.video_shape, 3), np.float32)
AUDIO = 2 * RNG.random((2, CONFIG.samples, 1), np.float32) - 1
LABEL = np.array([0, 4])


def test_integers_of_media_readers_are_scaled():
    config = AutoencoderConfig(**UNEVEN | dict(self_attends=1), modalities=('video', 'audio'))
    model = Autoencoder(config)
    params = model.init(jax.random.key(0))
    clip = Clip(video=(255 * VIDEO).astype(np.uint8), audio=(32_767 * AUDIO).astype(np.int16))
    floats = to_float(clip)
    scaled = model.encode(params, video=floats.video, audio=floats.audio)
    np.testing.assert_allclose(
        model.encode(params, video=clip.video, audio=clip.audio), scaled, atol=1e-5
    )


@pytest.mark.parametrize('convert', [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    'values, message',
    [
        ({'video': 255 * VIDEO}, r'video has values from .* to 25\d.* must be in \[0, 1\]'),
        ({'video': 2 * VIDEO - 1}, r'video has values from -0.99'),
        ({'video': np.nan * VIDEO}, 'video has values from nan'),
        ({'audio': 32_768 * AUDIO}, r'audio has values from -3.* must be in \[-1, 1\]'),
        ({'video': VIDEO.astype(np.int32)}, 'video of int32 must be uint8, or floats'),
        ({'audio': AUDIO.astype(np.uint8)}, 'audio of uint8 must be int16, or floats'),
        ({'video': VIDEO[0]}, r'video \(2, 16, 12, 3\) must be \[b, 2, 16, 12, 3\]'),
        ({'video': VIDEO[:, :, :, :4]}, r'video \(2, 2, 16, 4, 3\) must be'),
        ({'audio': AUDIO[..., 0]}, r'audio \(2, 192\) must be \[b, 192, 1\]'),
        ({'audio': AUDIO[:1]}, 'different batch sizes'),
        ({'label': np.eye(5)[:2]}, 'label float.* must be integers: class indices'),
        ({'label': np.eye(5, dtype=np.int32)[:2]}, r'label int32 \(2, 5\) must be integers'),
    ],
)
def test_clips_that_are_refused(values, message, convert):
    clip = dict(video=VIDEO, audio=AUDIO, label=LABEL) | values
    with pytest.raises(UserError, match=message) as error:
        check_clip(CONFIG, **{name: convert(value) for name, value in clip.items()})
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'values, message',
    [
        ({'video': None}, 'this model has video, give an array'),
        ({'audio': AUDIO.tolist()}, 'audio must be an array .* not a list'),
        ({'label': [0, 4]}, 'label must be an integer array.* not a list'),
        ({'label': 3}, 'not a int'),
    ],
)
def test_what_is_no_array(values, message):
    with pytest.raises(UserError, match=message):
        check_clip(CONFIG, **dict(video=VIDEO, audio=AUDIO, label=LABEL) | values)


def test_labels_out_of_range():
    check_label(CONFIG, LABEL, None)
    check_label(CONFIG, np.array([0, -1]), np.array([False, True]))
    for label in (np.array([0, 5]), jnp.array([-1, 0])):
        with pytest.raises(UserError, match='label has (5|-1), which must be from 0 to 4'):
            check_label(CONFIG, label, None)
    with pytest.raises(UserError, match=r'label_masked must be a bool array \(2,\)'):
        check_label(CONFIG, LABEL, np.array([0, 1]))


def test_queries_out_of_range():
    latents = np.zeros((1, CONFIG.latents, CONFIG.latent_channels), np.float32)
    check_queries(CONFIG, latents, np.array([383]), np.array([11]))
    for index in (dict(video_index=jnp.array([384])), dict(audio_index=np.array([-1, 3]))):
        with pytest.raises(UserError, match='index has (384|-1), which must be from 0 to'):
            check_queries(CONFIG, latents, **dict(video_index=None, audio_index=None) | index)
    with pytest.raises(UserError, match='video_index must be an integer array'):
        check_queries(CONFIG, latents, [1, 2], None)
    with pytest.raises(UserError, match=r'latents \(1, 5, 16\) must be an array'):
        check_queries(CONFIG, latents[:, :5], None, None)


def test_values_are_not_looked_at_under_jit():
    """Shapes and types are; a constant inside of `jit` is concrete, and is looked at."""

    def checked(video):
        return check_clip(CONFIG, video, AUDIO, LABEL).video

    jax.jit(checked)(255 * VIDEO)
    with pytest.raises(UserError, match='must be'):
        jax.jit(checked)(VIDEO[0])
    constant = jnp.asarray(255 * VIDEO)
    with pytest.raises(UserError, match='video has values'):
        jax.jit(lambda: checked(constant))()


def test_modalities_that_the_model_lacks_are_left_out():
    config = AutoencoderConfig(**UNEVEN, modalities=('video',))
    clip = check_clip(config, VIDEO, np.zeros(3), [1])
    assert clip.audio is None and clip.label is None
