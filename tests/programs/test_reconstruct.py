"""`reconstruct.py` on tiny runs that nobody trained."""

import re
import shutil
import subprocess
import sys

import av
import jax
import numpy as np
import pytest
from helpers.runs import RATE, ROOT, make_run, play, read_csv

from perceiver_io import reconstruct as reconstruct_program
from perceiver_io.checkpoints import loading
from perceiver_io.data import rendered
from perceiver_io.inference import inputs, reconstruction
from perceiver_io.media import reader, writer
from perceiver_io.training import run_folder

REFUSED = {
    '76UZQRJq028_181000_191000.mp4': 'damaged',
    'Mpeg4.mp4': 'damaged|neither',
    'corrupted.mp4': 'damaged',
    'gs-16b-2c-44100hz.mp4': 'no video',
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
SILENT = {'PandaGPT__a.mp4', 'no_duration.webm', 'test1.mp4'}


def test_a_whole_file_is_the_sum_of_its_windows(run, clips):
    model, params = loading.load(run)
    spec = run_folder.read_experiment(run).clip_spec
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
    assert rows[3]['reason'] == inputs.NO_AUDIO and rows[3]['audio_psnr'] is None
    assert sum(rows[1][f'score_{rank}'] for rank in range(1, 6)) == pytest.approx(1, abs=0.2)
    assert rows[1]['score_1'] >= rows[1]['score_2'] and rows[1]['class_1'] in rendered.CLASSES
    written = read_csv(out / 'results.csv')
    assert [row['file'] for row in written] == [str(file) for file in files]
    assert float(written[1]['video_psnr']) == pytest.approx(rows[1]['video_psnr'], rel=1e-5)
    captured = capsys.readouterr()
    assert f'{files[0]}: it is damaged, or its format is not supported' in captured.err
    assert '3 of 4 files reconstructed' in captured.out and 'was given silence' in captured.out
    for row in rows[1:]:
        frames, sound, channels, height, width = play(out / row['output'])
        assert (frames, channels, height, width) == (round(row['seconds'] * RATE), 1, 16, 16)
        assert sound == pytest.approx(row['seconds'], abs=0.15)
    assert len(list(out.iterdir())) == 7


def test_no_input_is_replaced_and_no_output_meets_another(tmp_path):
    names = ['clip.mp4', 'x/clip.avi', 'x/Clip.mov', 'y/clip_side_by_side.mp4', 'clip_2.webm']
    stems = inputs.output_stems([tmp_path / name for name in names], tmp_path)
    assert stems == ['clip_2', 'clip_3', 'Clip_4', 'clip_side_by_side', 'clip_2_2']
    stems = inputs.output_stems(['a/clip.mp4', 'a/clip_side_by_side.mp4'], tmp_path)
    assert stems == ['clip', 'clip_side_by_side_2']


def test_a_folder_stands_for_its_media_files(run, clips, work):
    folder = work / 'folder'
    (folder / 'b' / '.hidden').mkdir(parents=True)
    for name in ('z.MP4', 'b/a.mp4', 'b/.hidden.mp4', 'b/.hidden/c.mp4', 'notes.txt'):
        shutil.copy(clips[0], folder / name)
    out = folder / 'out'
    for _ in range(2):  # what the first time wrote is not reconstructed the second time
        rows = reconstruct_program.reconstruct_files([folder, clips[1]], run, out)
        assert [row['file'] for row in rows] == [
            str(folder / 'z.MP4'),
            str(folder / 'b' / 'a.mp4'),
            str(clips[1]),
        ]
        assert {row['status'] for row in rows} == {'done'}
    (work / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty: there are no media files in this folder'):
        reconstruct_program.reconstruct_files([work / 'empty'], run, out)


def test_silent_audio_has_no_psnr(run, work, capsys):
    """As in `eval.py`: digital silence says nothing about a model."""
    video, quiet = np.zeros((45, 16, 16, 3), np.uint8), np.zeros((86_400, 1), np.int16)
    writer.write_media(work / 'silent.mp4', video, quiet, sample_rate=48_000)
    quiet[40_000] = 20_000
    writer.write_media(work / 'click.mp4', video, quiet, sample_rate=48_000)
    paths = [work / 'silent.mp4', work / 'click.mp4']
    silent, click = reconstruct_program.reconstruct_files(paths, run, work / 'silence')
    assert silent['audio_psnr'] is None and silent['reason'] == inputs.SILENT
    assert click['audio_psnr'] is not None and click['reason'] is None
    assert silent['video_psnr'] == pytest.approx(click['video_psnr'], abs=1)
    assert 'its audio is silent' in capsys.readouterr().out


def test_wrong_folders_are_explained(run, work, clips):
    with pytest.raises(ValueError, match='not the folder of a run'):
        reconstruct_program.reconstruct_files([clips[0]], work, work / 'out')
    with pytest.raises(ValueError, match='--output=.*cannot be written'):
        reconstruct_program.reconstruct_files([clips[0]], run, clips[0] / 'out')
    other = work / 'other'
    shutil.copytree(run, other)
    config = (other / 'config.json').read_text()
    (other / 'config.json').write_text(config.replace('"latents": 8,', '"latents": 9,'))
    with pytest.raises(ValueError, match=r'another model .* is \(8, 16\) .* be \(9, 16\)'):
        reconstruct_program.reconstruct_files([clips[0]], other, work / 'out')
    shutil.rmtree(other / 'checkpoints')
    with pytest.raises(ValueError, match='no finished checkpoint yet'):
        reconstruct_program.reconstruct_files([clips[0]], other, work / 'out')
    assert not (other / 'checkpoints').exists()


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
    assert (frames, channels, height, width) == (2 * RATE, 2, 26 + 224 + 26, 3 * 320 + 8)
    (row,) = reconstruct_program.reconstruct_files(clips[:1], seen, out / 'seen')
    assert row['audio_psnr'] is None and row['class_1'] is None
    assert play(out / 'seen' / row['output'])[:3] == (2 * RATE, 0, 0)


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


@pytest.mark.parametrize('every', [4, pytest.param(1, marks=pytest.mark.slow)])
def test_real_and_odd_files_are_reconstructed_or_refused(run, shared_clips, work, every):
    files = sorted(shared_clips.glob('*/*.*'))
    assert len(files) == 52
    files = [*files[::every], *(file for file in files if every > 1 and file.name in REFUSED)]
    files = sorted(set(files))
    out = work / f'shared_{every}'
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
        assert (row['reason'] == inputs.NO_AUDIO) == (file.name in MUTE), file.name
        assert (row['reason'] == inputs.SILENT) == (file.name in SILENT), file.name
        assert (row['audio_psnr'] is None) == (file.name in MUTE | SILENT), file.name
        assert play(out / row['output'].replace('.mp4', '_side_by_side.mp4'))[0] == frames
