"""The written-out shapes are those of the model, and sizes are read back from them."""

import dataclasses

import jax
import pytest

from perceiver_io.checkpoints import sizes
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig

# No two of these are the same, so that none can stand for another.
SMALL = dict(
    frames=3,
    height=16,
    width=24,
    samples_per_frame=1600,
    classes=7,
    latents=6,
    latent_channels=16,
    blocks=2,
    self_attends=3,
    self_attention_heads=4,
    self_attention_widening=2,
    cross_attention_widening=3,
    video_bands=5,
    audio_bands=9,
    video_patch=(3, 2, 4),
    decoder_channels=18,
    label_query_channels=20,
    audio_patch=4,
    input_padding=1,
    query_padding=8,
)


def traced(config):
    return jax.tree.map(
        lambda leaf: leaf.shape, dict(jax.eval_shape(Autoencoder(config).init, jax.random.key(0)))
    )


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'modalities': ('video',)},
        {'modalities': ('audio', 'label')},
        {'modalities': ('label', 'video')},
        {'modalities': ('video', 'audio')},
        {'input_padding': 0, 'query_padding': 0},
        {'classes': 300},
        {'label_query_channels': 300},
        {'audio_bands': 60, 'attention': 'plain'},
        {'self_attends': 1, 'self_attention_widening': 1},
    ],
    ids=str,
)
def test_shapes_are_those_of_the_model(changes):
    config = AutoencoderConfig(**SMALL | changes)
    shapes = sizes.parameter_shapes(config)
    assert shapes == traced(config)
    params = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, 'float32'),
        shapes,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
    sizes.check_shapes(params, config)
    found = sizes.read_sizes(params)
    untold = dataclasses.asdict(AutoencoderConfig(**SMALL))
    again = AutoencoderConfig(**untold | changes | found)
    assert sizes.parameter_shapes(again) == shapes
    for name, value in found.items():
        if name != 'modalities':
            assert value == getattr(config, name), name


def test_the_released_model():
    shapes = sizes.parameter_shapes(AutoencoderConfig())
    assert shapes == traced(AutoencoderConfig())
    assert sum(len(leaves) for leaves in shapes.values()) == 183
    assert shapes['multimodal_preprocessor/image_padding'] == {'pos_embs': (1, 461)}
