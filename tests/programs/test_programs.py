"""eval.py and reconstruct.py on tiny runs that nobody trained."""

import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.golden_files import random_parameters
from helpers.prepared_files import write_dataset

from perceiver_io import cli
from perceiver_io import eval as eval_program
from perceiver_io import reconstruct as reconstruct_program
from perceiver_io.checkpoints import loading, runs
from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.data import rendered
from perceiver_io.data.sources import DataConfig
from perceiver_io.inference import reconstruction
from perceiver_io.media import reader, side_by_side, writer
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.optimizer import make_optimizer
from perceiver_io.training.steps import TrainState

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATE = 5  # frames per second: real clips are long, and this is enough to see what happens
VAL_CLIPS = 7


def make_run(folder, **model):
    """A run folder with random parameters, saved at step 3."""
    sizes = dict(
        frames=4,
        height=16,
        width=16,
        samples_per_frame=1600,
        classes=6,
        video_bands=4,
        audio_bands=4,
        latents=8,
        latent_channels=16,
        self_attends=1,
        self_attention_heads=2,
        decoder_channels=16,
        label_query_channels=16,
    )
    experiment = Experiment(
        model=AutoencoderConfig(**sizes | model),
        data=DataConfig(
            frame_rate=RATE,
            cache=str(folder.parent / 'cache'),
            render_train=1,
            render_val=VAL_CLIPS,
            render_size=32,
            render_seconds=2.0,
        ),
    )
    shapes = jax.eval_shape(Autoencoder(experiment.model).init, jax.random.key(0))
    params = jax.tree.map(jnp.asarray, random_parameters(shapes, seed=0))
    optimizer = make_optimizer(experiment.optimizer, 10)
    runs.check_run(folder, experiment)
    runs.start_run(folder, experiment, rendered.CLASSES)
    saved = runs.Checkpoints(folder)
    saved.save(TrainState(jnp.int32(3), params, optimizer.init(params)))
    saved.wait()
    saved.close()
    return folder


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    return tmp_path_factory.mktemp('programs')


@pytest.fixture(scope='module')
def run(work):
    return make_run(work / 'run')


@pytest.fixture(scope='module')
def clips(run, work):
    """The validation clips of the run, rendered: seven MP4 files of two seconds."""
    config = runs.read_experiment(run).data
    root = rendered.render_folder(
        config.cache,
        seed=config.render_seed,
        train_clips=1,
        val_clips=VAL_CLIPS,
        size=32,
        seconds=2.0,
        progress=False,
    )
    return sorted((root / 'val').iterdir())


@pytest.fixture(scope='module')
def evaluated(run, work):
    out = work / 'evaluated'
    return eval_program.evaluate_run(run, out, batch_size=3, videos=2), out


def read_csv(path):
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def play(path):
    """(frames, seconds of sound, channels, height, width); decodes everything."""
    with av.open(f'file:{path}') as container:
        size = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video=0))
    sound = channels = 0
    with av.open(f'file:{path}') as container:
        if container.streams.audio:
            channels = container.streams.audio[0].channels
            sound = sum(f.samples / f.sample_rate for f in container.decode(audio=0))
    return frames, sound, channels, size.height, size.width


def python(*arguments):
    """Runs a program of the project."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {'JAX_PLATFORMS': 'cpu'},
        timeout=120,
    )


# Evaluation.


def test_the_table_is_the_mean_of_the_clips(evaluated):
    results, out = evaluated
    rows = read_csv(out / 'clips.csv')
    assert results['clips'] == len({row['name'] for row in rows}) == len(rows) == VAL_CLIPS
    for key in ('video_psnr', 'audio_psnr', 'top_1', 'top_5'):
        assert results[key] == pytest.approx(np.mean([float(row[key]) for row in rows]), rel=1e-5)
    for key in ('mean_colour', 'mean_frame', 'silence'):
        mean = np.mean([float(row[f'{key}_psnr']) for row in rows])
        assert results['predictors'][key] == pytest.approx(mean, rel=1e-5)


def test_what_table5_json_says(evaluated):
    results, out = evaluated
    assert json.loads((out / 'table5.json').read_text()) == json.loads(json.dumps(results))
    assert {
        'compression',
        'raw_compression',
        'audio_psnr',
        'video_psnr',
        'top_1',
        'top_5',
        'clips',
        'skipped',
        'predictors',
        'definitions',
        'step',
        'model',
    } <= results.keys()
    assert results['step'] == 3 and results['skipped'] == 0
    assert results['raw_compression'] == (4 * 16 * 16 * 3 + 6400) / (8 * 16)
    assert not (out / 'skipped.csv').exists()


def test_side_by_side_videos_play_in_stereo(evaluated):
    _, out = evaluated
    videos = sorted(out.glob('*_side_by_side.mp4'))
    assert len(videos) == 2
    for video in videos:
        frames, sound, channels, height, width = play(video)
        assert frames == 2 * RATE and channels == 2 and sound == pytest.approx(2, abs=0.15)
        assert (height, width) == (26 + 224, 2 * 224 + 4)
    assert not list(out.glob('.*'))


@pytest.mark.parametrize('batch_size, windows', [(4, 1), (5, 2)])
def test_every_window_counts_once_for_any_batch_size(run, evaluated, work, batch_size, windows):
    results = eval_program.evaluate_run(
        run,
        work / f'by{batch_size}',
        batch_size=batch_size,
        videos=0,
        data={'eval_windows': windows},
    )
    assert results['clips'] == VAL_CLIPS and results['windows'] == windows
    if windows == 1:
        for key in ('video_psnr', 'audio_psnr', 'top_1'):
            assert results[key] == pytest.approx(evaluated[0][key], rel=1e-5)


def test_evaluates_another_folder_and_names_what_it_skips(run, clips, work, capsys):
    folder = work / 'folder'
    folder.mkdir()
    shutil.copy(clips[0], folder / 'good, really.mp4')
    shutil.copy(clips[1], folder / 'unknown.mp4')
    (folder / 'broken.mp4').write_text('not a video')
    (folder / 'list.csv').write_text(
        'file,label,split\n"good, really.mp4",circle,test\nbroken.mp4,ring,test\n'
        'unknown.mp4,elephant,test\ngone.mp4,ring,test\nelse.mp4,ring,train\n'
    )
    out = work / 'of_folder'
    results = eval_program.evaluate_run(
        run, out, videos=1, data={'path': str(folder), 'csv': 'list.csv', 'eval_split': 'test'}
    )
    assert (results['clips'], results['labelled_clips']) == (2, 1)
    assert [clip['name'] for clip in results['skipped_clips']] == ['broken.mp4', 'gone.mp4']
    assert read_csv(out / 'skipped.csv') == results['skipped_clips']
    assert results['skipped'] == 2
    printed = capsys.readouterr().out
    assert 'gone.mp4: there is no such file' in printed and '1 clips with a class' in printed
    assert printed.splitlines()[-1].endswith('_side_by_side.mp4')


@pytest.mark.parametrize(
    'data, source',
    [
        ({}, 'rendered'),
        ({'path': 'x'}, 'folder'),
        ({'path': 'x', 'dataset': 'y'}, 'tfds'),
        ({'path': 'x', 'source': 'tfds'}, 'tfds'),
    ],
)
def test_the_source_follows_from_what_is_given(run, data, source):
    experiment = runs.read_experiment(run)
    assert eval_program.override_data(experiment, data).data.source == source


def test_evaluates_a_prepared_dataset(run, clips, work):
    root = work / 'datasets'
    write_dataset(
        root,
        {'val': [(path, path.stem, index % 6) for index, path in enumerate(clips)]},
        sorted(rendered.CLASSES),
    )
    results = eval_program.evaluate_run(
        run, work / 'of_dataset', videos=1, data={'path': str(root), 'source': 'tfds'}
    )
    assert results['clips'] == results['labelled_clips'] == VAL_CLIPS
    [video] = (work / 'of_dataset').glob('*_side_by_side.mp4')
    assert play(video)[0] == 2 * RATE and clips[0].stem in video.name


@pytest.mark.parametrize(
    'data, said',
    [
        ({'pathh': 'x'}, 'no key data.pathh: did you mean data.path'),
        ({'path': '/nowhere/at/all'}, 'nowhere'),
        ({'eval_windows': 0}, 'eval_windows=0 must be at least 1'),
    ],
)
def test_wrong_data_keys_are_explained(run, work, data, said):
    with pytest.raises(ValueError, match=said):
        eval_program.evaluate_run(run, work / 'wrong', data=data)


def test_wrong_folders_are_explained(run, work, clips):
    for program, first in (
        (eval_program.evaluate_run, []),
        (reconstruct_program.reconstruct_files, [[clips[0]]]),
    ):
        with pytest.raises(ValueError, match='not the folder of a run'):
            program(*first, work, work / 'out')
        with pytest.raises(ValueError, match='--output=.*cannot be written'):
            program(*first, run, clips[0] / 'out')
        other = work / f'other_{program.__name__}'
        shutil.copytree(run, other)
        config = (other / 'config.json').read_text()
        (other / 'config.json').write_text(config.replace('"latents": 8,', '"latents": 9,'))
        with pytest.raises(ValueError, match=r'another model .* is \(8, 16\) .* be \(9, 16\)'):
            program(*first, other, work / 'out')
        shutil.rmtree(other / 'checkpoints')
        with pytest.raises(ValueError, match='no finished checkpoint yet'):
            program(*first, other, work / 'out')
        assert not (other / 'checkpoints').exists()


# Reconstruction.


def test_a_whole_file_is_the_sum_of_its_windows(run, clips):
    model, params = loading.load(run)
    spec = runs.read_experiment(run).clip_spec
    step = reconstruction.make_reconstruct_step(model)
    by_two, by_four = (
        list(
            reconstruction.reconstruct_windows(
                step, params, reader.read_windows(clips[0], spec), spec, size
            )
        )
        for size in (2, 4)
    )
    assert step._cache_size() == 2  # the last batch, which is not full, compiles nothing
    assert [len(window.original.video) for window in by_four] == [4, 4, 2]
    assert [len(window.reconstruction.audio) for window in by_four] == [6400, 6400, 3200]
    assert [len(window.audio_error) for window in by_four] == [4, 4, 2]
    for one, other in zip(by_two, by_four):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                a.astype(float), b.astype(float), atol=1.01 if a.dtype.kind in 'iu' else 1e-5
            ),
            one,
            other,
        )
    clip, _ = next(reader.read_windows(clips[0], spec))
    expected = model.reconstruct(
        params, video=clip.video[None] / 255.0, audio=clip.audio[None] / 32768.0
    )
    np.testing.assert_allclose(
        by_four[0].reconstruction.video, np.clip(expected.video[0], 0, 1) * 255, atol=0.6
    )
    np.testing.assert_allclose(
        by_four[0].reconstruction.audio, np.clip(expected.audio[0] * 32768, -32768, 32767), atol=0.6
    )
    np.testing.assert_array_equal(by_four[0].original.video, clip.video)


def test_files_are_reconstructed_and_a_bad_one_is_named(run, clips, work, capsys):
    folder, out = work / 'inputs', work / 'reconstructed'
    (folder / 'b').mkdir(parents=True)
    shutil.copy(clips[0], folder / 'clip.mp4')
    shutil.copy(clips[1], folder / 'b' / 'clip.mp4')
    (folder / 'bad.mp4').write_text('not a video')
    video = np.zeros((45, 16, 16, 3), np.uint8)
    writer.write_media(folder / 'mute.mp4', video, None, frame_rate=25)
    files = [folder / name for name in ('bad.mp4', 'clip.mp4', 'b/clip.mp4', 'mute.mp4')]
    rows = reconstruct_program.reconstruct_files(files, run, out, batch_size=2)

    assert [row['status'] for row in rows] == ['failed', 'done', 'done', 'done']
    assert [row['output'] for row in rows] == [None, 'clip.mp4', 'clip_2.mp4', 'mute.mp4']
    assert [row['windows'] for row in rows] == [None, 3, 3, 3]
    assert [row['seconds'] for row in rows] == [None, 2.0, 2.0, 1.8]
    assert rows[3]['reason'] == reconstruct_program.NO_SOUND and rows[3]['audio_psnr'] is None
    assert sum(rows[1][f'score_{rank}'] for rank in range(1, 6)) == pytest.approx(1, abs=0.2)
    assert rows[1]['score_1'] >= rows[1]['score_2'] and rows[1]['class_1'] in rendered.CLASSES
    written = read_csv(out / 'results.csv')
    assert [row['file'] for row in written] == [str(file) for file in files]
    assert float(written[1]['video_psnr']) == pytest.approx(rows[1]['video_psnr'], rel=1e-5)
    captured = capsys.readouterr()
    assert f'{files[0]}: it is damaged or of no media format' in captured.err
    assert '3 of 4 files reconstructed' in captured.out and 'silence went in' in captured.out
    for row in rows[1:]:
        frames, sound, channels, height, width = play(out / row['output'])
        assert (frames, channels, height, width) == (round(row['seconds'] * RATE), 1, 16, 16)
        assert sound == pytest.approx(row['seconds'], abs=0.15)
    assert len(list(out.iterdir())) == 7


def test_no_input_is_replaced_and_no_output_meets_another(tmp_path):
    names = ['clip.mp4', 'x/clip.avi', 'x/Clip.mov', 'y/clip_side_by_side.mp4', 'clip_2.webm']
    stems = reconstruction.output_stems([tmp_path / name for name in names], tmp_path)
    assert stems == ['clip_2', 'clip_3', 'Clip_4', 'clip_side_by_side', 'clip_2_2']
    stems = reconstruction.output_stems(['a/clip.mp4', 'a/clip_side_by_side.mp4'], tmp_path)
    assert stems == ['clip', 'clip_side_by_side_2']


def test_models_of_one_modality(work, clips):
    out = work / 'one_modality'
    heard = make_run(work / 'audio_run', modalities=('audio', 'label'))
    seen = make_run(work / 'video_run', modalities=('video',))
    (row,) = reconstruct_program.reconstruct_files(clips[:1], heard, out / 'heard')
    assert row['video_psnr'] is None and row['audio_psnr'] is not None
    with av.open(str(out / 'heard' / row['output'])) as container:
        assert not container.streams.video
    frames, _, channels, height, width = play(
        out / 'heard' / row['output'].replace('.mp4', '_side_by_side.mp4')
    )
    assert (frames, channels, height, width) == (2 * RATE, 2, 26 + 224, 2 * 320 + 4)
    (row,) = reconstruct_program.reconstruct_files(clips[:1], seen, out / 'seen')
    assert row['audio_psnr'] is None and row['class_1'] is None
    assert play(out / 'seen' / row['output'])[:3] == (2 * RATE, 0, 0)
    results = eval_program.evaluate_run(seen, out / 'evaluated', videos=1)
    assert results['audio_psnr'] is results['top_1'] is None
    assert set(results['predictors']) == {'mean_colour', 'mean_frame'}


# The programs themselves.


def test_errors_of_the_user_are_told_from_bugs():
    def caught(function):
        with pytest.raises(Exception) as info:
            function()
        return cli.message(info.value)

    assert caught(lambda: ClipSpec(frames=0)) == 'frames=0 must be at least 1'
    assert caught(lambda: open('/nowhere/at/all')) == '/nowhere/at/all: No such file or directory'
    assert caught(lambda: reader.probe('/nowhere')) == 'there is no such file'
    assert caught(lambda: AutoencoderConfig(height=225)).startswith('height=225 must be divisible')
    assert caught(lambda: reconstruct_program.reconstruct_files([], '', '')).startswith('there is')
    assert caught(lambda: side_by_side.SideBySide(None)) is None
    spec = ClipSpec(frames=1, height=8, width=8)
    wrong = Clip(np.zeros((1, 8, 7, 3), np.uint8), np.zeros((1, 1), np.int16))
    other = Clip(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 1), np.int16))
    assert caught(lambda: side_by_side.SideBySide(spec).draw(wrong, other)) is None  # numpy's


def test_eval_ends_with_the_path_of_a_video(run, work):
    done = python(
        'eval.py',
        f'--checkpoint={run}',
        f'--output={work / "sub"}',
        '--videos=1',
        '--data.eval_windows=2',
        '--batch_size=4',
    )
    assert done.returncode == 0, done.stderr
    assert 'this run, 8 x 16' in done.stdout and '784 x 512' in done.stdout
    assert pathlib.Path(done.stdout.split()[-1]).is_file()
    assert done.stdout.split()[-1].endswith('_side_by_side.mp4')
    assert json.loads((work / 'sub' / 'table5.json').read_text())['windows'] == 2
    assert 'evaluating' in done.stderr
    assert not re.search(r'^I\d{4} ', done.stderr, re.MULTILINE), done.stderr  # Orbax's logs


def test_eval_explains_a_wrong_key(run, work):
    done = python('eval.py', f'--checkpoint={run}', f'--output={work / "x"}', '--data.pathh=x')
    assert done.returncode == 1 and not (work / 'x').exists()
    assert done.stderr.strip().splitlines()[-1].startswith("error: the config has no key 'pathh'")
    assert 'Traceback' not in done.stderr


def test_reconstruct_goes_on_after_a_failure_and_exits_with_one(run, clips, work):
    shutil.copy(clips[0], work / '-dash.mp4')
    out = work / 'sub_reconstructed'
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / 'reconstruct.py'),
            'gone.mp4',
            f'--checkpoint={run}',
            f'--output={out}',
            '--',
            '-dash.mp4',
        ],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert 'gone.mp4: there is no such file' in done.stderr and 'Traceback' not in done.stderr
    assert '-dash.mp4: 2.00 s in 3 windows' in done.stdout
    assert play(out / '-dash.mp4')[0] == 2 * RATE
    assert play(out / '-dash_side_by_side.mp4')[2] == 2
    assert [row['status'] for row in read_csv(out / 'results.csv')] == ['failed', 'done']


# Real files.

REFUSED = {
    '76UZQRJq028_181000_191000.mp4': 'damaged',
    'Mpeg4.mp4': 'damaged|neither',
    'corrupted.mp4': 'damaged',
    'gs-16b-2c-44100hz.mp4': 'no picture',
    'result.webm': 'empty',
}
MUTE = {
    '-video-with-dash-.mp4',
    'carphone_distorted.mp4',
    'mmaction2__demo.mp4',
    'nasa_13013_rotated.mp4',
    'part_0.mp4',
    'test_non_zero_start.mp4',
    'testsrc2_odd_height_and_width_444.mp4',
    'v_SoccerJuggling_g23_c01.avi',
    'hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi',
}


def test_every_real_and_odd_file_is_reconstructed_or_refused(run, shared_clips, work):
    files = sorted(shared_clips.glob('*/*.*'))
    assert len(files) == 52
    out = work / 'shared'
    rows = reconstruct_program.reconstruct_files(files, run, out, batch_size=8)
    for file, row in zip(files, rows, strict=True):
        if file.name in REFUSED:
            assert row['status'] == 'failed', file.name
            assert re.search(REFUSED[file.name], row['reason']), (file.name, row['reason'])
            assert '\n' not in row['reason'] and row['output'] is None
            continue
        assert row['status'] == 'done', (file.name, row['reason'])
        info = reader.probe(file)
        assert row['seconds'] == pytest.approx(info.seconds, abs=0.51 / RATE), file.name
        frames, sound, channels, _, _ = play(out / row['output'])
        assert frames == round(row['seconds'] * RATE) and channels == 1, file.name
        assert sound == pytest.approx(row['seconds'], abs=0.3), file.name
        assert (row['reason'] == reconstruct_program.NO_SOUND) == (file.name in MUTE), file.name
        assert (row['audio_psnr'] is None) == (file.name in MUTE), file.name
        assert play(out / row['output'].replace('.mp4', '_side_by_side.mp4'))[0] == frames
