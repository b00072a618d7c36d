"""The smallest model with everything in it, and clips for it."""

import numpy as np

from perceiver_io.core.clip import Clip
from perceiver_io.models.config import AutoencoderConfig

# configs/demo.py in small, as flags of train.py.
TINY_DEMO = {
    'initialization.video_grid': '(1,2,2)',
    'model.frames': 4,
    'model.height': 16,
    'model.width': 16,
    'model.audio_patch': 192,
    'model.latents': 8,
    'model.latent_channels': 16,
    'model.self_attends': 1,
    'model.decoder_channels': 16,
    'model.label_query_channels': 16,
    'model.video_bands': 3,
    'model.audio_bands': 4,
    'data.render_train': 12,
    'data.render_val': 6,
    'data.render_seconds': 0.4,
    'data.flip': True,
    'data.colour_jitter': 0.3,
    'training.steps': 24,
    'training.batch_size': 4,
    'training.checkpoint_every': 5,
    'training.eval_every': 12,
    'training.log_every': 4,
    'training.eval_batch_size': 4,
}

TINY = dict(
    frames=2,
    height=8,
    width=8,
    samples_per_frame=64,
    classes=5,
    video_bands=4,
    audio_bands=6,
    latents=6,
    latent_channels=16,
    self_attends=1,
    self_attention_heads=2,
    decoder_channels=16,
    label_query_channels=16,
)


def random_clip(config: AutoencoderConfig, batch: int) -> Clip:
    rng = np.random.default_rng(0)
    return Clip(
        video=rng.integers(0, 256, (batch, *config.video_shape, 3), np.uint8),
        audio=rng.integers(-20_000, 20_000, (batch, config.samples, 1)).astype(np.int16),
        label=rng.integers(0, config.classes, batch).astype(np.int32),
    )
