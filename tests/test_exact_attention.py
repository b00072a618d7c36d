"""The exact path computes what the plain one computes: outputs, gradients, in pieces, on a mesh."""

import dataclasses
import os
import re
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from golden_files import random_parameter
from perceiver_io import exact_decoder, exact_encoder
from perceiver_io.attention import attend, attend_by_head
from perceiver_io.autoencoder import Autoencoder, AutoencoderConfig

TINY = dict(frames=2, height=16, width=12, samples_per_frame=96, classes=5, video_bands=3,
            audio_bands=4, latents=6, latent_channels=16, self_attends=1, self_attention_heads=2,
            decoder_channels=12, label_query_channels=30)

CASES = {
    'all': {},
    'heads': dict(cross_attention_heads=4, decoder_heads=2, self_attention_heads=4,
                  input_padding=7),
    'blocks_and_widening': dict(blocks=2, self_attends=2, cross_attention_widening=2),
    'video': dict(modalities=('video',), gelu='exact'),
    'audio': dict(modalities=('audio',)),
    'video_and_label': dict(modalities=('video', 'label'), video_patch=(2, 2, 4)),
}


def make_params(config: AutoencoderConfig, seed: int = 0) -> dict:
    """Random weights with biases and scales that count, as in the golden files."""
    shapes = jax.eval_shape(Autoencoder(config).init, jax.random.key(0))
    return {module: {name: random_parameter(f'{module}/{name}', leaf.shape, seed)
                     for name, leaf in leaves.items()}
            for module, leaves in shapes.items()}


def make_inputs(config: AutoencoderConfig, batch: int = 2) -> dict:
    """A batch of clips, the last one's label hidden."""
    rng = np.random.default_rng(0)
    return dict(
        video=rng.random((batch, *config.video_shape, 3), dtype=np.float32),
        audio=2 * rng.random((batch, config.samples, 1), dtype=np.float32) - 1,
        label=rng.integers(0, config.classes, batch),
        label_masked=np.arange(batch) == batch - 1)


def answers_and_gradients(config, params, inputs, video_index=None, audio_index=None):
    """Outputs, and the gradient of a random inner product with them for every parameter."""
    model = Autoencoder(config)

    def inner_product(params):
        latents = model.encode(params, **inputs)
        output = model.decode(
            params, latents, video_index=video_index, audio_index=audio_index)
        rng = np.random.default_rng(1)
        return sum(jnp.vdot(leaf, rng.standard_normal(leaf.shape, np.float32))
                   for leaf in jax.tree.leaves(output)), output

    (_, output), gradients = jax.jit(jax.value_and_grad(inner_product, has_aux=True))(params)
    return output, gradients


def assert_same(config, params, inputs, output_error=2e-5, gradient_error=1e-4, **indices):
    """Exact against plain: absolute errors of outputs, relative ones of every gradient."""
    results = [
        answers_and_gradients(dataclasses.replace(config, attention=attention), params, inputs,
                              **indices) for attention in ('plain', 'exact')]
    (plain, plain_gradients), (exact, gradients) = results
    for modality in config.modalities:
        np.testing.assert_allclose(getattr(exact, modality), getattr(plain, modality), rtol=0,
                                   atol=output_error, err_msg=modality)
    largest = max(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(plain_gradients))
    for module, leaves in plain_gradients.items():
        for name, leaf in leaves.items():
            error = float(jnp.linalg.norm(gradients[module][name] - leaf))
            limit = gradient_error * float(jnp.linalg.norm(leaf)) + 1e-7 * largest
            assert error <= limit, f'{module}/{name}: {error} > {limit}'


@pytest.fixture(params=CASES, ids=str)
def case(request, monkeypatch) -> AutoencoderConfig:
    """A config whose tokens fill several tiles."""
    monkeypatch.setattr(exact_encoder, 'TILE', 9)
    return AutoencoderConfig(**TINY | CASES[request.param])


def test_few_queries(case):
    assert_same(case, make_params(case), make_inputs(case),
                video_index=np.array([0, 7, 100, 383]), audio_index=np.array([11, 3, 5]))


def test_many_queries(case, monkeypatch):
    """By tables and folded layers, in chunks that do not come out even; the gradient too."""
    monkeypatch.setattr(exact_decoder, 'FEW', 2)
    config = dataclasses.replace(case, decode_memory=20_000)
    assert_same(config, make_params(config), make_inputs(config),
                video_index=np.arange(5, 384, 11) if case.decoder_heads > 1 else None)


def test_a_label_for_every_example_or_none():
    config = AutoencoderConfig(**TINY)
    params, inputs = make_params(config), make_inputs(config)
    index = dict(video_index=np.array([1]), audio_index=np.array([1]))
    assert_same(config, params, inputs | dict(label_masked=None), **index)
    assert_same(config, params, inputs | dict(label=None, label_masked=None), **index)
