"""The exact computation equals the plain one: outputs, gradients, in chunks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.models import UNEVEN, make_inputs, make_params

from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.network.factored import decoder as exact_decoder
from perceiver_io.network.factored import encoder as exact_encoder
from perceiver_io.network.factored import tiled_softmax
from perceiver_io.network.factored.inner_products import centre
from perceiver_io.network.layers import layer_norm
from perceiver_io.network.position_encoding import FourierPositionEncoding
from perceiver_io.network.tokens import Tokens

FEW_QUERIES = {
    'all': {},
    'heads_blocks_and_widening': dict(
        cross_attention_heads=4,
        decoder_heads=2,
        self_attention_heads=4,
        input_padding=7,
        blocks=2,
        self_attends=1,
        cross_attention_widening=2,
    ),
    'audio': dict(modalities=('audio',)),
}
MANY_QUERIES = {
    'all': {},
    'heads': dict(decoder_heads=2, modalities=('video', 'audio')),
    'video': dict(modalities=('video',), gelu='exact'),
    'video_and_label': dict(modalities=('video', 'label'), video_patch=(2, 2, 4)),
}


def answers_and_gradients(config, params, inputs, video_index=None, audio_index=None):
    """Outputs, and the gradient of a random inner product with them for every parameter."""
    model = Autoencoder(config)

    def inner_product(params):
        latents = model.encode(params, **inputs)
        output = model.decode(params, latents, video_index=video_index, audio_index=audio_index)
        rng = np.random.default_rng(1)
        return sum(
            jnp.vdot(leaf, rng.standard_normal(leaf.shape, np.float32))
            for leaf in jax.tree.leaves(output)
        ), output

    (_, output), gradients = jax.jit(jax.value_and_grad(inner_product, has_aux=True))(params)
    return output, gradients


def assert_same_answers(config, params, inputs, **indices):
    """Exact against plain, without a gradient: absolute errors of outputs."""

    def answer(attention):
        model = Autoencoder(dataclasses.replace(config, attention=attention))
        return jax.jit(
            lambda params: model.decode(params, model.encode(params, **inputs), **indices)
        )(params)

    jax.tree.map(
        lambda plain, exact: np.testing.assert_allclose(exact, plain, rtol=0, atol=2e-5),
        answer('plain'),
        answer('exact'),
    )


def assert_same(config, params, inputs, output_error=2e-5, gradient_error=1e-4, **indices):
    """Exact against plain: absolute errors of outputs, relative ones of every gradient."""
    results = [
        answers_and_gradients(
            dataclasses.replace(config, attention=attention), params, inputs, **indices
        )
        for attention in ('plain', 'exact')
    ]
    (plain, plain_gradients), (exact, gradients) = results
    for modality in config.modalities:
        np.testing.assert_allclose(
            getattr(exact, modality),
            getattr(plain, modality),
            rtol=0,
            atol=output_error,
            err_msg=modality,
        )
    largest = max(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(plain_gradients))
    for module, leaves in plain_gradients.items():
        for name, leaf in leaves.items():
            error = float(jnp.linalg.norm(gradients[module][name] - leaf))
            limit = gradient_error * float(jnp.linalg.norm(leaf)) + 1e-7 * largest
            assert error <= limit, f'{module}/{name}: {error} > {limit}'


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that the tokens of these clips fill several tiles."""
    monkeypatch.setattr(tiled_softmax, 'TILE', 9)


@pytest.mark.parametrize(
    'case',
    [pytest.param('all', marks=pytest.mark.slow), 'heads_blocks_and_widening', 'audio'],
)
def test_few_queries(case):
    config = AutoencoderConfig(**UNEVEN | FEW_QUERIES[case])
    assert_same(
        config,
        make_params(config),
        make_inputs(config),
        video_index=np.array([0, 7, 100, 383]),
        audio_index=np.array([11, 3, 5]),
    )


@pytest.mark.parametrize('case', MANY_QUERIES)
def test_many_queries(case, monkeypatch):
    """By tables and folded layers, in chunks that do not come out even."""
    monkeypatch.setattr(exact_decoder, 'FEW', 2)
    config = AutoencoderConfig(**UNEVEN | MANY_QUERIES[case], decode_memory=20_000)
    assert_same_answers(
        config,
        make_params(config),
        make_inputs(config),
        video_index=np.arange(5, 384, 11) if case == 'heads' else None,
    )


def test_gradient_of_many_queries(monkeypatch):
    monkeypatch.setattr(exact_decoder, 'FEW', 2)
    config = AutoencoderConfig(**UNEVEN, modalities=('video',))
    assert_same(config, make_params(config), make_inputs(config), video_index=np.arange(40))


def test_no_label_is_given():
    config = AutoencoderConfig(**UNEVEN)
    inputs = make_inputs(config) | dict(label=None, label_masked=None)
    assert_same_answers(
        config, make_params(config), inputs, video_index=np.array([1]), audio_index=np.array([1])
    )


def test_trained_like_weights(monkeypatch):
    """Large logits (standard deviation 20), attention outputs that all but vanish, lost rank."""
    monkeypatch.setattr(exact_decoder, 'FEW', 2)
    config = AutoencoderConfig(**UNEVEN)
    params = make_params(config)
    encoder = 'encoder/~/cross_attention'
    decoder = 'multimodal_decoder/~/basic_decoder/cross_attention'
    params[f'{encoder}/attention/linear']['w'] *= 20
    params[f'{decoder}/attention/linear']['w'] *= 20
    params['multimodal_preprocessor/label_mask_token']['pos_embs'] *= 1e-3
    params['encoder/~/trainable_position_encoding']['pos_embs'] *= 1e-3
    out = params[f'{decoder}/attention/linear_3']
    out['w'][:] = 2e-3 * out['w'][:, :3] @ out['w'][:3]
    out['b'] *= 1e-3
    index = dict(video_index=np.arange(0, 384, 7), audio_index=np.arange(12))
    assert_same_answers(config, params, make_inputs(config), **index)
    assert_same(config, params, make_inputs(config), **index)


def test_masked_tokens_of_any_modality():
    """The model masks labels only; the encoder's attention can mask any structured tokens."""
    position = FourierPositionEncoding((4, 3), 2, (4, 3))
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    width = 3 + position.channels + 5
    leaves = dict(padding=normal(5), mask_token=normal(width), rows=normal(7, width))
    data, masked = normal(3, 12, 3), np.array([False, True, False])

    def dense(leaves):
        x = make_tokens(leaves).dense(3, jnp.float32)
        x = layer_norm(x, (np.ones(width), np.zeros(width)))
        weights = jax.nn.softmax(jnp.einsum('rd,bmd->brm', leaves['rows'], x))
        return jnp.einsum('brm,bmd->brd', weights, x)

    def exact(leaves):
        rows = centre(leaves['rows'])
        means = exact_encoder.mean_token(rows, [make_tokens(leaves)], 3, jnp.float32)
        return centre(means)

    def make_tokens(leaves):
        return Tokens(
            data=data,
            position=position,
            grid='linspace',
            padding=leaves['padding'],
            masked=masked,
            mask_token=leaves['mask_token'],
        )

    def gradient(f):
        def inner_product(leaves):
            means = f(leaves)
            return jnp.vdot(means, target), means

        return jax.jit(jax.grad(inner_product, has_aux=True))(leaves)

    target = normal(3, 7, width)
    (plain_gradients, plain), (gradients, means) = gradient(dense), gradient(exact)
    np.testing.assert_allclose(means, plain, atol=1e-5)
    for name in leaves:
        np.testing.assert_allclose(gradients[name], plain_gradients[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('attention', ['plain', 'exact'])
def test_reconstruct_in_chunks_is_the_whole(attention, monkeypatch):
    monkeypatch.setattr(exact_decoder, 'FEW', 2)
    config = AutoencoderConfig(**UNEVEN, attention=attention)
    params, inputs = make_params(config), make_inputs(config)
    del inputs['label_masked']
    outputs = [
        Autoencoder(dataclasses.replace(config, decode_memory=memory)).reconstruct(params, **inputs)
        for memory in (2**30, 30_000)
    ]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=3e-6), *outputs)


def test_remat_changes_nothing():
    config = AutoencoderConfig(**UNEVEN, modalities=('audio',))
    results = [
        answers_and_gradients(
            dataclasses.replace(config, remat=remat),
            make_params(config),
            make_inputs(config),
            audio_index=np.arange(3),
        )
        for remat in (False, True)
    ]
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5), *results
    )


def test_both_paths_draw_the_same_parameters():
    plain, exact = (
        Autoencoder(AutoencoderConfig(**UNEVEN, modalities=('audio',), attention=attention)).init(
            jax.random.key(3)
        )
        for attention in ('plain', 'exact')
    )
    jax.tree.map(np.testing.assert_array_equal, plain, exact)


def test_bfloat16_is_near_float32():
    config = AutoencoderConfig(**UNEVEN, modalities=('video', 'label'))
    params, inputs = make_params(config), make_inputs(config)
    (full, gradients), (half, half_gradients) = (
        answers_and_gradients(
            dataclasses.replace(config, dtype=dtype), params, inputs, video_index=np.arange(20)
        )
        for dtype in ('float32', 'bfloat16')
    )
    for one, other in zip(jax.tree.leaves(full), jax.tree.leaves(half)):
        assert other.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=0.05 * np.abs(one).max())
    norms = [np.linalg.norm(leaf) for leaf in jax.tree.leaves(gradients)]
    for norm, one, other in zip(norms, jax.tree.leaves(gradients), jax.tree.leaves(half_gradients)):
        assert other.dtype == jnp.float32
        assert np.linalg.norm(one - other) <= 0.1 * norm + 1e-3 * max(norms)


def test_rejects_what_cannot_be():
    with pytest.raises(ValueError, match="attention='fast' must be 'exact' or 'plain'"):
        AutoencoderConfig(attention='fast')
    with pytest.raises(ValueError, match="attention_dropout=0.1 needs attention='plain'"):
        AutoencoderConfig(attention_dropout=0.1)
    AutoencoderConfig(attention_dropout=0.1, attention='plain')
