"""The paper's setting, unshrunk, as shapes: what would not fit together shows here, in seconds."""

import dataclasses
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from perceiver_io.core.clip import Clip
from perceiver_io.distributed import sharding
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.training import steps
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.optimizer import make_optimizer

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'


def load_config(name: str) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def experiment_of(name: str, **overrides) -> Experiment:
    config = load_config(name)
    config.data.path = 'somewhere'
    config.update_from_flattened_dict(overrides)
    return Experiment.from_dict(config.to_dict())


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize(
    'latents, compression', [(784, 88), pytest.param(392, 176, marks=pytest.mark.slow), (196, 352)]
)
def test_kinetics700(latents, compression):
    experiment = experiment_of('kinetics700', **{'model.latents': latents})
    assert experiment.model == Autoencoder(experiment.model).config
    model = Autoencoder(experiment.model)
    mesh = sharding.make_mesh(experiment.mesh)
    optimizer = make_optimizer(experiment.optimizer, experiment.training.steps)
    batch = experiment.training.batch_size

    params = jax.eval_shape(model.init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 19_858_855 - (784 - latents) * 512
    assert len(jax.tree.leaves(params)) == 183

    state = jax.eval_shape(lambda: steps.init_state(model, optimizer, 0, mesh))
    clip = Clip(
        struct(batch, 16, 224, 224, 3, dtype=jnp.uint8),
        struct(batch, 30_720, 1, dtype=jnp.int16),
        struct(batch, dtype=jnp.int32),
    )
    train_step = steps.make_train_step(
        model, optimizer, experiment.loss, experiment.sampling, seed=0, mesh=mesh
    )
    after, metrics = jax.eval_shape(train_step, state, clip)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert set(metrics) >= {'loss', 'loss/video', 'loss/audio', 'loss/label', 'video_psnr'}

    output = jax.eval_shape(
        model.reconstruct, params, video=struct(2, 16, 224, 224, 3), audio=struct(2, 30_720, 1)
    )
    assert output.video.shape == (2, 16, 224, 224, 3)
    assert output.audio.shape == (2, 30_720, 1)
    assert output.label.shape == (2, 700)
    assert experiment.model.compression == pytest.approx(compression)


def test_the_default_config_is_the_paper_s():
    experiment = experiment_of('kinetics700')
    assert experiment.model == Experiment().model
    assert experiment.loss == Experiment().loss


@pytest.mark.parametrize('name', ['kinetics700', 'demo', 'finetune'])
def test_configs_have_every_key(name):
    """Only a key that is in the file can be set on the command line."""
    config = load_config(name).to_dict()
    for group, keys in dataclasses.asdict(Experiment()).items():
        assert set(config[group]) == set(keys), group


def test_demo_is_a_smaller_model_of_the_same_kind():
    demo = experiment_of('demo', **{'model.classes': 6})
    params = jax.eval_shape(Autoencoder(demo.model).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 2_000_000
    assert demo.model.modalities == ('video', 'audio', 'label')
    assert demo.data.source == 'rendered'


def test_small():
    experiment = experiment_of('small', **{'model.classes': 5})
    spec = experiment.clip_spec
    assert (spec.frames, spec.height, spec.width, spec.sample_rate) == (16, 112, 112, 48_000)
    params = jax.eval_shape(Autoencoder(experiment.model).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 10e6  # half of the released one's
