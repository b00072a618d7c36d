"""The model's interface, its parts in small numbers, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver_io
from perceiver_io.models import modalities
from perceiver_io.network.position_encoding import (
    LINSPACE,
    SUBSAMPLED,
    TORCH,
    XLA,
    FourierPositionEncoding,
    grid,
)

TINY = dict(
    frames=2,
    height=8,
    width=8,
    samples_per_frame=32,
    classes=5,
    video_bands=3,
    audio_bands=4,
    latents=6,
    latent_channels=16,
    self_attends=2,
    self_attention_heads=2,
    decoder_channels=16,
    label_query_channels=16,
)


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
        'audio': rng.random((2, 64, 1), np.float32) * 2 - 1,
    }
    return model, params, clip


def test_grids():
    np.testing.assert_allclose(grid(LINSPACE, 5), [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(grid(SUBSAMPLED, 4), [-1, -0.5, 0, 0.5])
    np.testing.assert_allclose(grid(LINSPACE, 5, TORCH), [-1, -0.5, 0, 0.5, 1])
    with pytest.raises(ValueError, match='linspace'):
        grid('lin', 4)


def test_order_of_the_fourier_channels():
    encoding = FourierPositionEncoding((2, 3), bands=2, max_resolution=(4, 8))
    assert encoding.channels == 10
    y, x = 1.0, 0.0  # the point (1, 1) of 2 x 3
    angles = [1 * y, 2 * y, 1 * x, 4 * x]  # bands 1 and 2 of y, 1 and 4 of x
    expected = [y, x, *np.sin(np.pi * np.array(angles)), *np.cos(np.pi * np.array(angles))]
    np.testing.assert_allclose(encoding.dense(LINSPACE)[4], expected, atol=1e-6)


def test_the_highest_audio_band_is_rounded_as_in_the_original():
    """sin(pi * 15360 x) in float32: these are the bits that XLA makes of the original's code."""
    table = FourierPositionEncoding((1920,), 192, (30_720,)).dense(SUBSAMPLED)
    position = np.float32(-1) + np.float32(2 * 844) * (np.float32(1) / np.float32(1920))
    assert table[844, 0] == position
    argument = np.float32(np.pi) * (position * np.float32(15_360))
    assert table[844, 192] == np.float32(np.sin(np.float64(argument)))
    assert abs(table[844, 192] - np.sin(np.pi * (-1 + 2 * 844 / 1920) * 15_360)) > 1e-4


def test_the_rounding_of_torch():
    """It counts from both ends and divides; with torch, test_transformers.py compares every bit."""
    points = grid(LINSPACE, 1920, TORCH)
    np.testing.assert_array_equal(points, -points[::-1])
    assert (grid(LINSPACE, 1920) != -grid(LINSPACE, 1920)[::-1]).any()
    np.testing.assert_array_equal(
        grid(SUBSAMPLED, 1920, TORCH),
        np.float32(-1) + np.arange(0, 3840, 2).astype(np.float32) / np.float32(1920),
    )
    ours, theirs = (
        perceiver_io.AutoencoderConfig(position_rounding=rounding).audio_position
        for rounding in (XLA, TORCH)
    )
    assert 1e-3 < abs(ours.dense(LINSPACE) - theirs.dense(LINSPACE)).max() < 2e-2


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
    np.testing.assert_allclose(whole.audio, parts.audio.reshape(2, 64, 1), atol=2e-5)
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
    [('video',), ('audio',), ('video', 'label'), ('audio', 'label'), ('video', 'audio')],
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


@pytest.mark.parametrize(
    'values, message',
    [
        ({'height': 225}, r'height=225 must be divisible by patch=4'),
        ({'audio_patch': 7}, 'audio_patch=7'),
        ({'self_attention_heads': 7}, 'latent_channels=512 must be divisible by'),
        ({'cross_attention_heads': 3}, 'token_channels=704 must be divisible by'),
        ({'modalities': ('label',)}, 'with video or audio'),
        ({'modalities': ('video', 'depth')}, 'must be some of'),
        ({'latents': 0}, 'latents=0 must be at least 1'),
        ({'gelu': 'relu'}, "gelu='relu'"),
        ({'position_rounding': 'tpu'}, "position_rounding='tpu'"),
        ({'dtype': 'float16'}, "dtype='float16'"),
        ({'dropout': 1.0}, 'dropout=1.0'),
    ],
)
def test_config_errors(values, message):
    with pytest.raises(ValueError, match=message):
        perceiver_io.AutoencoderConfig(**values)


def test_shape_errors(tiny):
    model, params, clip = tiny
    with pytest.raises(ValueError, match=r'video \(2, 2, 8, 4, 3\) must be .*\(2, 8, 8, 3\)\]'):
        model.encode(params, **clip | {'video': clip['video'][:, :, :, :4]})
    with pytest.raises(ValueError, match='this model has audio'):
        model.encode(params, video=clip['video'])
    with pytest.raises(ValueError, match='different batch sizes'):
        model.encode(params, **clip | {'audio': clip['audio'][:1]})
    with pytest.raises(ValueError, match='latents'):
        model.decode(params, jnp.zeros((1, 5, 16)))
