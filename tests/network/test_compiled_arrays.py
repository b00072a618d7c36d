"""Sizes of the arrays in compiled programs: the exact computation makes none of full width."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.models import UNEVEN

from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.network.factored import decoder


def largest_array(function, *args) -> int:
    """Elements of the largest array anywhere in a compiled program, its arguments aside."""
    text = jax.jit(function).lower(*args).compile().as_text()
    arguments = {leaf.size for leaf in jax.tree.leaves(args)}
    sizes = {
        int(np.prod([int(size) for size in shape.split(',')]))
        for shape in re.findall(r'\bf32\[([\d,]+)\]', text)
    }
    return max(sizes - arguments)


@pytest.mark.parametrize('attention', ['plain', 'exact'])
def test_no_array_of_all_tokens_or_queries_at_full_width(attention):
    """In the compiled programs of a training step and of a reconstruction; plain has them."""
    config = AutoencoderConfig(
        **UNEVEN
        | dict(
            frames=4,
            height=64,
            width=64,
            classes=230,
            label_query_channels=300,
            self_attends=1,
            video_bands=6,
        ),
        attention=attention,
        decode_memory=2**20,
    )
    tokens, pixels = config.video_token_shape, config.video_shape
    model = Autoencoder(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    video = np.zeros((1, *pixels, 3), np.float32)
    audio = np.zeros((1, config.samples, 1), np.float32)

    def loss(params, video, audio):
        latents = model.encode(params, video=video, audio=audio)
        output = model.decode(params, latents, video_index=jnp.arange(8), audio_index=jnp.arange(8))
        return sum(leaf.sum() for leaf in jax.tree.leaves(output))

    at_full_width = np.prod(tokens) * config.token_channels
    step = largest_array(jax.value_and_grad(loss), params, video, audio)
    whole = largest_array(
        lambda params, video, audio: model.reconstruct(params, video=video, audio=audio),
        params,
        video,
        audio,
    )
    if attention == 'plain':
        assert step >= at_full_width and whole >= at_full_width
    else:
        assert step < at_full_width / 2 and whole < at_full_width / 2
    assert whole < np.prod(pixels) * config.query_channels / 2


def test_no_array_of_all_logits_of_a_single_axis(monkeypatch):
    """Audio queries lie on one axis: their logits, like those of pixels, exist in chunks only."""
    monkeypatch.setattr(decoder, 'FEW', 16)
    sizes = dict(modalities=('audio', 'label'), frames=64, latents=64, decode_memory=2**15)
    config = AutoencoderConfig(**UNEVEN | sizes)
    model = Autoencoder(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    latents = np.zeros((1, config.latents, config.latent_channels), np.float32)
    assert largest_array(model.decode_clip, params, latents) < config.audio_patches * config.latents
