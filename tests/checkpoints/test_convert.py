"""Weights in every form: the same numbers, the same model, read by the programs alike."""

import dataclasses
import gc
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from helpers.runs import ROOT, evaluate_run, play, python
from helpers.small_checkpoints import CLASSES, make_checkpoint

import perceiver_io
from perceiver_io import cli
from perceiver_io import convert as convert_program
from perceiver_io import reconstruct as reconstruct_program
from perceiver_io.checkpoints import loading, store, transformers, writing
from perceiver_io.convert import convert
from perceiver_io.core import files, kinetics700
from perceiver_io.data import rendered
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment


@pytest.fixture(scope='module')
def forms(tmp_path_factory):
    """The same weights as a run, as `.pystate` and for the transformers library."""
    folder = tmp_path_factory.mktemp('forms')
    writing.write_pystate(folder / 'first.pystate', make_checkpoint())
    for name in ('run', 'x.pystate', 'library/model.safetensors'):
        convert(folder / 'first.pystate', folder / name)
    return folder


NAMES = ('run', 'x.pystate', 'library')


@pytest.mark.parametrize('name', [*NAMES, 'library/model.safetensors'])
def test_every_form_is_the_same_model(forms, name):
    expected = make_checkpoint()
    loaded = loading.load_checkpoint(forms / name)
    assert loaded.config == expected.config
    assert loaded.clip_spec == expected.clip_spec and loaded.frame_rate == 5
    assert (loaded.classes, loaded.step) == (CLASSES, 12)
    chex.assert_trees_all_equal(jax.device_get(loaded.params), expected.params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded.params))
    model, params = perceiver_io.load(forms / name)
    assert model.config == loaded.config and params.keys() == expected.params.keys()


@pytest.mark.parametrize('source, target', list(itertools.product(NAMES, NAMES)))
def test_there_and_back_is_bit_exact(forms, tmp_path, source, target):
    place = {'run': 'run', 'x.pystate': 'x.pystate', 'library': 'library/model.safetensors'}
    convert(forms / source, tmp_path / 'a' / place[target])
    convert(tmp_path / 'a' / target, tmp_path / 'b' / place[source])
    before, after = (
        loading.load_checkpoint(path) for path in (forms / source, tmp_path / 'b' / source)
    )
    assert (before.config, before.classes, before.step) == (after.config, after.classes, after.step)
    chex.assert_trees_all_equal(before.params, after.params)
    if source != 'run':
        for file in (tmp_path / 'b').rglob('*.*'):
            same = forms / file.relative_to(tmp_path / 'b')
            assert file.read_bytes() == same.read_bytes(), file


def test_plain_pickle_reads_a_pystate_without_haiku(forms):
    code = (
        'import pickle, sys; tree = pickle.load(open(sys.argv[1], "rb")); '
        'assert "haiku" not in sys.modules and "jax" not in sys.modules; '
        'assert type(tree) is dict and all(type(leaves) is dict for leaves in tree.values())'
    )
    subprocess.run([sys.executable, '-c', code, str(forms / 'x.pystate')], check=True)
    with open(forms / 'x.pystate', 'rb') as file:
        tree = pickle.load(file)
    expected = make_checkpoint().params
    assert {module: set(leaves) for module, leaves in tree.items()} == {
        module: set(leaves) for module, leaves in expected.items()
    }
    for module, leaves in expected.items():
        for name, leaf in leaves.items():
            assert type(tree[module][name]) is np.ndarray and tree[module][name].dtype == np.float32
            np.testing.assert_array_equal(tree[module][name], leaf)


def test_linear_weights_are_transposed_and_nothing_else():
    params = make_checkpoint().params
    arrays = transformers.to_arrays(params)
    assert len(arrays) == len(jax.tree.leaves(params)) == 183 - 6 * 16
    q = arrays['perceiver.encoder.self_attends.1.attention.self.query.weight']
    np.testing.assert_array_equal(q, params['encoder/~/self_attention_1/attention/linear']['w'].T)
    latents = arrays['perceiver.embeddings.latents']
    np.testing.assert_array_equal(
        latents, params['encoder/~/trainable_position_encoding']['pos_embs']
    )


@pytest.mark.parametrize('modalities', [('video',), ('audio', 'label'), ('video', 'audio')])
def test_subsets_of_the_modalities(tmp_path, modalities):
    loaded = make_checkpoint(modalities=modalities, video_patch=(3, 2, 4), cross_attention_heads=1)
    writing.write_pystate(tmp_path / 'x.pystate', loaded)
    convert(tmp_path / 'x.pystate', tmp_path / 'run')
    convert(tmp_path / 'run', tmp_path / 'y.pystate')
    assert (tmp_path / 'x.pystate').read_bytes() == (tmp_path / 'y.pystate').read_bytes()
    again = loading.load_checkpoint(tmp_path / 'y.pystate')
    assert again.config == loaded.config
    with pytest.raises(
        ValueError,
        match='the transformers library cannot hold this model: it has '
        r'modalities=\(',
    ):
        convert(tmp_path / 'run', tmp_path / 'library' / 'model.safetensors')
    assert not (tmp_path / 'library').exists()


def test_sizes_are_read_off_the_arrays(forms, tmp_path):
    """Without a config the rest is as released; GELU and rounding are the source's."""
    (tmp_path / 'x.pystate').write_bytes((forms / 'x.pystate').read_bytes())
    (tmp_path / 'model.safetensors').write_bytes(
        (forms / 'library' / 'model.safetensors').read_bytes()
    )
    told = dict(
        modalities=('video', 'audio', 'label'),
        classes=7,
        audio_patch=3,
        latents=6,
        latent_channels=16,
        self_attends=2,
        self_attention_widening=2,
        cross_attention_widening=3,
        decoder_channels=18,
        label_query_channels=20,
    )
    for name, gelu, rounding in (
        ('x.pystate', 'tanh', 'xla'),
        ('model.safetensors', 'exact', 'torch'),
    ):
        config = loading.load_checkpoint(tmp_path / name).config
        assert config == dataclasses.replace(
            perceiver_io.AutoencoderConfig(), **told, gelu=gelu, position_rounding=rounding
        )
        assert loading.load_checkpoint(tmp_path / name).classes == tuple(
            f'class {index}' for index in range(7)
        )


def test_the_library_s_config_tells_the_rest(forms, tmp_path):
    """What it leaves out is its own class's default."""
    (tmp_path / 'model.safetensors').write_bytes(
        (forms / 'library' / 'model.safetensors').read_bytes()
    )
    values = json.loads((forms / 'library' / 'config.json').read_text())
    del values['perceiver_io']
    expected = dataclasses.replace(make_checkpoint().config, position_rounding='torch')

    def config_with(**changes):
        (tmp_path / 'config.json').write_text(json.dumps(values | changes))
        return loading.load_checkpoint(tmp_path)

    loaded = config_with()
    assert loaded.config == expected and loaded.classes == CLASSES + ('class 5', 'class 6')
    assert config_with(hidden_act='gelu_new').config.gelu == 'tanh'
    assert config_with(hidden_act='gelu_pytorch_tanh').config.gelu == 'tanh'
    assert config_with(id2label={str(i): f'LABEL_{i}' for i in range(7)}).classes[6] == 'class 6'
    del values['num_cross_attention_heads'], values['hidden_act']
    assert config_with().config == dataclasses.replace(expected, cross_attention_heads=8)
    for changes, said in (
        ({'hidden_act': 'relu'}, 'hidden_act'),
        ({'hidden_act': []}, 'hidden_act'),
        ({'num_latents': 9}, 'says latents=9, and the arrays 6'),
        ({'use_query_residual': False}, 'residual'),
        ({'output_shape': [1, 2]}, 'output_shape'),
        ({'image_size': 'x'}, 'video_max_resolution|must be of type int'),
        ({'num_blocks': 0}, 'blocks=0 must be at least 1'),
    ):
        with pytest.raises(ValueError, match=said):
            config_with(**changes)


def test_the_released_model_has_the_names_of_kinetics(tmp_path):
    loaded = dataclasses.replace(make_checkpoint(classes=700, cross_attention_heads=1), classes=())
    path = tmp_path / 'x.pystate'
    writing.write_pystate(path, loaded)
    path.with_suffix('.json').unlink()
    assert loading.load_checkpoint(path).classes == kinetics700.CLASSES


def test_names_of_classes_of_any_script(tmp_path):
    names = (
        'caf\u00e9\u00a0noir',
        '\u0645\u06cc\u200c\u0631\u0648\u0645',
        '\U0001f469\u200d\U0001f373',
    )
    loaded = dataclasses.replace(make_checkpoint(cross_attention_heads=1), classes=names)
    writing.write_pystate(tmp_path / 'x.pystate', loaded)
    convert(tmp_path / 'x.pystate', tmp_path / 'run')
    convert(tmp_path / 'run', tmp_path / 'library' / 'model.safetensors')
    for name in ('x.pystate', 'run', 'library'):
        assert loading.load_checkpoint(tmp_path / name).classes == names
    tmp_path.joinpath('other').mkdir()
    with pytest.raises(ValueError, match='cannot be shown in a line: rename it'):
        run_folder.start_run(tmp_path / 'other', Experiment(), ('a\x1b[31m',))
    assert not list((tmp_path / 'other').iterdir())
    (tmp_path / 'run' / loading.CLASSES).write_text('["a\\nb"]')
    with pytest.raises(ValueError, match='holds no list of names'):
        loading.load_checkpoint(tmp_path / 'run')


def test_names_of_files_of_any_bytes(forms, tmp_path):
    """Where a terminal shows them in part, and where it shows none but ASCII."""
    target = os.fsdecode(os.fsencode(tmp_path) + b'/\xff\xc3\xa9.pystate')
    done = subprocess.run(
        [sys.executable, '-m', 'perceiver_io.convert', forms / 'run', target],
        cwd=ROOT,
        capture_output=True,
        env=os.environ | {'PYTHONIOENCODING': 'ascii:strict'},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b'\\udcff\\xe9.pystate: ' in done.stdout
    assert loading.load_checkpoint(target).config == make_checkpoint().config
    files.write_text(tmp_path / 'x.json', json.dumps('a\udcff', ensure_ascii=False))
    assert json.loads((tmp_path / 'x.json').read_text()) == 'a\udcff'


def test_nothing_is_overwritten(forms, tmp_path):
    for name in ('run', 'x.pystate', 'library/model.safetensors'):
        with pytest.raises(ValueError, match='exists already: choose another name'):
            convert(forms / 'run', forms / name)
    (tmp_path / 'y.json').touch()
    with pytest.raises(ValueError, match='y.json exists already'):
        convert(forms / 'run', tmp_path / 'y.pystate')
    assert [path.name for path in tmp_path.iterdir()] == ['y.json']
    with pytest.raises(ValueError, match='no form to convert to: name it x.pystate'):
        convert(forms / 'run', tmp_path / 'weights.bin')


def test_a_model_that_the_library_cannot_hold_is_refused(tmp_path):
    writing.write_pystate(
        tmp_path / 'x.pystate',
        make_checkpoint(
            video_bands=8, input_padding=9, audio_max_resolution=64, cross_attention_heads=1
        ),
    )
    said = r'video_bands=8 \(there 32\), input_padding=9 \(there 4\), audio_max_resolution=64'
    with pytest.raises(ValueError, match=said):
        convert(tmp_path / 'x.pystate', tmp_path / 'out' / 'model.safetensors')
    assert transformers.to_config(make_checkpoint().config, [])['image_size'] == 5


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    return rendered.render_folder(
        tmp_path_factory.mktemp('clips'),
        train_clips=1,
        val_clips=2,
        size=32,
        seconds=1.0,
        progress=False,
    )


@pytest.mark.parametrize('name', ['run', 'x.pystate'])
def test_weights_without_data_are_evaluated(forms, clips, tmp_path, name):
    results = evaluate_run(
        forms / name, tmp_path / 'evaluated', batch_size=2, videos=0, data={'path': str(clips)}
    )
    assert results['clips'] == 2 and results['step'] == 12
    with pytest.raises(ValueError, match='needs data.path, the folder of your files'):
        evaluate_run(forms / name, tmp_path / 'evaluated')


def test_files_go_through_released_weights(forms, clips, tmp_path):
    video = next((clips / 'val').iterdir())
    (row,) = reconstruct_program.reconstruct_files([video], forms / 'library', tmp_path)
    assert row['status'] == 'done' and row['class_1'] in (*CLASSES, 'class 5', 'class 6')
    assert play(tmp_path / row['output'])[0] == 5


def test_a_converted_run_is_not_trained_on(forms):
    saved = store.CheckpointStore(forms / 'run')
    with pytest.raises(ValueError, match='converted weights without a state of training'):
        saved.restore({}, {})
    saved.close()


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # Orbax's
def test_a_damaged_run_is_refused(forms, tmp_path):
    expected = make_checkpoint().params
    files = [
        path.relative_to(forms / 'run') for path in (forms / 'run').rglob('*') if path.is_file()
    ]
    refused = 0
    for file in files:
        folder = tmp_path / str(file).replace('/', '_')
        shutil.copytree(forms / 'run', folder)
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: len(data) // 2])
        try:
            loaded = loading.load_checkpoint(folder)
        except ValueError as error:
            refused += 1
            assert cli.message(error) is not None and '\n' not in cli.message(error)
        else:
            chex.assert_trees_all_equal(jax.device_get(loaded.params), expected)
    gc.collect()  # here, where what Orbax left behind is expected
    assert refused >= 4, files


def test_the_command_says_what_it_wrote(forms, tmp_path):
    done = python('-m', 'perceiver_io.convert', forms / 'run', tmp_path / 'y.pystate')
    assert done.returncode == 0, done.stderr
    count = sum(leaf.size for leaf in jax.tree.leaves(make_checkpoint().params))
    size = (tmp_path / 'y.pystate').stat().st_size
    assert done.stdout.splitlines()[:2] == [
        f'87 arrays with {count:,} parameters',
        f'{tmp_path}/y.pystate: {size:,} bytes',
    ]
    with pytest.raises(ValueError, match='takes two names: .* SRC DST'):
        convert_program.main(['convert', 'x'])
