"""Random weights and inputs of tiny models."""

import jax
import numpy as np
from helpers.golden_files import random_parameters
from helpers.tiny import TINY

from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig

# Sizes that all differ, and fill tiles and chunks unevenly.
UNEVEN = TINY | dict(
    height=16,
    width=12,
    samples_per_frame=96,
    video_bands=3,
    audio_bands=4,
    decoder_channels=12,
    label_query_channels=30,
)


def make_params(config: AutoencoderConfig, seed: int = 0) -> dict:
    """Random weights with biases and scales that count, as in the golden files."""
    return random_parameters(jax.eval_shape(Autoencoder(config).init, jax.random.key(0)), seed)


def make_inputs(config: AutoencoderConfig, batch: int = 2) -> dict:
    """A batch of clips, the last one's label hidden."""
    rng = np.random.default_rng(0)
    return dict(
        video=rng.random((batch, *config.video_shape, 3), dtype=np.float32),
        audio=2 * rng.random((batch, config.samples, 1), dtype=np.float32) - 1,
        label=rng.integers(0, config.classes, batch),
        label_masked=np.arange(batch) == batch - 1,
    )
