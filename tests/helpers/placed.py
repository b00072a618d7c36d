"""Small models for the placed start, and short trainings from it."""

import jax
import jax.numpy as jnp
import numpy as np
from helpers.fresh import fresh_parameters

from perceiver_io.core.clip import Clip
from perceiver_io.distributed import sharding
from perceiver_io.metrics.losses import LossWeights
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training import steps
from perceiver_io.training.initialization.placed import placed_parameters
from perceiver_io.training.initialization.placement import Placement
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer

SMALL = dict(
    frames=4,
    height=32,
    width=32,
    samples_per_frame=128,
    classes=5,
    video_bands=6,
    audio_bands=12,
    latents=24,
    latent_channels=64,
    self_attends=1,
    self_attention_heads=2,
    decoder_channels=16,
    label_query_channels=16,
)
SUBSETS = [
    ('video', 'audio', 'label'),
    ('video', 'audio'),
    ('video', 'label'),
    ('audio', 'label'),
    ('video',),
    ('audio',),
]


def make_config(**sizes) -> AutoencoderConfig:
    """SMALL with other sizes, and the least padding that the heads divide."""
    sizes = SMALL | sizes
    heads = sizes.get('cross_attention_heads', 1)
    bare = AutoencoderConfig(**sizes | {'cross_attention_heads': 1, 'input_padding': 4})
    return AutoencoderConfig(**sizes, input_padding=4 - bare.token_channels % -heads)


def with_heads(heads: int, **sizes) -> AutoencoderConfig:
    return make_config(cross_attention_heads=heads, decoder_heads=heads, **sizes)


def smooth_clip(config: AutoencoderConfig, batch: int) -> Clip:
    """Waves over space and time, and tones."""
    rng = np.random.default_rng(0)
    axes = [np.linspace(0, 1, size) for size in config.video_shape]
    t, y, x = np.meshgrid(*axes, indexing='ij')
    a, b, c, phase = rng.uniform(0.5, 1.5, (4, batch, 1, 1, 1))
    video = 0.5 + 0.4 * np.sin(2 * np.pi * (a * t + b * y + c * x + phase))
    s = np.linspace(0, 1, config.samples)
    tone = rng.uniform(1, 4, (batch, 1))
    audio = 0.3 * np.sin(2 * np.pi * tone * s)
    return Clip(
        video=(255 * np.stack([video, video**2, 1 - video], axis=-1)).astype(np.uint8),
        audio=(32767 * audio[..., None]).astype(np.int16),
        label=rng.integers(0, config.classes, batch).astype(np.int32),
    )


def train(
    config: AutoencoderConfig,
    optimizer: OptimizerConfig,
    count: int,
    placement: Placement,
    loss: LossWeights,
    sampling: steps.SamplingConfig,
):
    """The metrics of each of `count` steps from the placed start, and the parameters after them.

    All steps see the same two clips.
    """
    model, mesh = Autoencoder(config), sharding.make_mesh(sharding.MeshConfig())
    update = make_optimizer(optimizer, count)
    start = placed_parameters(fresh_parameters(config), config, placement, seed=0)
    params = jax.device_put(start, sharding.replicated(mesh))
    state = steps.TrainState(jnp.zeros((), jnp.int32), params, jax.jit(update.init)(params))
    step = steps.make_train_step(model, update, loss, sampling, seed=0, mesh=mesh)
    clip = smooth_clip(config, 2)
    history = []
    for _ in range(count):
        state, metrics = step(state, sharding.put_clip(clip, mesh))
        history.append(metrics)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    return jax.device_get((history, state.params))


def check_it_learns(config: AutoencoderConfig, optimizer: str) -> None:
    """Every loss is finite and falls in 60 steps of 'muon' or 'adamw'."""
    rates = {
        'muon': dict(learning_rate=0.01, adam_learning_rate=2e-3, b1=0.95),
        'adamw': dict(learning_rate=2e-3),
    }
    history, _ = train(
        config,
        OptimizerConfig(optimizer, flat=1.0, clip_norm=1.0, **rates[optimizer]),
        60,
        Placement(),
        LossWeights(4.0, 3.0, 0.1),
        steps.SamplingConfig(video_queries=128, audio_queries=32, label_masked=0.0),
    )
    for name in (name for name in history[0] if name.startswith('loss')):
        values = [metrics[name] for metrics in history]
        assert np.isfinite(values).all()
        assert np.mean(values[-5:]) < np.mean(values[:5]), (name, values)
