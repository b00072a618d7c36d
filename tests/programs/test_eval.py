"""`eval.py` on tiny runs that nobody trained."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from helpers.prepared_files import write_dataset
from helpers.runs import RATE, VAL_CLIPS, evaluate_run, make_run, play, python, read_csv

from perceiver_io import eval as eval_program
from perceiver_io import reconstruct
from perceiver_io.core.errors import UserError
from perceiver_io.data import rendered
from perceiver_io.evaluation.saved_progress import SavedProgress
from perceiver_io.training import run_folder


@pytest.fixture(scope='module')
def evaluated(run, work):
    out = work / 'evaluated'
    return evaluate_run(run, out, batch_size=3, videos=2), out


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
        assert (height, width) == (26 + 224 + 26, 3 * 224 + 2 * 4)
    assert not list(out.glob('.*'))


def test_all_outputs_hold_all_metrics(evaluated):
    results, out = evaluated
    names = {'ssim', 'si_sdr', 'log_mel', 'stft', 'video_psnr_pooled', 'audio_psnr_peak_2', 'loss'}
    assert all(np.isfinite(results[name]) for name in names)
    for name in ('video_psnr', 'ssim', 'si_sdr', 'log_mel', 'stft'):
        low, high = results['intervals'][name]
        assert low <= results[name] <= high, name
    assert results['audio_psnr_peak_2'] == pytest.approx(results['audio_psnr'] + 6.0206, abs=1e-4)
    rows = read_csv(out / 'clips.csv')
    pooled = -10 * np.log10(np.mean([float(row['video_mse']) for row in rows]))
    assert results['video_psnr_pooled'] == pytest.approx(pooled, abs=1e-4)
    assert results['ssim'] == pytest.approx(np.mean([float(row['ssim']) for row in rows]), rel=1e-5)
    [ours, *_] = read_csv(out / 'table5.csv')
    assert float(ours['si_sdr']) == pytest.approx(results['si_sdr'], rel=1e-5)
    head = (out / 'table5.md').read_text().splitlines()[0]
    assert all(title in head for title in ('SSIM', 'SI-SDR (dB)', 'top-5'))
    [bpp] = json.loads((out / 'rate_distortion.json').read_text())['results']['bpp']
    assert bpp == 8 * 16 * 32 / (4 * 16 * 16)


def test_several_checkpoints_make_several_rows(run, evaluated, work):
    other = make_run(work / 'other_run', latents=4)
    out = work / 'several'
    rows = eval_program.evaluate_checkpoints([run, other], out, batch_size=3, videos=1)
    assert [row['checkpoint'] for row in rows] == [str(run), str(other)]
    assert rows[0]['video_psnr'] == evaluated[0]['video_psnr'] != rows[1]['video_psnr']
    values = json.loads((out / 'table5.json').read_text())
    assert [row['video_psnr'] for row in values['rows']] == [row['video_psnr'] for row in rows]
    assert len(read_csv(out / 'clips.csv')) == 2 * VAL_CLIPS
    assert len(json.loads((out / 'rate_distortion.json').read_text())['results']['bpp']) == 2
    for folder in ('videos_1', 'videos_2'):
        assert len(list((out / folder).glob('*_side_by_side.mp4'))) == 1


@pytest.mark.slow
def test_hidden_modalities_and_kept_latents_make_rows(run, evaluated, clips, work):
    out = work / 'views'
    views = eval_program.views([8, 4], ['audio'])
    rows = eval_program.evaluate_checkpoints([run], out, batch_size=3, videos=0, views=views)
    assert [(row['model']['latents'], row['hidden']) for row in rows] == [
        (8, ()),
        (8, ('audio',)),
        (4, ()),
        (4, ('audio',)),
    ]
    assert rows[0]['video_psnr'] == pytest.approx(evaluated[0]['video_psnr'], rel=1e-6)
    assert len({row['video_psnr'] for row in rows}) == len({row['audio_psnr'] for row in rows}) == 4
    assert rows[2]['compression'] == 2 * rows[0]['compression']
    assert f'{run}, 4 x 16, audio hidden' in (out / 'table5.md').read_text()
    assert len(json.loads((out / 'rate_distortion.json').read_text())['results']['bpp']) == 2
    assert len({line['row'] for line in read_csv(out / 'clips.csv')}) == 4

    found = [
        reconstruct.reconstruct_files(clips[:1], run, work / f'files_{number}', **options)[0]
        for number, options in enumerate(({}, {'hide': 'audio'}, {'latents': 4}))
    ]
    assert len({row['video_psnr'] for row in found}) == 3


def test_an_interrupted_evaluation_goes_on_to_the_same_results(run, work, monkeypatch, capsys):
    """Interrupted after a batch that ends between the windows of the third clip."""

    def evaluate(name):
        out = work / name
        evaluate_run(run, out, batch_size=5, videos=0, data={'eval_windows': 2})
        texts = [(out / file).read_text() for file in ('table5.json', 'clips.csv')]
        return texts, {path.name for path in out.iterdir()}

    add, calls = SavedProgress.add, []

    def add_and_stop(self, finished):
        add(self, finished)
        calls.append(finished)
        if len(calls) == 1:
            raise KeyboardInterrupt

    expected = evaluate('whole')
    monkeypatch.setattr(SavedProgress, 'add', add_and_stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate('stopped')
    capsys.readouterr()
    monkeypatch.setattr(SavedProgress, 'add', add)
    assert evaluate('stopped') == expected
    assert f'going on after 2 of {VAL_CLIPS} clips' in capsys.readouterr().out


@pytest.mark.parametrize('batch_size, windows', [(4, 1), (5, 2)])
def test_every_window_counts_once_for_any_batch_size(run, evaluated, work, batch_size, windows):
    results = evaluate_run(
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
    results = evaluate_run(
        run, out, videos=1, data={'path': str(folder), 'csv': 'list.csv', 'eval_split': 'test'}
    )
    assert (results['clips'], results['labelled_clips']) == (2, 1)
    assert [clip['name'] for clip in results['skipped_clips']] == ['broken.mp4', 'gone.mp4']
    assert read_csv(out / 'skipped.csv') == results['skipped_clips']
    assert results['skipped'] == 2
    printed = capsys.readouterr().out
    assert 'gone.mp4: there is no such file' in printed and '1 clips with a class' in printed
    assert printed.splitlines()[-1].endswith('_side_by_side.mp4')


def test_an_evaluation_that_can_read_no_clip_is_an_error(run, clips, work):
    folder = work / 'gone'
    folder.mkdir()
    shutil.copy(clips[0], folder / 'a.mp4')
    (folder / 'labels.csv').write_text('file,label,split\na.mp4,ring,val\n')
    job = eval_program.Job.open(run, {'path': str(folder)}, 3)
    (folder / 'a.mp4').unlink()  # after the probe
    with pytest.raises(UserError, match=r'none of the 1 clips could be read; the first: a\.mp4: '):
        job.evaluator(job.params)


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
    results = evaluate_run(
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
        evaluate_run(run, work / 'wrong', data=data)


def test_wrong_folders_are_explained(run, work, clips):
    with pytest.raises(ValueError, match='not the folder of a run'):
        evaluate_run(work, work / 'out')
    with pytest.raises(ValueError, match='--output=.*cannot be written'):
        evaluate_run(run, clips[0] / 'out')
    other = work / 'other'
    shutil.copytree(run, other)
    config = (other / 'config.json').read_text()
    (other / 'config.json').write_text(config.replace('"latents": 8,', '"latents": 9,'))
    with pytest.raises(ValueError, match=r'another model .* is \(8, 16\) .* be \(9, 16\)'):
        evaluate_run(other, work / 'out')
    shutil.rmtree(other / 'checkpoints')
    with pytest.raises(ValueError, match='no finished checkpoint yet'):
        evaluate_run(other, work / 'out')
    assert not (other / 'checkpoints').exists()


def test_a_model_of_video_alone(work):
    seen = make_run(work / 'video_run', modalities=('video',))
    results = evaluate_run(seen, work / 'seen', videos=1)
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


def test_eval_writes_a_report(run, work):
    out = work / 'reported'
    evaluate_run(run, out, batch_size=3, videos=0, with_report=True)
    text = (out / 'report' / 'index.html').read_text()
    links = re.findall(r'src="(media/[^"]+)"', text)
    looks = 6 + 3 + 1 + 1  # of latents, pixels, audio, label
    assert len(links) == 3 * 5 + looks and all((out / 'report' / link).is_file() for link in links)
    assert play(out / 'report' / links[0])[0] == 2 * RATE
    for said in ('Best: ', 'Median: ', 'Worst: ', 'x264 + Opus', 'float16', 'Accuracy by class'):
        assert said in text, said
