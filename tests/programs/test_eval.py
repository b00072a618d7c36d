"""`eval.py` on tiny runs that nobody trained."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from helpers.prepared_files import write_dataset
from helpers.runs import RATE, VAL_CLIPS, make_run, play, python, read_csv

from perceiver_io import eval as eval_program
from perceiver_io.data import rendered
from perceiver_io.training import run_folder


@pytest.fixture(scope='module')
def evaluated(run, work):
    out = work / 'evaluated'
    return eval_program.evaluate_run(run, out, batch_size=3, videos=2), out


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
    experiment = run_folder.read_experiment(run)
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
    with pytest.raises(ValueError, match='not the folder of a run'):
        eval_program.evaluate_run(work, work / 'out')
    with pytest.raises(ValueError, match='--output=.*cannot be written'):
        eval_program.evaluate_run(run, clips[0] / 'out')
    other = work / 'other'
    shutil.copytree(run, other)
    config = (other / 'config.json').read_text()
    (other / 'config.json').write_text(config.replace('"latents": 8,', '"latents": 9,'))
    with pytest.raises(ValueError, match=r'another model .* is \(8, 16\) .* be \(9, 16\)'):
        eval_program.evaluate_run(other, work / 'out')
    shutil.rmtree(other / 'checkpoints')
    with pytest.raises(ValueError, match='no finished checkpoint yet'):
        eval_program.evaluate_run(other, work / 'out')
    assert not (other / 'checkpoints').exists()


def test_a_model_of_video_alone(work):
    seen = make_run(work / 'video_run', modalities=('video',))
    results = eval_program.evaluate_run(seen, work / 'seen', videos=1)
    assert results['audio_psnr'] is results['top_1'] is None
    assert set(results['predictors']) == {'mean_colour', 'mean_frame'}


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
    assert done.returncode == 2 and not (work / 'x').exists()
    assert done.stderr.strip().splitlines()[-1].startswith("error: the config has no key 'pathh'")
    assert 'Traceback' not in done.stderr
