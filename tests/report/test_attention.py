"""What attention looks at: the sums over latents, and where the pictures are yellow."""

import jax
import numpy as np
from helpers.models import UNEVEN, make_params

from perceiver_io.core.clip import Clip
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.report import attention
from perceiver_io.report.content import Look


def window(config):
    rng = np.random.default_rng(0)
    return Clip(
        rng.integers(0, 255, (*config.video_shape, 3), np.uint8),
        rng.integers(-9000, 9000, (config.samples, 1)).astype(np.int16),
    )


def test_a_query_looks_through_the_latents_at_the_tokens(monkeypatch):
    """Also if the latents do not fit the memory at once."""
    monkeypatch.setattr(attention, '_AT_ONCE', 4)  # of six latents
    config = AutoencoderConfig(**UNEVEN)
    model, params, clip = Autoencoder(config), make_params(config), window(config)
    maps = attention.look('clip', model, params, clip)
    assert [each.title for each in maps.looks] == [
        *(f'Latent {i}' for i in range(6)),
        'Pixel in frame 1, row 4, column 3',
        'Pixel in frame 1, row 8, column 6',
        'Pixel in frame 1, row 12, column 9',
        'Audio patch 6',
        'Label',
    ]
    given = dict(video=clip.video[None], audio=clip.audio[None])
    latents = model.encode(params, **given)
    read = model.encoder_attention(params, np.arange(6), **given)
    pixel = (1 * 16 + 8) * 12 + 6
    asked = model.decoder_attention(
        params, latents, video_index=np.array([pixel]), audio_index=np.array([0])
    )
    expected = jax.device_get(asked['video'][0, 0] @ read['video'][0])
    np.testing.assert_allclose(maps.looks[7].video.ravel(), expected, rtol=1e-4)
    np.testing.assert_allclose(maps.looks[5].audio, read['audio'][0, 5], rtol=1e-4)
    assert maps.looks[7].frame == 1 and maps.looks[7].point == (8, 6)
    assert maps.looks[7].text.startswith('attends to ')


def test_a_model_of_audio_alone():
    config = AutoencoderConfig(**UNEVEN, modalities=('audio',))
    clip = window(config)._replace(video=None)
    maps = attention.look('clip', Autoencoder(config), make_params(config), clip)
    assert [each.title for each in maps.looks][-1] == 'Audio patch 6'
    assert maps.looks[0].video is None and '100% audio' in maps.looks[0].text
    assert attention.picture(maps.looks[0], clip).shape == (48, 480, 3)


def test_yellow_is_where_the_weights_are():
    video, audio = np.zeros((2, 2, 2)), np.zeros(4)
    video[1, 0, 1], audio[2] = 1.0, 0.5  # later half, upper right; third quarter
    dark = Clip(np.zeros((4, 8, 8, 3), np.uint8), np.zeros((400, 1), np.int16))
    picture = attention.picture(Look('', '', None, None, video, audio), dark)
    yellow = (picture[..., 0] > 250) & (picture[..., 2] < 50)
    frames = yellow[:120].reshape(2, 60, 4, 2, 60).mean(axis=(1, 4))  # y, frame, x
    assert np.argwhere(frames).tolist() == [[0, 2, 1], [0, 3, 1]]
    assert frames[0, 2, 1] == 1
    ground = picture[-1, ::120, 0].astype(int)  # of the audio, half as bright
    assert ground.argmax() == 2 and 100 < ground[2] < 200
