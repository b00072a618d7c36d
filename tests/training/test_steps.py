"""The training step: what it looks at, and that parts, meshes and resumes change nothing."""

import os
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_io.core.clip import Clip, Output
from perceiver_io.distributed import sharding
from perceiver_io.metrics import losses
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.training import steps
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer, make_schedule

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
EVERYTHING = steps.SamplingConfig(video_queries=128, audio_queries=8, label_masked=0.0)


def random_clip(config: AutoencoderConfig, batch: int) -> Clip:
    rng = np.random.default_rng(0)
    return Clip(
        video=rng.integers(0, 256, (batch, *config.video_shape, 3), np.uint8),
        audio=rng.integers(-20_000, 20_000, (batch, config.samples, 1)).astype(np.int16),
        label=rng.integers(0, config.classes, batch).astype(np.int32),
    )


def train(config, clip, count, *, optimizer=None, accumulate=1):
    """`count` steps on one batch: the last state and the metrics of every step."""
    model, mesh = Autoencoder(config), sharding.make_mesh(sharding.MeshConfig())
    optimizer = optimizer or make_optimizer(
        OptimizerConfig('adamw', learning_rate=3e-3, flat=1.0), count
    )
    state = steps.init_state(model, optimizer, 0, mesh)
    step = steps.make_train_step(
        model,
        optimizer,
        losses.LossWeights(1.0, 1.0, 1.0),
        EVERYTHING,
        seed=0,
        mesh=mesh,
        accumulate=accumulate,
    )
    history = []
    for _ in range(count):
        state, metrics = step(state, sharding.put_clip(clip, mesh))
        history.append(jax.device_get(metrics))
    return state, history


@pytest.mark.parametrize(
    'modalities', [('video', 'audio', 'label'), ('video',), ('audio',), ('video', 'label')]
)
def test_every_loss_falls(modalities):
    config = AutoencoderConfig(**TINY, modalities=modalities)
    clip = random_clip(config, 2)
    state, history = train(config, clip, 60)
    terms = [name for name in history[0] if name.startswith('loss/')]
    assert sorted(terms) == sorted(f'loss/{name}' for name in modalities)
    for name in terms:
        assert history[-1][name] < 0.9 * history[0][name], name
    assert int(state.step) == 60


def test_bfloat16_trains_with_float32_parameters():
    config = AutoencoderConfig(**TINY, dtype='bfloat16')
    state, history = train(config, random_clip(config, 2), 60)
    assert history[-1]['loss'] < 0.9 * history[0]['loss']
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype('float32')}


def test_accumulation_is_the_same_update():
    config = AutoencoderConfig(**TINY)
    clip = random_clip(config, 4)
    before, _ = train(config, clip, 0)
    whole, _ = train(config, clip, 2, optimizer=optax.sgd(0.1))
    parts, _ = train(config, clip, 2, optimizer=optax.sgd(0.1), accumulate=2)
    chex.assert_trees_all_close(whole.params, parts.params, atol=2e-6)
    moved = jax.tree.map(lambda one, two: float(abs(one - two).max()), before.params, whole.params)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_all_labels_hidden_or_none():
    config = AutoencoderConfig(**TINY)
    model = Autoencoder(config)
    params = model.init(jax.random.key(0))
    clip = random_clip(config, 4)
    other = clip._replace(label=(clip.label + 1) % config.classes)

    def video_loss(share, clip):
        sampling = steps.SamplingConfig(128, 8, share)
        loss = jax.jit(steps.make_loss(model, losses.LossWeights(), sampling), static_argnums=2)
        return float(loss(params, clip, 0, jnp.int32(0))[1]['loss/video'])

    assert video_loss(1.0, clip) == video_loss(1.0, other)
    assert video_loss(0.0, clip) != video_loss(0.0, other)


def test_labels_are_hidden_for_the_share_asked_for():
    hidden = [jax.random.uniform(steps.stream(0, 'label', step), (64,)) < 0.5 for step in range(16)]
    share = float(jnp.stack(hidden).mean())
    assert 0.45 < share < 0.55
    assert not bool((hidden[0] == hidden[1]).all())


def test_streams_have_names_and_steps():
    draws = {
        float(jax.random.uniform(steps.stream(seed, name, step)))
        for seed in (0, 1)
        for name in ('video', 'audio')
        for step in (0, 1)
    }
    assert len(draws) == 8


def test_unknown_labels_do_not_count():
    logits = jnp.array([[2.0, 0.0], [0.0, 5.0]])
    alone = losses.loss_terms(Output(label=logits[:1]), Output(label=jnp.array([0])))
    both = losses.loss_terms(Output(label=logits), Output(label=jnp.array([0, -1])))
    assert float(alone['label']) == pytest.approx(np.log1p(np.exp(-2.0)), rel=1e-6)
    assert float(both['label']) == pytest.approx(float(alone['label']), rel=1e-6)


def test_schedule():
    schedule = make_schedule(OptimizerConfig(learning_rate=2.0, warmup=0.1, flat=0.4), 100)
    values = [float(schedule(step)) for step in (0, 5, 10, 49, 75, 100)]
    assert values == pytest.approx([0, 1, 2, 2, 1, 0], abs=1e-6)
    assert float(make_schedule(OptimizerConfig(learning_rate=2.0), 100)(0)) == 2.0


def test_a_mesh_changes_nothing():
    """Eight devices, as data x context, against one: in a process of its own, for the flag."""
    code = textwrap.dedent("""
        import jax, numpy as np, optax
        from perceiver_io import losses, sharding, steps
        from perceiver_io.autoencoder import Autoencoder, AutoencoderConfig
        from test_steps import TINY, random_clip

        config = AutoencoderConfig(**TINY | {'frames': 4})
        results = []
        for data, context in ((1, 1), (2, 4)):
            mesh = sharding.make_mesh(sharding.MeshConfig(data, context),
                                      jax.devices()[:data * context])
            model = Autoencoder(config)
            optimizer = optax.sgd(0.1)  # an adaptive one would blow up rounding
            state = steps.init_state(model, optimizer, 0, mesh)
            step = steps.make_train_step(
                model, optimizer, losses.LossWeights(), steps.SamplingConfig(64, 16, 0.5), seed=0,
                mesh=mesh, accumulate=2)
            for _ in range(2):
                state, metrics = step(state, sharding.put_clip(random_clip(config, 16), mesh))
            results.append(jax.device_get((state.params, metrics)))
        for other in results[1:]:
            for one, two in zip(jax.tree.leaves(results[0]), jax.tree.leaves(other)):
                np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-5)
        print('same on', len(jax.devices()), 'devices')
    """)
    environment = os.environ | {
        'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, text=True, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'same on 8 devices' in done.stdout
