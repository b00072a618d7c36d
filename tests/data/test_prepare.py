"""Datasets prepared through TFDS, from every tree and with every damage."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import simple_parsing
import tensorflow_datasets as tfds
from helpers import kinetics_trees
from helpers.prepare_runs import ROOT, command, examples, rejects, stored_clips
from tensorflow_datasets.scripts.cli import build

from perceiver_io import prepare as program
from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.kinetics700 import CLASSES
from perceiver_io.data import prepared, rendered
from perceiver_io.data.prepare import shard_work, tfds_builders
from perceiver_io.data.records import Selection


@pytest.fixture(scope='module')
def contents(tmp_path_factory):
    return kinetics_trees.make_contents(tmp_path_factory.mktemp('contents') / 'contents')


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shard_work, 'SHARD_CLIPS', 8)
    monkeypatch.setattr(shard_work, 'CHUNK_CLIPS', 3)


def prepare(
    name: str, source: pathlib.Path, data_dir: pathlib.Path, beam_options=None, **settings
) -> pathlib.Path:
    """The folder of the dataset, prepared in this process."""
    builder = tfds_builders.BUILDERS[name](data_dir=data_dir, workers=0, **settings)
    builder.download_and_prepare(
        download_dir=data_dir / 'downloads',
        download_config=tfds.download.DownloadConfig(manual_dir=source, beam_options=beam_options),
    )
    return pathlib.Path(builder.data_path)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """Process ids, on Linux."""
    return [
        int(child) for child in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    ]


def is_alive(pid: int) -> bool:
    status = pathlib.Path(f'/proc/{pid}/stat')
    return status.exists() and status.read_text().rsplit(')', 1)[1].split()[0] != 'Z'


def test_every_tree_gives_the_same_examples_and_the_planted_rejects(
    tmp_path, contents, small_shards, capsys
):
    planted = kinetics_trees.plan(contents, 45, 15)
    expected = None
    for form in kinetics_trees.FORMS:
        source = kinetics_trees.build(form, tmp_path / form, planted, contents)
        folder = prepare('kinetics700_2020', source, tmp_path / 'data' / form, missing_audio='skip')
        assert rejects(folder) == sorted(
            (clip.split, clip.name, clip.reason) for clip in planted if clip.reason
        ), form
        found = examples(folder)
        assert {
            (split, example['name'].decode(), CLASSES[example['label']])
            for split, split_examples in found.items()
            for example in split_examples
        } == {(clip.split, clip.name, clip.class_name) for clip in planted if not clip.reason}
        expected = expected or found
        assert found == expected, form
    printed = capsys.readouterr().out
    for words in ('flat folder', 'with spaces', 'torchvision', 'mmaction2', 'without header'):
        assert words in printed
    assert 'hidden files' in printed


def test_what_a_dataset_tells_without_its_media(tmp_path, contents, small_shards):
    planted = kinetics_trees.plan(contents, 45, 12)
    source = kinetics_trees.build('cvdf', tmp_path / 'source', planted, contents)
    folder = prepare('kinetics700_2020', source, tmp_path / 'data')
    assert folder == tmp_path / 'data' / 'kinetics700_2020' / 'transcoded' / '1.0.0'
    for split, split_examples in examples(folder).items():
        index = np.load(folder / f'index_{split}.npz', allow_pickle=False)
        assert [name.encode() for name in index['name']] == [
            each['name'] for each in split_examples
        ]
        for key in ('label', 'has_audio'):
            assert index[key].tolist() == [each[key] for each in split_examples]
        assert index['seconds'] == pytest.approx([each['seconds'] for each in split_examples])
        assert (index['label'].dtype, index['seconds'].dtype) == (np.int32, np.float64)
    info = tfds.builder_from_directory(folder).info
    assert info.splits['train'].num_examples > 8 and len(info.splits['train'].shard_lengths) > 2
    assert info.features['label'].names == list(CLASSES)
    reasons = collections.Counter(clip.reason for clip in planted if clip.split == 'train')
    del reasons[''], reasons['no audio']  # silent clips are kept unless one asks otherwise
    assert info.metadata['counts']['train']['rejects'] == reasons
    assert not index['has_audio'].all() or split != 'train'
    assert sorted(path.name for path in folder.parent.iterdir()) == ['1.0.0']


def test_apache_beam_gives_the_same(tmp_path, contents, small_shards):
    options = pytest.importorskip(
        'apache_beam.options.pipeline_options',
        reason='Apache Beam is not installed: pip install -r requirements-beam.txt',
    )
    planted = kinetics_trees.plan(contents, 45, 15)
    source = kinetics_trees.build('mmaction2', tmp_path / 'source', planted, contents)
    plain = prepare('kinetics700_2020', source, tmp_path / 'plain')
    beam = prepare(
        'kinetics700_2020',
        source,
        tmp_path / 'beam',
        options.PipelineOptions(['--runner=DirectRunner']),
    )
    assert examples(beam) == examples(plain) and rejects(beam) == rejects(plain)
    for path in plain.glob('*array_record*'):
        assert (beam / path.name).read_bytes() == path.read_bytes()


def test_an_unknown_beam_runner_is_refused():
    pytest.importorskip('apache_beam', reason='Apache Beam is not installed')
    with pytest.raises(ValueError, match='runner=Nope'):
        program._beam_options('runner=Nope')


@pytest.mark.parametrize(
    'text', ['runner=FlinkRunner,flink_master=a:1', '--runner=FlinkRunner, --flink_master=a:1']
)
def test_beam_options_with_and_without_dashes(text):
    pytest.importorskip('apache_beam', reason='Apache Beam is not installed')
    options = program._beam_options(text).get_all_options()
    assert (options['runner'], options['flink_master']) == ('FlinkRunner', 'a:1')


def test_originals_are_stored_byte_for_byte(tmp_path, contents, small_shards):
    planted = kinetics_trees.plan(contents, 40, 12)
    source = kinetics_trees.build('torchvision', tmp_path / 'source', planted, contents)
    folder = prepare(
        'kinetics700_2020', source, tmp_path / 'data', config='original', missing_audio='skip'
    )
    assert folder.parent.name == 'original'
    stored = {
        example['name'].decode(): example['media']
        for split in examples(folder).values()
        for example in split
    }
    assert stored == {
        clip.name: contents[clip.content][0].read_bytes() for clip in planted if not clip.reason
    }
    assert rejects(folder) == sorted(
        (clip.split, clip.name, clip.reason) for clip in planted if clip.reason
    )


def test_killed_and_run_again_it_gives_the_same(tmp_path, contents):
    planted = kinetics_trees.plan(contents, 80, 12)
    source = kinetics_trees.build('cvdf', tmp_path / 'source', planted, contents)
    run = command(source, tmp_path / 'killed', '--workers=2')
    work = tmp_path / 'killed' / 'kinetics700_2020' / 'transcoded' / '.1.0.0.work'

    with subprocess.Popen(
        run, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as program:
        wait_until(lambda: list(work.glob('*.reading')))
        os.kill(int(next(work.glob('*.reading')).stem), signal.SIGKILL)  # one of its workers
        last = program.communicate()[1].splitlines()[-1]
    assert last.startswith('error: a worker process died, killed or while it read') and (
        str(source) in last
    )

    with subprocess.Popen(
        run, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as program:
        wait_until(lambda: len(children_of(program.pid)) > 2 and list(work.glob('*.media')))
        children = children_of(program.pid)
        program.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, children)))

    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'train: ' in done.stdout and 'rejected (' in done.stdout
    whole = prepare('kinetics700_2020', source, tmp_path / 'whole')
    folder = tmp_path / 'killed' / 'kinetics700_2020' / 'transcoded' / '1.0.0'
    assert examples(folder) == examples(whole) and rejects(folder) == rejects(whole)
    for path in whole.glob('*array_record*'):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert [path.name for path in folder.parent.iterdir()] == ['1.0.0']

    work.mkdir()  # as where it was killed at the very end
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and 'was prepared before' in done.stdout, done.stderr
    assert not work.exists()


def test_what_is_done_is_not_done_again(tmp_path, contents, small_shards, monkeypatch):
    """Stopped while the shards are put into place, when everything is done."""
    planted = kinetics_trees.plan(contents, 30, 12)
    source = kinetics_trees.build('cvdf', tmp_path / 'source', planted, contents)
    whole = prepare('kinetics700_2020', source, tmp_path / 'whole')
    with monkeypatch.context() as patch:
        links = []

        def link_once(path, target):
            if links:
                raise KeyboardInterrupt
            links.append(os.link(path, target))

        patch.setattr(tfds_builders, '_link', link_once)
        with pytest.raises(KeyboardInterrupt):
            prepare('kinetics700_2020', source, tmp_path / 'data')
    left = tmp_path / 'data' / 'kinetics700_2020' / 'transcoded' / 'incomplete.ABCDEF_1.0.0'
    left.mkdir()  # as after a SIGKILL
    monkeypatch.setattr(shard_work.transcode, 'store', None)
    folder = prepare('kinetics700_2020', source, tmp_path / 'data')
    assert examples(folder) == examples(whole)
    assert not left.exists()


def test_an_interruption_costs_a_chunk_at_most(tmp_path, contents, monkeypatch):
    monkeypatch.setattr(shard_work, 'CHUNK_CLIPS', 3)
    planted = kinetics_trees.plan(contents, 40, 0)
    source = kinetics_trees.build('cvdf', tmp_path / 'source', planted, contents)
    with stored_clips(interrupt_at=20) as stored, pytest.raises(KeyboardInterrupt):
        prepare('kinetics700_2020', source, tmp_path / 'data')
    with stored_clips() as again:
        prepare('kinetics700_2020', source, tmp_path / 'data')
    assert len(set(stored) & set(again)) == 20 % 3
    assert {pathlib.Path(path).stem for path in stored + again} == {clip.name for clip in planted}


def test_other_settings_use_nothing_of_before(tmp_path, contents, small_shards, monkeypatch):
    planted = kinetics_trees.plan(contents, 15, 12)
    source = kinetics_trees.build('cvdf', tmp_path / 'source', planted, contents)
    with monkeypatch.context() as patch:
        patch.setattr(tfds_builders, '_link', None)
        with pytest.raises(TypeError):
            prepare('kinetics700_2020', source, tmp_path / 'data')
    folder = prepare('kinetics700_2020', source, tmp_path / 'data', missing_audio='skip')
    assert 'no audio' in {reason for *_, reason in rejects(folder)}


def test_two_at_once_are_refused(tmp_path, contents):
    planted = kinetics_trees.plan(contents, 15, 12)
    source = kinetics_trees.build('cvdf', tmp_path / 'source', planted, contents)
    folder = tmp_path / 'data' / 'kinetics700_2020' / 'transcoded' / '.1.0.0.work'
    with shard_work.Work(folder, None, None).locked():
        with pytest.raises(ValueError, match='another process prepares'):
            prepare('kinetics700_2020', source, tmp_path / 'data')


def test_a_folder_with_a_csv(tmp_path, contents):
    source = tmp_path / 'source'
    source.mkdir()
    rows = [
        'file,label,split',
        'b.mp4,dog,train',
        '-a.mp4,"cat, black",train',
        'c.mp4,,val',
        'gone.mp4,dog,val',
    ]
    (source / 'labels.csv').write_text('\n'.join(rows))
    for name in ('b.mp4', '-a.mp4', 'c.mp4'):
        (source / name).hardlink_to(contents['good'][0])
    folder = prepare('av_folder', source, tmp_path / 'data')
    found = examples(folder)
    assert {each['name']: each['label'] for each in found['train']} == {b'b.mp4': 1, b'-a.mp4': 0}
    assert [(each['name'], each['label']) for each in found['val']] == [(b'c.mp4', -1)]
    assert tfds.builder_from_directory(folder).info.features['label'].names == ['cat, black', 'dog']
    assert rejects(folder) == [('val', 'gone.mp4', 'missing')]


def test_tfds_build(tmp_path, contents):
    """Its command needs TensorFlow to start; what the command does, does not."""
    (tmp_path / 'labels.csv').write_text('file,label,split\nb.mp4,dog,train\n')
    (tmp_path / 'b.mp4').hardlink_to(contents['good'][0])
    simple_parsing.parse(
        build.Args,
        args=[
            'av_folder',
            '--config=transcoded',
            '--imports=perceiver_io.data.prepare.tfds_builders',
            f'--manual_dir={tmp_path}',
            f'--data_dir={tmp_path}/data',
        ],
    ).execute()
    [example] = examples(tmp_path / 'data' / 'av_folder' / 'transcoded' / '1.0.0')['train']
    assert example['name'] == b'b.mp4'
    assert 'tensorflow' not in sys.modules


def test_a_folder_of_nothing_but_damage_is_refused(tmp_path):
    (tmp_path / 'labels.csv').write_text('file,label,split\ngone.mp4,dog,train\n')
    with pytest.raises(ValueError, match='no clip can be used: 1 missing'):
        prepare('av_folder', tmp_path, tmp_path / 'data')


def test_a_csv_without_clips_is_refused(tmp_path):
    (tmp_path / 'labels.csv').write_text('file,label,split\n')
    with pytest.raises(ValueError, match='no clip can be used: none is listed'):
        prepare('av_folder', tmp_path, tmp_path / 'data')


def test_prepared_from_another_folder_is_refused(tmp_path, contents):
    for name in 'ab':
        (tmp_path / name).mkdir()
        (tmp_path / name / 'labels.csv').write_text('file,label,split\nb.mp4,dog,train\n')
        (tmp_path / name / 'b.mp4').hardlink_to(contents['good'][0])
    prepare('av_folder', tmp_path / 'a', tmp_path / 'data')
    builder = tfds_builders.AvFolder(data_dir=tmp_path / 'data')
    builder.check_settings(tmp_path / 'b' / '..' / 'a')
    with pytest.raises(ValueError, match='was prepared from .*/a, not from .*/b'):
        builder.check_settings(tmp_path / 'b')


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_is_told(tmp_path):
    full = tmp_path / 'full'
    full.symlink_to('/dev/full')
    clip = shard_work.Example('a', 0, 1.0, True), bytes(10_000)
    with pytest.raises(OSError, match='No space left'):
        tfds_builders._write_shard(full, iter([clip]), ['zumba'])


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    for name in ('0.part', '.0.json.1.part', '0.mp4', '1.reading', '0.shard', '0.media'):
        (tmp_path / name).touch()
    with shard_work.Work(tmp_path, None, None).locked():
        assert {path.name for path in tmp_path.iterdir()} == {'lock', '0.shard', '0.media'}


def test_rendered_clips(tmp_path):
    source = rendered.render_folder(
        tmp_path / 'cache', train_clips=4, val_clips=2, size=32, seconds=0.8, progress=False
    )
    folder = prepare('rendered', source, tmp_path / 'data')
    found = examples(folder)
    assert len(found['train']) == 4
    for each in found['train']:
        assert rendered.CLASSES[each['label']] in each['name'].decode()
    info = tfds.builder_from_directory(folder).info
    assert info.features['label'].names == list(rendered.CLASSES)


@pytest.mark.parametrize(
    'more, message, status',
    [
        (['--source=/nowhere'], 'no folder /nowhere', 1),
        (['folder'], 'is not a flag: give the folder as --source', 2),
        (['--source='], '--source= is empty', 2),
    ],
)
def test_bad_flags_are_refused_in_one_line(tmp_path, more, message, status):
    done = subprocess.run(
        command(tmp_path, tmp_path / 'data', *more), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == status
    assert message in done.stderr and done.stderr.count('\n') == 1


def test_prepared_with_other_settings_is_refused(tmp_path, contents):
    (tmp_path / 'labels.csv').write_text('file,label,split\nb.mp4,dog,train\n')
    (tmp_path / 'b.mp4').hardlink_to(contents['good'][0])
    folder = prepare('av_folder', tmp_path, tmp_path / 'data')
    builder = tfds_builders.AvFolder(data_dir=tmp_path / 'data', min_seconds=2)
    with pytest.raises(ValueError, match='was prepared with'):
        builder.check_settings(tmp_path)
    builder = tfds_builders.AvFolder(data_dir=tmp_path / 'data', csv='other.csv')
    with pytest.raises(ValueError, match='was prepared from the CSV labels.csv, not from'):
        builder.check_settings(tmp_path)
    metadata = json.loads((folder / 'metadata.json').read_text())
    assert metadata['settings']['min_seconds'] == 0.64
    del metadata['settings']['decoded']  # as in datasets prepared before there was this form
    (folder / 'metadata.json').write_text(json.dumps(metadata))
    tfds_builders.AvFolder(data_dir=tmp_path / 'data').check_settings(tmp_path)


def test_a_dataset_of_another_version_is_opened_and_found_prepared(tmp_path, contents):
    """Its metadata name a module that no longer exists, and lack what was added since."""
    (tmp_path / 'labels.csv').write_text('file,label,split\nb.mp4,dog,train\n')
    (tmp_path / 'b.mp4').hardlink_to(contents['good'][0])
    folder = prepare('av_folder', tmp_path, tmp_path / 'data')
    info = json.loads((folder / 'dataset_info.json').read_text())
    info['moduleName'] = 'perceiver_io.data.tfds_builders'
    (folder / 'dataset_info.json').write_text(json.dumps(info))
    metadata = json.loads((folder / 'metadata.json').read_text())
    for key in ('source', 'csv'):
        del metadata[key]
    (folder / 'metadata.json').write_text(json.dumps(metadata))

    source = prepared.open_prepared(tmp_path / 'data', Selection('train', ClipSpec()))
    assert [record.name for record in source.records] == ['b.mp4']
    run = command(tmp_path, tmp_path / 'data', '--name=av_folder')
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'was prepared before' in done.stdout and 'is not in it' in done.stdout


def test_the_program_says_what_it_does_and_leaves_nothing_else(tmp_path, contents):
    (tmp_path / 'labels.csv').write_text('file,label,split\nb.mp4,dog,train\n')
    (tmp_path / 'b.mp4').hardlink_to(contents['good'][0])
    (tmp_path / 'temporary').mkdir()
    done = subprocess.run(
        command(tmp_path, tmp_path / 'data', '--name=av_folder', '--workers=0'),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {'TMPDIR': str(tmp_path / 'temporary')},
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / 'data' / 'av_folder' / 'transcoded' / '1.0.0'
    assert done.stdout.splitlines() == [
        f'preparing av_folder into {folder}',
        'found the CSV labels.csv',
        'train: 1 clips, 0 rejected',
        f'prepared in {folder}',
    ]
    assert not list((tmp_path / 'temporary').iterdir())
