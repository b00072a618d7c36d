"""The attention weights to look at are those that the plain computation uses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.models import UNEVEN, make_inputs, make_params

from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.network import plain

HEADS = dict(cross_attention_heads=4, decoder_heads=2, input_padding=7)


@pytest.fixture
def recorded(monkeypatch):
    """The weights of every attention that the plain computation makes, mean over the heads."""
    weights = []

    def attend(q, k, v, rate=0.0):
        logits = jnp.einsum('bqhd,bmhd->bhqm', q, k) / math.sqrt(q.shape[-1])
        shares = jax.nn.softmax(logits, axis=-1)
        if not isinstance(shares, jax.core.Tracer):  # `init` is always compiled
            weights.append(np.asarray(shares.mean(axis=1)))
        return jnp.einsum('bhqm,bmhd->bqhd', shares, v)

    monkeypatch.setattr(plain, 'attend', attend)
    return weights


@pytest.mark.parametrize('hidden', [(), ('video',)])
def test_they_are_those_of_the_plain_computation(recorded, hidden):
    config = AutoencoderConfig(**UNEVEN | HEADS, attention='plain')
    model, params = Autoencoder(config, hidden=hidden), make_params(config)
    clip = {name: make_inputs(config)[name] for name in ('video', 'audio')}
    index = dict(video_index=jnp.array([5, 300]), audio_index=jnp.array([7, 0, 2]))
    with jax.disable_jit():
        latents = model.encode(params, **clip)
        first = recorded[0]
        model.decode(params, latents, **index)
        last = recorded[-1]
    some = jnp.array([4, 1])
    read = model.encoder_attention(params, some, **clip)
    tokens = [read[name] for name in ('audio', 'video', 'label')]  # the order of the model
    np.testing.assert_allclose(np.concatenate(tokens, axis=-1), first[:, some], atol=2e-6)
    asked = model.decoder_attention(params, latents, **index)
    queries = [asked[name] for name in ('audio', 'video', 'label')]
    np.testing.assert_allclose(np.concatenate(queries, axis=1), last, atol=2e-6)
    assert first.std() > 1e-3 and last.std() > 1e-3  # they are no uniform weights


def test_a_model_of_one_modality():
    config = AutoencoderConfig(**UNEVEN, modalities=('audio',))
    model, params = Autoencoder(config), make_params(config)
    read = model.encoder_attention(
        params, jnp.arange(config.latents), audio=make_inputs(config)['audio']
    )
    assert read.keys() == {'audio'}
    np.testing.assert_allclose(read['audio'].sum(axis=-1), 1, rtol=1e-5)
