"""Muon: which parameters it updates, and how."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.fresh import LATENTS

from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.core.errors import UserError
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer, muon_or_adamw

READOUTS = ('audio_postprocessor', 'projection_postprocessor', 'classification_postprocessor')
LAYER = 'encoder/~/self_attention/attention/linear'
READOUT = f'{READOUTS[2]}/linear'

# A few modules of a model, by their names in it.
PARAMS = {
    LATENTS: {'pos_embs': (6, 8)},
    LAYER: {'w': (8, 8), 'b': (8,)},
    READOUT: {'w': (8, 5), 'b': (5,)},
}


def random_tree(seed: int, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    return {
        module: {
            name: jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)
            for name, shape in leaves.items()
        }
        for module, leaves in PARAMS.items()
    }


def update(config: OptimizerConfig, count=1, scale=1.0, new=()):
    """The updates of the last of `count` steps of ten, and the state."""
    optimizer, params = make_optimizer(config, 10, new), random_tree(99)
    state, step = jax.jit(optimizer.init)(params), jax.jit(optimizer.update)
    for seed in range(count):
        updates, state = step(random_tree(seed, scale), state, params)
    return updates, state


def names(tree, chosen) -> set[str]:
    return {f'{m}/{n}' for m, leaves in tree.items() for n, leaf in leaves.items() if chosen(leaf)}


def test_muon_misses_no_array():
    """All arrays of a whole model have a label: of linear layers the matrices have Muon's."""
    shapes = jax.eval_shape(Autoencoder(AutoencoderConfig()).init, jax.random.key(0))
    labels = muon_or_adamw(shapes)
    assert jax.tree.structure(labels) == jax.tree.structure(shapes)
    assert names(labels, lambda label: label not in ('muon', 'adamw')) == set()
    by_muon = names(labels, lambda label: label == 'muon')
    linear = {f'{m}/w' for m in shapes if 'w' in shapes[m] and not m.startswith(READOUTS)}
    assert by_muon == linear and len(by_muon) == 61
    assert all(shapes[name[:-2]]['w'].ndim == 2 for name in by_muon)

    updates, _ = update(OptimizerConfig('muon', flat=1.0))
    assert names(updates, lambda leaf: not jnp.isfinite(leaf).all() or (leaf == 0).any()) == set()


def test_muon_updates_are_orthogonal_and_adamw_has_its_own_rate():
    updates, _ = update(OptimizerConfig('muon', 0.02, 3e-3, flat=1.0, b1=0.95, clip_norm=0.0))
    values = np.linalg.svd(updates[LAYER]['w'] / 0.02, compute_uv=False)
    assert 0.6 < values.min() and values.max() < 1.3  # five steps of Newton and Schulz
    for module, name in ((LATENTS, 'pos_embs'), (READOUT, 'w')):
        size = np.abs(updates[module][name])
        assert 3e-3 < np.median(size) < 6e-3, module  # 1.47 times the rate: Nesterov's momentum
    same, _ = update(OptimizerConfig('muon', 0.02, flat=1.0, clip_norm=0.0))
    assert 0.02 < np.median(np.abs(same[LATENTS]['pos_embs'])) < 0.04


def test_schedule_clipping_and_decay_of_muon():
    warm = OptimizerConfig('muon', 0.1, warmup=0.5, flat=0.0)
    assert names(update(warm)[0], lambda leaf: (leaf != 0).any()) == set()  # the rate is 0
    assert names(update(warm, count=2)[0], lambda leaf: (leaf == 0).all()) == set()

    clipped = OptimizerConfig('muon', 0.1, flat=1.0, clip_norm=1e-3)
    one, ten = update(clipped, scale=1.0), update(clipped, scale=10.0)
    chex.assert_trees_all_close(one, ten, atol=1e-4)

    with_decay, _ = update(OptimizerConfig('muon', 0.1, flat=1.0, weight_decay=0.5, clip_norm=0.0))
    without, _ = update(OptimizerConfig('muon', 0.1, flat=1.0, clip_norm=0.0))
    difference = jax.tree.map(lambda a, b: a - b, with_decay, without)
    assert names(difference, lambda leaf: (abs(leaf) > 1e-6).any()) == {
        f'{LAYER}/w',
        f'{READOUT}/w',
    }


def test_muon_waits_for_the_head():
    new = {f'{READOUT}/w', f'{READOUT}/b'}
    config = OptimizerConfig('muon', flat=1.0, head_first=2)
    for count in (1, 2, 3):
        updates, _ = update(config, count, new=new)
        assert (names(updates, lambda leaf: (leaf != 0).any()) == new) == (count <= 2)


def test_muon_goes_on_from_a_checkpoint(tmp_path):
    config, params = OptimizerConfig('muon', flat=1.0), random_tree(99)
    _, state = update(config, count=2)
    optimizer = make_optimizer(config, 10)
    store = CheckpointStore(tmp_path)
    store.save(2, params, {'step': jnp.int32(2), 'optimizer': state})
    store.wait()
    zeros = jax.tree.map(jnp.zeros_like, state)
    restored, training = store.restore(params, {'step': jnp.int32(0), 'optimizer': zeros})
    store.close()
    chex.assert_trees_all_equal(training['optimizer'], state)
    step, gradients = jax.jit(optimizer.update), random_tree(7)
    chex.assert_trees_all_equal(
        optax.apply_updates(restored, step(gradients, training['optimizer'], restored)[0]),
        optax.apply_updates(params, step(gradients, state, params)[0]),
    )


def test_unknown_names_and_rates_are_named():
    with pytest.raises(UserError, match="'muon'"):
        OptimizerConfig('sgd')
    with pytest.raises(UserError, match='adam_learning_rate'):
        OptimizerConfig('muon', adam_learning_rate=-1.0)
