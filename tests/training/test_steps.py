"""The training step: what it looks at, and that parts, meshes and resumes change nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.tiny import TINY, random_clip

from perceiver_io.core.clip import Output
from perceiver_io.distributed import sharding
from perceiver_io.metrics import losses
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.training import steps
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer, make_schedule

EVERYTHING = steps.SamplingConfig(video_queries=128, audio_queries=8, label_masked=0.0)


def train(config, clip, count):
    """`count` steps on one batch: the last state and the metrics of every step."""
    model, mesh = Autoencoder(config), sharding.make_mesh(sharding.MeshConfig())
    optimizer = make_optimizer(OptimizerConfig('adamw', learning_rate=3e-3, flat=1.0), count)
    state = steps.init_state(model, optimizer, 0, mesh)
    step = steps.make_train_step(
        model,
        optimizer,
        losses.LossWeights(1.0, 1.0, 1.0),
        EVERYTHING,
        seed=0,
        mesh=mesh,
    )
    history = []
    for _ in range(count):
        state, metrics = step(state, sharding.put_clip(clip, mesh))
        history.append(jax.device_get(metrics))
    return state, history


@pytest.mark.parametrize(
    'modalities',
    [
        ('video', 'audio', 'label'),
        pytest.param(('video',), marks=pytest.mark.slow),
        pytest.param(('audio',), marks=pytest.mark.slow),
        pytest.param(('video', 'label'), marks=pytest.mark.slow),
    ],
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


@pytest.mark.slow
def test_bfloat16_trains_with_float32_parameters():
    config = AutoencoderConfig(**TINY, modalities=('audio', 'label'), dtype='bfloat16')
    state, history = train(config, random_clip(config, 2), 60)
    assert history[-1]['loss'] < 0.9 * history[0]['loss']
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype('float32')}


def test_accumulation_is_the_same_update():
    config = AutoencoderConfig(**TINY, modalities=('audio', 'label'))
    clip = random_clip(config, 4)
    model, mesh = Autoencoder(config), sharding.make_mesh(sharding.MeshConfig())
    optimizer, weights = optax.sgd(0.1), losses.LossWeights(1.0, 1.0, 1.0)
    first = steps.init_state(model, optimizer, 0, mesh)
    before = jax.device_get(first.params)
    results = []
    for parts in (1, 2):
        step = steps.make_train_step(
            model, optimizer, weights, EVERYTHING, seed=0, mesh=mesh, accumulate=parts
        )
        state = jax.tree.map(jnp.copy, first)  # a step reuses the memory of its arguments
        for _ in range(2):
            state, _ = step(state, sharding.put_clip(clip, mesh))
        results.append(state.params)
    whole, parts = results
    chex.assert_trees_all_close(whole, parts, atol=2e-6)
    moved = jax.tree.map(lambda one, two: float(abs(one - two).max()), before, whole)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_a_bad_step_changes_nothing_but_the_step():
    """Infinite audio makes the loss infinite."""
    config = AutoencoderConfig(**TINY, modalities=('audio',))
    clip = random_clip(config, 2)
    clip = clip._replace(audio=(clip.audio / 32768).astype(np.float32))
    bad = clip._replace(audio=np.full(clip.audio.shape, np.inf, np.float32))
    model, mesh = Autoencoder(config), sharding.make_mesh(sharding.MeshConfig())
    optimizer = make_optimizer(OptimizerConfig('adamw', learning_rate=3e-3, flat=1.0), 1)
    step = steps.make_train_step(
        model, optimizer, losses.LossWeights(1.0, 1.0, 1.0), EVERYTHING, seed=0, mesh=mesh
    )
    before, _ = step(steps.init_state(model, optimizer, 0, mesh), sharding.put_clip(clip, mesh))
    kept = jax.device_get(before)
    after, metrics = step(before, sharding.put_clip(bad, mesh))
    assert metrics['bad_step'] == 1 and not np.isfinite(metrics['loss'])
    assert int(after.step) == 2
    chex.assert_trees_all_equal(jax.device_get(after)[1:], kept[1:])
    after, metrics = step(after, sharding.put_clip(clip, mesh))
    assert metrics['bad_step'] == 0
    assert any(
        (new != old).any()
        for new, old in zip(
            jax.tree.leaves(jax.device_get(after.params)), jax.tree.leaves(kept.params)
        )
    )


def test_all_labels_hidden_or_none():
    config = AutoencoderConfig(**TINY, modalities=('video', 'label'))
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
