"""Small checkpoints of random parameters, in memory."""

from typing import Any

import jax
import numpy as np

import perceiver_io
from perceiver_io import Checkpoint

# A model that the transformers library can represent: its bands, paddings and patches are constants
# in the code there. All other sizes differ from one another, so that none can stand for another.
SIZES = dict(
    frames=3,
    height=16,
    width=24,
    samples_per_frame=1600,
    classes=7,
    latents=6,
    latent_channels=16,
    blocks=2,
    self_attends=2,
    self_attention_heads=4,
    cross_attention_heads=2,
    self_attention_widening=2,
    cross_attention_widening=3,
    video_max_resolution=(3, 5, 5),
    decoder_channels=18,
    label_query_channels=20,
    audio_patch=3,
    gelu='exact',
)
CLASSES = tuple('abcde')


def random_params(config: perceiver_io.AutoencoderConfig, seed: int = 0) -> Any:
    """Parameters of which no two are alike."""
    shapes = jax.eval_shape(perceiver_io.Autoencoder(config).init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)


def make_checkpoint(**sizes: Any) -> Checkpoint:
    """A checkpoint of a small model; `sizes` override SIZES."""
    config = perceiver_io.AutoencoderConfig(**SIZES | sizes)
    return Checkpoint(config, random_params(config), CLASSES, frame_rate=5, step=12)
