"""Runs that start from a checkpoint: what is kept, what is new, and that the rest is the same."""

import csv
import json
import pathlib
import runpy
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.runs import RATE, evaluate_run, make_run

from perceiver_io.checkpoints import loading
from perceiver_io.core.errors import UserError
from perceiver_io.data import rendered
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.training import loop, run_folder, start
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.fit_config import fit_config
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer
from perceiver_io.training.take_over import TakeOver

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = {'classification_postprocessor/linear/w', 'classification_postprocessor/linear/b'}
LABEL_PADDING = 'multimodal_preprocessor/label_padding/pos_embs'
FULL = AutoencoderConfig(self_attends=1)  # one of its eight layers, as they are all alike
STEPS = 30


def shapes(config):
    return jax.eval_shape(Autoencoder(config).init, jax.random.key(0))


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    return tmp_path_factory.mktemp('finetuning')


@pytest.fixture(scope='module')
def source(work):
    """A run whose tokens are as wide as they are because of its 700 classes."""
    folder = make_run(work / 'source', classes=700)
    config = run_folder.read_experiment(folder).model
    assert config.token_channels == 704
    return folder


@pytest.fixture(scope='module')
def folder(work):
    """Clips of five classes, of no matter which files."""
    root = rendered.render_folder(
        work / 'clips', train_clips=12, val_clips=6, size=32, seconds=1.0, progress=False
    )
    rows = [
        row
        for row in csv.DictReader((root / 'labels.csv').read_text().splitlines())
        if row['label'] != 'star'
    ]
    with open(root / 'labels.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, ['file', 'label', 'split'])
        writer.writeheader()
        writer.writerows(rows)
    return root


def values(source, folder, **groups):
    """configs/finetune.py in small."""
    config = runpy.run_path(str(ROOT / 'configs' / 'finetune.py'))['get_config']().to_dict()
    groups |= {
        'data': {'path': str(folder), 'workers': 0},
        'sampling': {'video_queries': 64, 'audio_queries': 16},
        'optimizer': {'learning_rate': 1e-2, 'head_first': 10},
        'training': {
            'steps': STEPS,
            'batch_size': 10,
            'log_every': 1,
            'eval_every': 0,
            'eval_batch_size': 5,
            'checkpoint_every': 15,
        },
    }
    return (
        config
        | {'init_from': str(source)}
        | {group: config[group] | keys for group, keys in groups.items()}
    )


def train(config, workdir):
    loop.train(start.decide(config, workdir), workdir)


@pytest.fixture(scope='module')
def seen(work):
    """The same without audio, to spare time."""
    return make_run(work / 'seen', classes=700, modalities=('video', 'label'))


@pytest.fixture(scope='module')
def finetuned(seen, folder, work):
    workdir = work / 'finetuned'
    train(values(seen, folder), workdir)
    return workdir


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


# The config.


def test_fewer_classes_keep_the_width_of_a_token():
    source = FULL
    config = fit_config({'classes': 5, 'latents': None}, source)
    assert (config.classes, config.input_padding, config.query_padding) == (5, 303, 2)
    assert (config.token_channels, config.query_channels) == (704, 1026)
    ours, theirs = shapes(config), shapes(source)
    differing = {
        f'{module}/{name}'
        for module, leaves in ours.items()
        for name, leaf in leaves.items()
        if leaf.shape != theirs[module][name].shape
    }
    assert differing == HEAD | {LABEL_PADDING}
    assert config == fit_config({'classes': 5}, config)


@pytest.mark.parametrize(
    'modalities, paddings',
    [(('video',), (461, 831)), (('audio', 'label'), (4, 2)), (('audio', 'video'), (303, 641))],
)
def test_fewer_modalities_keep_it_too(modalities, paddings):
    config = fit_config({'modalities': modalities}, FULL)
    assert (config.input_padding, config.query_padding) == paddings
    ours, theirs = shapes(config), shapes(FULL)
    for module, leaves in ours.items():
        assert leaves.keys() == theirs[module].keys()
        for name, leaf in leaves.items():
            assert leaf.shape == theirs[module][name].shape, (module, name)


def test_more_classes_fit_until_the_padding_is_used_up():
    source = FULL
    assert fit_config({'classes': 704}, source).input_padding == 0
    with pytest.raises(ValueError, match='token_channels would be 705 and .* has 704'):
        fit_config({'classes': 705}, source)
    with pytest.raises(ValueError, match='token_channels would be 705 and'):
        fit_config({'classes': 701, 'input_padding': 4}, source)
    seen = fit_config({'classes': 9}, AutoencoderConfig(modalities=('video',)))
    with pytest.raises(ValueError, match='token_channels would be 401 and runs/seen has 247'):
        fit_config({'modalities': ('video', 'audio')}, seen, 'runs/seen')


def test_what_the_source_has_not_is_free():
    """A label for a model without one: its query is as wide as the others, or as is asked."""
    source = AutoencoderConfig(modalities=('video', 'audio'), self_attends=1)
    wanted = {'modalities': ('video', 'audio', 'label'), 'classes': 5, 'query_padding': 2}
    config = fit_config(wanted, source)
    assert source.query_channels == config.query_channels == 387
    assert (config.label_query_channels, config.query_padding) == (385, 2)
    ours, theirs = shapes(config), shapes(source)
    assert all(
        ours[module][name].shape == leaf.shape
        for module, leaves in theirs.items()
        for name, leaf in leaves.items()
    )
    narrow = fit_config(wanted | {'label_query_channels': 64}, source)
    assert narrow.label_query_channels == 64 and narrow.query_channels == 387
    seen = AutoencoderConfig(modalities=('video',), self_attends=1)
    heard = fit_config(
        {'modalities': ('video', 'audio'), 'audio_bands': 90, 'audio_patch': 32}, seen
    )
    assert heard.token_channels == seen.token_channels and heard.audio_bands == 90
    with pytest.raises(ValueError, match='model.audio_bands=90 .there 192.'):
        fit_config({'audio_bands': 90}, source)


def test_what_contradicts_the_source_is_named():
    wanted = {'latents': 16, 'self_attention_heads': 4, 'gelu': 'tanh', 'classes': 3}
    with pytest.raises(ValueError) as info:
        fit_config(wanted, FULL, 'runs/old')
    assert str(info.value).startswith(
        'runs/old has other parameters than model.latents=16 (there 784), '
        'model.self_attention_heads=4 (there 8): leave'
    )


def test_every_key_is_the_sources_or_may_differ():
    """A key that shapes depend on must not be free, nor a new key be forgotten."""
    source = FULL
    other = {
        'frames': 8,
        'height': 112,
        'width': 56,
        'samples_per_frame': 960,
        'dropout': 0.1,
        'attention_dropout': 0.1,
        'dtype': 'bfloat16',
        'attention': 'plain',
        'remat': True,
        'decode_memory': 1,
    }
    config = fit_config(other, source)
    assert all(getattr(config, key) == value for key, value in other.items())
    chex.assert_trees_all_equal_shapes(shapes(config), shapes(source))
    for key in (
        set(vars(source))
        - set(other)
        - {'modalities', 'classes', 'input_padding', 'query_padding', 'initialization'}
    ):
        with pytest.raises(ValueError, match=f'model.{key}='):
            fit_config({key: 'other'}, source)


def test_another_size_keeps_the_frequencies():
    source = FULL
    config = fit_config({'height': 112, 'frames': 4}, source)
    assert config.video_max_resolution == (16, 56, 56)
    assert config.audio_max_resolution == source.samples
    assert fit_config({'dropout': 0.1}, source).video_max_resolution is None
    assert config == fit_config({'height': 112, 'frames': 4}, config)


def test_wrong_settings_are_explained(source, folder, work):
    def said(config):
        with pytest.raises(ValueError) as info:
            start.decide(config, work / 'new')
        return str(info.value)

    config = values(source, folder)
    assert '--config.init_from' in said(config | {'init_from': ''})
    assert 'did you mean model.latents' in said(values(source, folder, model={'latentss': 8}))
    assert "classes='5' must be of type int" in said(values(source, folder, model={'classes': '5'}))
    assert 'latents=9 (there 8)' in said(values(source, folder, model={'latents': 9}))
    assert '/nowhere' in said(values('/nowhere', folder))
    assert 'no folder' in said(values(source, work / 'gone'))
    with pytest.raises(ValueError, match='head_first=3 is for runs that start from'):
        Experiment(optimizer=OptimizerConfig(head_first=3))
    everything_kept = values(source, folder, model={'modalities': ('video', 'audio')})
    with pytest.raises(ValueError, match='it has them all: set head_first to 0'):
        train(everything_kept, work / 'kept')


def test_none_is_what_the_source_has(source, folder, work):
    found = start.decide(values(source, folder), work / 'new')
    experiment, loaded = found.experiment, found.source
    assert experiment.data.frame_rate == RATE
    assert experiment.model == fit_config({'classes': 5}, loaded.config)
    assert experiment.model.input_padding == 704 - 75 and experiment.model.latents == 8
    given = start.decide(values(source, folder, model={'classes': 6}), work / 'new')
    assert given.experiment.model.classes == 6


# The parameters.


def zeros(config):
    """Parameters that no source has."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes(config))


def moved(one, two):
    """Names of the parameters that are not the same in both trees."""
    return {
        f'{module}/{name}'
        for module, leaves in one.items()
        for name, leaf in leaves.items()
        if not np.array_equal(leaf, two[module][name])
    }


def test_with_the_label_hidden_the_model_does_what_the_source_did(source, folder, work):
    found = start.decide(values(source, folder), work / 'new')
    experiment, loaded = found.experiment, found.source
    model = Autoencoder(experiment.model)
    taken = TakeOver.plan(experiment, loaded, ('a', 'b', 'c', 'd', 'e'))
    fresh = zeros(experiment.model)
    params = taken.parameters(fresh, loaded.params)
    assert set(taken.new) == HEAD | {LABEL_PADDING}
    assert taken.kept == len(jax.tree.leaves(params)) - 3 and not taken.left_out
    assert taken.changed == {'classes': [700, 5], 'input_padding': [4, 704 - 75]}
    assert not moved(params, fresh) & (HEAD | {LABEL_PADDING})
    assert not moved(params, loaded.params) - (HEAD | {LABEL_PADDING})
    config, rng = loaded.config, np.random.default_rng(0)
    clip = {
        'video': rng.random((2, *config.video_shape, 3), np.float32),
        'audio': rng.uniform(-1, 1, (2, config.samples, 1)).astype(np.float32),
    }
    ours = model.encode(params, **clip)
    theirs = Autoencoder(config).encode(loaded.params, **clip)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert float(abs(ours).mean()) > 0.1


def test_a_head_of_other_classes_is_new_and_the_same_classes_keep_theirs(source):
    loaded = loading.load_checkpoint(source)
    experiment = Experiment(init_from='x', model=loaded.config)
    assert set(TakeOver.plan(experiment, loaded, ('some', 'other')).new) == HEAD
    assert not TakeOver.plan(experiment, loaded, loaded.classes).new


def test_video_alone_of_a_source_with_everything(source):
    loaded = loading.load_checkpoint(source)
    config = fit_config({'modalities': ('video',)}, loaded.config)
    taken = TakeOver.plan(Experiment(init_from='x', model=config), loaded, loaded.classes)
    assert not taken.new and len(taken.left_out) == 11
    assert 'audio_postprocessor/linear/w' in taken.left_out
    assert not moved(taken.parameters(zeros(config), loaded.params), loaded.params)


@pytest.mark.parametrize('name', ['adamw', 'lamb'])
def test_the_head_moves_first_and_then_everything(name):
    params = {'old': {'w': jnp.ones((2, 2))}, 'new': {'w': jnp.ones((2, 2)), 'b': jnp.ones(2)}}
    optimizer = make_optimizer(
        OptimizerConfig(name, learning_rate=0.1, flat=1.0, weight_decay=0.1, head_first=2),
        4,
        {'new/w', 'new/b'},
    )
    state, history = optimizer.init(params), [params]
    for _ in range(4):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, history[-1])
        history.append(optax.apply_updates(history[-1], updates))
    assert [moved(one, two) for one, two in zip(history, history[1:])] == [
        {'new/w', 'new/b'}
    ] * 2 + [{'old/w', 'new/w', 'new/b'}] * 2


# The whole.


def test_it_starts_where_the_source_is_and_learns_the_new_classes(finetuned, seen, folder, work):
    lines = lines_of(finetuned)
    first = next(line for line in lines if 'eval/loss' in line)
    of_source = evaluate_run(
        seen, work / 'of_source', batch_size=5, videos=0, data={'path': str(folder)}
    )
    assert first['step'] == 0 and first['eval/clips'] == of_source['clips'] == 5
    assert first['eval/video_psnr'] == pytest.approx(of_source['video_psnr'], abs=1e-5)
    label = [line['train/loss/label'] for line in lines if 'train/loss/label' in line]
    assert len(label) == STEPS and np.mean(label[-5:]) < 0.8 * np.mean(label[:5])
    taken = json.loads((finetuned / 'init_from.json').read_text())
    assert taken['source'] == str(seen) and taken['step'] == 3
    assert set(taken['new']) == HEAD | {LABEL_PADDING}
    assert taken['new'][LABEL_PADDING] == '[1, 4] in the source'
    assert json.loads((finetuned / 'classes.json').read_text()) == sorted(
        set(rendered.CLASSES) - {'star'}
    )
    trained = loading.load_checkpoint(finetuned)
    before = loading.load_checkpoint(seen)
    kept = {
        module: leaves
        for module, leaves in trained.params.items()
        if 'label' not in module and 'classification' not in module
    }
    assert len(moved(kept, before.params)) > 20


def test_it_goes_on_without_its_source_bit_for_bit(finetuned, seen, folder, work, capfd):
    workdir = pathlib.Path(shutil.copytree(finetuned, work / 'interrupted'))
    shutil.rmtree(workdir / 'checkpoints' / str(STEPS))
    config = values(seen, folder)
    seen.rename(work / 'moved_away')
    try:
        train(config, workdir)
    finally:
        (work / 'moved_away').rename(seen)
    assert 'arrays kept' not in capfd.readouterr().err
    ours, theirs = (jax.device_get(loading.load(path)[1]) for path in (workdir, finetuned))
    chex.assert_trees_all_equal(ours, theirs)


@pytest.mark.parametrize(
    'head_first, said',
    [(0, ''), (3, '  the first 3 of 9 steps train only'), (9, '  all 9 steps train only')],
)
def test_steps_that_train_only_what_is_new_are_named(tmp_path, capsys, head_first, said):
    experiment = Experiment.from_dict(
        {'init_from': 'x', 'training': {'steps': 9}, 'optimizer': {'head_first': head_first}}
    )
    run_folder.write_take_over(tmp_path, TakeOver('x', 3, 5, {'a/w': 'new'}), experiment)
    shown = capsys.readouterr().err
    assert ('train only' in shown) == bool(said) and said in shown


@pytest.mark.parametrize('text', ['{"source": 3', '[]', '{"no": 1}'])
def test_a_damaged_account_of_the_start_is_reported(tmp_path, text):
    (tmp_path / run_folder.INIT_FROM).write_text(text)
    with pytest.raises(UserError, match='init_from.json, what the run started from, is missing'):
        run_folder.read_take_over(tmp_path)


def test_a_folder_holds_runs_of_one_start(finetuned, source, folder):
    with pytest.raises(ValueError, match='holds a run with init_from=.*choose another'):
        train(values(source, folder), finetuned)
