"""The program that shows what a run would train on."""

import csv
import os
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest
from absl import flags
from PIL import Image

from perceiver_io import cli, inspect
from perceiver_io.core.clip import Clip
from perceiver_io.data import rendered
from perceiver_io.data.config import DataConfig
from perceiver_io.media import contact_sheet
from perceiver_io.media.reader import UnreadableMedia

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Twelve clips of the six classes, and one that cannot be read."""
    root = rendered.render_folder(
        tmp_path_factory.mktemp('cache'),
        train_clips=12,
        val_clips=1,
        size=32,
        seconds=1.0,
        progress=False,
    )
    (root / 'bad.mp4').write_text('no clip')
    with open(root / 'labels.csv', 'a') as table:
        table.write('bad.mp4,circle,train\n')
    return root


def test_the_program(files, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'perceiver_io.inspect',
            f'--path={files}',
            f'--output={tmp_path}/out',
            '--videos=2',
            '--columns=3',
            '--rows=4',
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "split 'train': 12 clips of 6 classes, 0.00 hours, 100.0% with audio" in done.stdout
    assert 'bad.mp4: it is damaged' in done.stdout
    with open(tmp_path / 'out' / 'classes.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['class'] for row in rows] == sorted(rendered.CLASSES)
    assert {row['clips'] for row in rows} == {'2'}
    with open(tmp_path / 'out' / 'skipped.csv', newline='') as file:
        assert [row['file'] for row in csv.DictReader(file)] == ['bad.mp4']
    with Image.open(tmp_path / 'out' / 'contact_sheet.png') as sheet:
        width, height = sheet.size
    assert width >= 1100 and 2 * contact_sheet.STILL < height < 4 * contact_sheet.STILL
    videos = sorted((tmp_path / 'out').glob('*.mp4'))
    assert len(videos) == 2
    with av.open(str(videos[0])) as container:
        assert container.streams.audio and container.streams.video[0].width == 224
        assert sum(1 for _ in container.decode(video=0)) == 25


def test_clips_of_one_name_and_one_that_is_damaged_later_on(files, tmp_path, monkeypatch):
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'x.mp4').hardlink_to(next(files.glob('train/*.mp4')))
    (tmp_path / 'c.mp4').hardlink_to(next(files.glob('train/*.mp4')))
    (tmp_path / 'labels.csv').write_text('file,label\na/x.mp4,p\nb/x.mp4,p\nc.mp4,p\n')
    write_clip = inspect.write_clip

    def damaged(record, path):
        if record.name == 'c.mp4':
            raise UnreadableMedia('it is damaged')
        write_clip(record, path)

    monkeypatch.setattr(inspect, 'write_clip', damaged)
    config = DataConfig(source='folder', path=str(tmp_path))
    inspect.inspect(config, 'train', str(tmp_path / 'out'))
    assert len(list((tmp_path / 'out').glob('*x.mp4'))) == 2


def test_wrong_flags_are_explained(tmp_path):
    with cli.defined(inspect.define_flags):
        flags.FLAGS(['inspect', '--dataset_dir=a', '--path=b', f'--output={tmp_path}'])
        with pytest.raises(ValueError, match='--dataset_dir and --path exclude each other'):
            inspect.main([])


@pytest.mark.parametrize('classes, said', [(1, '3 clips, 1 classes;'), (2, 'of which 1 are shown')])
def test_the_sheet_says_how_many_classes_it_shows(monkeypatch, classes, said):
    monkeypatch.setattr(contact_sheet, 'draw', lambda title, note, rows: note)
    assert said in inspect.draw_sheet('train', 3, classes, {'p': 3}, [('p', [])])


def test_the_report():
    counts = {f'class {i:02}': i for i in range(20)}
    text = inspect.report(
        'val',
        counts,
        np.array([1.0, 1.0, 3.0]),
        np.array([True, True, False]),
        [('x.mp4', 'it is short')],
    )
    assert "split 'val': 3 clips of 19 classes" in text and '66.7% with audio' in text
    assert 'clips per class: 0 to 19, median 9.5' in text
    assert '... 8 more in classes.csv' in text and 'x.mp4: it is short' in text
    bars = {
        line.split('#')[0].strip(): line.count('#') for line in text.splitlines() if '#' in line
    }
    assert bars['class 19'] == 40 and bars['1.00 to 2.00'] == 40 and bars['2.00 to 3.00'] == 20


def test_stills_and_audio_are_where_they_belong():
    size = contact_sheet.STILL
    red = np.zeros((16, size, size, 3), np.uint8)
    red[8] = 255, 0, 0  # the frame in the middle
    loud = np.full((30_720, 1), 20_000, np.int16)
    clips = [Clip(red, loud), None, Clip(red, 0 * loud)]
    sheet = contact_sheet.draw('title', 'note', [contact_sheet.Row('name', '3 clips', clips)])
    is_red = (sheet == (255, 0, 0)).all(-1)
    assert is_red.sum() == 2 * size * size
    tops, lefts = np.nonzero(is_red)
    below = sheet[tops.max() + 1 : tops.max() + 20]
    blue = (below[..., 2].astype(int) - below[..., 0]).max(0) > 60
    one, other = slice(lefts.min(), lefts.min() + size), slice(lefts.max() + 1 - size, lefts.max())
    assert blue[one].any() and not blue[other].any()


def test_long_names_take_several_lines():
    assert contact_sheet.wrap('playing the very long horn', lambda text: len(text) <= 12) == [
        'playing the',
        'very long',
        'horn',
    ]
    assert contact_sheet.wrap('unbreakable', lambda text: False) == ['unbreakable']
