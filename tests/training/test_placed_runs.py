"""Runs with the placed start: which have it, what they say about it, and that they learn."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import fresh
from helpers.placed import SMALL, make_config, smooth_clip, train

from perceiver_io.checkpoints import loading, writing
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.configs import kinetics700, kinetics700_fast
from perceiver_io.core.errors import UserError
from perceiver_io.distributed import sharding
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training import run_folder, steps
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.fit_config import fit_config
from perceiver_io.training.initialization.placed import placed_parameters
from perceiver_io.training.initialization.placement import Placement
from perceiver_io.training.start import Start

TINY = dict(
    frames=2,
    height=16,
    width=16,
    samples_per_frame=64,
    latents=12,
    latent_channels=32,
    video_bands=4,
)


def test_the_placed_start_changes_what_it_says_and_is_deterministic():
    config = make_config(**TINY)
    original = fresh.fresh_parameters(config)
    placed, again, other = (
        placed_parameters(original, config, Placement(), seed) for seed in (3, 3, 4)
    )
    chex.assert_trees_all_equal(placed, again)
    assert (other[fresh.LATENTS]['pos_embs'] != placed[fresh.LATENTS]['pos_embs']).any()
    changed = {
        f'{module}/{name}'
        for module, leaves in placed.items()
        for name, leaf in leaves.items()
        if (leaf != original[module][name]).any()
    }
    assert changed == {
        f'{fresh.LATENTS}/pos_embs',
        *(
            f'{module}/attention/{layer}/w'
            for module in (fresh.ENCODER, fresh.DECODER)
            for layer in ('linear', 'linear_1')
        ),
        *(
            f'{module}/{layer}/w'
            for module in (fresh.ENCODER, 'encoder/~/self_attention')
            for layer in ('attention/linear_3', 'mlp/linear_1')
        ),
        'audio_postprocessor/linear/w',
        'projection_postprocessor/linear/w',
        'projection_postprocessor/linear/b',
        'classification_postprocessor/linear/w',
    }


def test_only_fresh_runs_are_placed():
    placed = Experiment.from_dict(
        {'model': SMALL | {'initialization': 'placed'}, 'initialization': {'spread': 0.5}}
    )
    assert Start(placed).placement == Placement(spread=0.5)
    assert Start(placed, goes_on=True).placement is None
    checkpoint = Checkpoint(placed.model, {})
    assert Start(placed, source=checkpoint).placement is None
    assert Start(Experiment.from_dict({'model': SMALL})).placement is None


def test_a_run_says_how_it_began(tmp_path):
    values = {
        'model': SMALL | {'initialization': 'placed'},
        'initialization': {'video_grid': [1, 4, 4]},
        'optimizer': {'name': 'muon', 'adam_learning_rate': 2e-3},
    }
    experiment = Experiment.from_dict(values)
    run_folder.start_run(tmp_path, experiment, tuple('abcde'))
    again = run_folder.read_experiment(tmp_path)
    assert again == experiment
    assert again.initialization.video_grid == (1, 4, 4)
    assert again.optimizer.name == 'muon'
    with pytest.raises(UserError, match='initialization'):
        original = dataclasses.replace(
            experiment, model=dataclasses.replace(experiment.model, initialization='original')
        )
        run_folder.check_run(tmp_path, original)
    run_folder.check_run(tmp_path, original, goes_on=False)  # a start that saved nothing

    written = json.loads((tmp_path / 'config.json').read_text())
    del written['initialization'], written['model']['initialization']
    del written['optimizer']['adam_learning_rate']
    old = Experiment.from_dict(written)
    assert old.model.initialization == 'original'
    assert old.initialization == Placement()


@pytest.mark.parametrize('wanted', ['original', 'placed'])
def test_a_fine_tuned_model_keeps_what_it_began_with(wanted):
    source = AutoencoderConfig(**SMALL, initialization='placed')
    assert fit_config({'initialization': wanted, 'classes': 3}, source).initialization == 'placed'
    with pytest.raises(UserError, match='initialization'):
        AutoencoderConfig(initialization='other')


def test_a_placed_model_is_saved_and_decoded_like_any_other(tmp_path):
    of_transformers = dict(video_bands=32, audio_bands=192)
    config = make_config(**TINY | of_transformers, initialization='placed')
    params = placed_parameters(fresh.fresh_parameters(config), config, Placement(), 0)
    checkpoint = Checkpoint(config, params, tuple('abcde'))
    writing.write_pystate(tmp_path / 'x.pystate', checkpoint)
    loaded = loading.load_checkpoint(tmp_path / 'x.pystate')
    assert loaded.config == config
    chex.assert_trees_all_equal(loaded.params, params)

    writing.write_transformers(tmp_path / 'model.safetensors', checkpoint)
    other = loading.load_checkpoint(tmp_path / 'model.safetensors')
    clip = smooth_clip(config, 1)
    outputs = [
        Autoencoder(model).reconstruct(values, video=clip.video, audio=clip.audio)
        for model, values in (
            (dataclasses.replace(config, attention='plain', initialization='original'), params),
            (other.config, other.params),
        )
    ]
    chex.assert_trees_all_close(*outputs, atol=1e-4)


def fast_config() -> dict:
    return kinetics700_fast.get_config().to_dict()


def test_the_fast_config_is_the_papers_model_with_another_start():
    fast, paper = fast_config(), kinetics700.get_config().to_dict()
    Experiment.from_dict(fast)
    assert fast['model'] == paper['model'] | {'initialization': 'placed'}
    assert (fast['data'], fast['sampling']) == (paper['data'], paper['sampling'])


@pytest.mark.slow
def test_the_fast_config_trains():
    values = fast_config()
    values['model'] |= SMALL
    experiment = Experiment.from_dict(values)
    history, _ = train(
        experiment.model,
        experiment.optimizer,
        2,
        experiment.initialization,
        experiment.loss,
        experiment.sampling,
    )
    assert all(np.isfinite(metrics['loss']) for metrics in history)


def test_a_fresh_state_is_placed():
    """What `init_state` returns, against the originals that it drew."""
    config, mesh = make_config(**TINY), sharding.make_mesh(sharding.MeshConfig())
    model = _Drawn(config, fresh.fresh_parameters(config))
    state = steps.init_state(model, optax.sgd(1.0), 5, mesh, Placement(spread=0.5))
    expected = placed_parameters(model.values, config, Placement(spread=0.5), 5)
    chex.assert_trees_all_equal(jax.device_get(state.params), expected)


@dataclasses.dataclass(frozen=True, eq=False)
class _Drawn:
    """A model whose fresh parameters are given."""

    config: AutoencoderConfig
    values: dict

    def init(self, rng):
        return jax.tree.map(jnp.asarray, self.values)
