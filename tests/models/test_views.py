"""Hidden modalities and kept latents: what the model then sees, at training and afterwards."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.models import UNEVEN, make_inputs, make_params
from helpers.tiny import random_clip

from perceiver_io.core.errors import UserError
from perceiver_io.metrics import losses
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.training import steps
from perceiver_io.training.experiment import Experiment

CONFIG = AutoencoderConfig(**UNEVEN)


@pytest.fixture(scope='module')
def params():
    return make_params(CONFIG)


def test_what_is_hidden_changes_nothing_and_both_ways_of_computing_agree(params):
    inputs = make_inputs(CONFIG)
    other = inputs | {'audio': -0.5 * inputs['audio']}
    found = {}
    for attention in ('exact', 'plain'):
        model = Autoencoder(dataclasses.replace(CONFIG, attention=attention), ('audio',))
        found[attention] = model.encode(params, **inputs)
        assert (found[attention] == model.encode(params, **other)).all()
    np.testing.assert_allclose(found['exact'], found['plain'], atol=1e-5)
    seen = Autoencoder(CONFIG).encode(params, **inputs)
    assert np.abs(found['exact'] - seen).max() > 1e-3

    # In a batch, each example for itself.
    some = Autoencoder(CONFIG).encode(params, **inputs, audio_masked=np.array([True, False]))
    np.testing.assert_allclose(some[0], found['exact'][0], atol=1e-6)
    np.testing.assert_allclose(some[1], seen[1], atol=1e-6)
    with pytest.raises(UserError, match=r'audio_masked must be a bool array \(2,\)'):
        Autoencoder(CONFIG).encode(params, **inputs, audio_masked=np.array([1, 0]))


def test_kept_latents_are_the_first_and_decode_alone(params):
    inputs = make_inputs(CONFIG)
    model, part = Autoencoder(CONFIG), Autoencoder(CONFIG, kept=2)
    latents = part.encode(params, **inputs)
    assert (latents == model.encode(params, **inputs)[:, :2]).all()
    index = dict(video_index=jnp.arange(5), audio_index=jnp.arange(3))
    small = Autoencoder(dataclasses.replace(CONFIG, latents=2))
    for one, other in zip(
        part.decode(params, latents, **index), small.decode(params, latents, **index)
    ):
        assert (one == other).all()
    with pytest.raises(UserError, match='latents'):
        model.decode(params, latents, **index)


@pytest.mark.parametrize('hidden, kept', [(('label',), 0), (('video', 'audio'), 0), ((), 7)])
def test_views_that_leave_nothing_are_refused(hidden, kept):
    with pytest.raises(UserError, match='cannot be'):
        Autoencoder(CONFIG, hidden, kept)


def test_shares_of_hidden_examples():
    sampling = steps.SamplingConfig(video_masked=0.25, audio_masked=0.5)
    hidden = [sampling.hidden(0, jnp.int32(step), 64) for step in range(16)]
    video = np.stack([each['video_masked'] for each in hidden])
    audio = np.stack([each['audio_masked'] for each in hidden])
    assert not (video & audio).any()
    assert 0.2 < video.mean() < 0.3 and 0.45 < audio.mean() < 0.55
    assert steps.SamplingConfig().hidden(0, jnp.int32(0), 64) == {}
    with pytest.raises(UserError, match='add up'):
        steps.SamplingConfig(video_masked=0.6, audio_masked=0.6)
    with pytest.raises(UserError, match='need a model with video and audio'):
        Experiment(
            model=AutoencoderConfig(modalities=('video',)),
            sampling=steps.SamplingConfig(video_masked=0.5),
        )


@pytest.mark.slow
def test_the_loss_sees_what_is_left(params):
    """Hidden audio does not reach the video; kept latents are those drawn."""
    clip = random_clip(CONFIG, 2)
    other = clip._replace(audio=clip.audio // 2)

    def terms(clip, step=0, **sampling):
        sampling = steps.SamplingConfig(16, 4, 0.0, **sampling)
        loss = jax.jit(
            steps.make_loss(Autoencoder(CONFIG), losses.LossWeights(), sampling), static_argnums=2
        )
        return jax.device_get(loss(params, clip, 0, jnp.int32(step))[1])

    assert terms(clip, audio_masked=1.0)['loss/video'] == pytest.approx(
        terms(other, audio_masked=1.0)['loss/video'], rel=1e-6
    )
    assert terms(clip)['loss/video'] != pytest.approx(terms(other)['loss/video'], rel=1e-6)
    drawn = terms(clip, step=1, latents_kept=(2, 6))['loss/video']
    both = [terms(clip, step=1, latents_kept=(n,))['loss/video'] for n in (2, 6)]
    assert both[1] == pytest.approx(terms(clip, step=1)['loss/video'], rel=1e-6)
    assert both[0] != pytest.approx(both[1], rel=1e-3)
    assert any(drawn == pytest.approx(value, rel=1e-6) for value in both)
