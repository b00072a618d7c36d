"""The model's interface."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny import TINY

import perceiver_io
from perceiver_io.models import modalities
from perceiver_io.models.autoencoder import _encode
from perceiver_io.network.position_encoding import LINSPACE, SUBSAMPLED


@pytest.fixture(scope='module')
def tiny():
    """A model with random parameters, none of them at its initial value, and a batch of two."""
    model = perceiver_io.Autoencoder(perceiver_io.AutoencoderConfig(**TINY))
    leaves, tree = jax.tree.flatten(model.init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = tree.unflatten(
        [leaf + 0.2 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys)]
    )
    rng = np.random.default_rng(0)
    clip = {
        'video': rng.random((2, 2, 8, 8, 3), np.float32),
        'audio': rng.random((2, 128, 1), np.float32) * 2 - 1,
    }
    return model, params, clip


def test_patches():
    video = jnp.arange(2 * 2 * 4 * 1).reshape(1, 2, 2, 4, 1)  # t=2 h=2 w=4
    patches = modalities.patch_video(video, (1, 2, 2))
    assert patches[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert modalities.patch_audio(jnp.arange(6).reshape(1, 6, 1), 3).tolist() == [
        [[0, 1, 2], [3, 4, 5]]
    ]


def test_no_label_is_a_hidden_label(tiny):
    model, params, clip = tiny
    label, masked = jnp.array([1, 2]), jnp.array([True, False])
    hidden = model.encode(params, **clip)
    given = model.encode(params, **clip, label=label)
    mixed = model.encode(params, **clip, label=label, label_masked=masked)
    assert hidden.shape == (2, 6, 16)
    np.testing.assert_allclose(mixed[0], hidden[0], atol=1e-5)
    np.testing.assert_allclose(mixed[1], given[1], atol=1e-5)
    assert float(abs(given - hidden).max()) > 1e-3


@pytest.mark.parametrize('kind', [LINSPACE, SUBSAMPLED])
def test_reconstruct_is_encode_and_decode(tiny, kind):
    model, params, clip = tiny
    latents = model.encode(params, **clip)
    parts = model.decode(params, latents, grid=kind)
    whole = model.reconstruct(params, **clip, grid=kind)
    np.testing.assert_allclose(whole.video, parts.video.reshape(2, 2, 8, 8, 3), atol=2e-5)
    np.testing.assert_allclose(whole.audio, parts.audio.reshape(2, 128, 1), atol=2e-5)
    np.testing.assert_allclose(whole.label, parts.label, atol=2e-5)


def test_a_query_is_answered_the_same_alone(tiny):
    model, params, clip = tiny
    latents = model.encode(params, **clip)
    everything = model.decode(params, latents, grid=SUBSAMPLED)
    some = model.decode(params, latents, video_index=jnp.array([77, 3]), audio_index=jnp.array([2]))
    np.testing.assert_allclose(some.video, everything.video[:, [77, 3]], atol=2e-5)
    np.testing.assert_allclose(some.audio, everything.audio[:, [2]], atol=2e-5)


def test_the_grids_differ_and_undivided_means_linspace(tiny):
    model, params, clip = tiny
    latents = model.encode(params, **clip)
    undivided = model.decode(params, latents)
    np.testing.assert_array_equal(
        undivided.video, model.decode(params, latents, grid=LINSPACE).video
    )
    shifted = model.decode(params, latents, grid=SUBSAMPLED).video
    assert float(abs(undivided.video - shifted).max()) > 1e-3


@pytest.mark.parametrize(
    'modalities',
    [
        ('video',),
        ('audio', 'label'),
        pytest.param(('audio',), marks=pytest.mark.slow),
        pytest.param(('video', 'label'), marks=pytest.mark.slow),
        pytest.param(('video', 'audio'), marks=pytest.mark.slow),
    ],
)
def test_subsets_of_the_modalities(tiny, modalities):
    model = perceiver_io.Autoencoder(perceiver_io.AutoencoderConfig(**TINY, modalities=modalities))
    params = model.init(jax.random.key(0))
    clip = {name: value for name, value in tiny[2].items() if name in modalities}
    output = model.reconstruct(params, **clip)
    for name in ('video', 'audio', 'label'):
        value = getattr(output, name)
        assert (value is not None) == (name in modalities)
        assert value is None or np.isfinite(value).all()


def test_bfloat16_is_near_float32(tiny):
    model, params, clip = tiny
    low = perceiver_io.Autoencoder(perceiver_io.AutoencoderConfig(**TINY, dtype='bfloat16'))
    ours, theirs = low.reconstruct(params, **clip), model.reconstruct(params, **clip)
    for one, two in zip(ours, theirs):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, two, atol=0.1 * float(jnp.std(two)) + 0.02)
    expected = low.decode_clip(params, model.encode(params, **clip))  # float32 latents
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-3), ours, expected)
    other = low.decode_clip(params, low.encode(params, **clip))
    assert float(abs(ours.video - other.video).max()) > 1e-3


def test_dropout_is_for_training_only(tiny):
    _, params, clip = tiny
    model = perceiver_io.Autoencoder(perceiver_io.AutoencoderConfig(**TINY, dropout=0.5))
    calm = model.encode(params, **clip)
    np.testing.assert_array_equal(calm, model.encode(params, **clip))
    wild = [model.encode(params, **clip, rng=jax.random.key(seed)) for seed in (0, 1)]
    assert float(abs(wild[0] - wild[1]).max()) > 0.1
    assert float(abs(wild[0] - calm).max()) > 0.1


def test_equal_configs_are_one_model(tiny):
    """They are equal, share compiled programs, and survive a pickle."""
    model, params, clip = tiny
    model.encode(params, **clip)
    compiled = _encode._cache_size()
    for other in (
        perceiver_io.Autoencoder(perceiver_io.AutoencoderConfig(**TINY)),
        pickle.loads(pickle.dumps(model)),
    ):
        assert other == model and hash(other) == hash(model) and other is not model
        other.encode(params, **clip)
    assert _encode._cache_size() == compiled
    different = perceiver_io.Autoencoder(perceiver_io.AutoencoderConfig(**TINY, gelu='exact'))
    different.encode(params, **clip)
    assert different != model and _encode._cache_size() == compiled + 1


def test_repr_tells_the_sizes(tiny):
    model, params, _ = tiny
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert repr(model) == (
        'Autoencoder(video 2 x 8 x 8 x 3, audio 128 samples, label of 5 classes; '
        f'6 latents of 16 channels; {count:,} parameters; compression 6.58x)'
    )


def test_a_model_without_a_label_has_no_batch_of_labels():
    """Its program has video as its only input."""
    config = perceiver_io.AutoencoderConfig(**TINY, modalities=('video',))
    model = perceiver_io.Autoencoder(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    video = jax.ShapeDtypeStruct((3, 2, 8, 8, 3), jnp.float32)
    program = jax.make_jaxpr(lambda params, video: model.encode(params, video=video))(shapes, video)
    assert not [var for var in program.jaxpr.eqns if 'int32[3]' in str(var.outvars)]
    assert program.out_avals[0].shape == (3, 6, 16)
