"""What TensorBoard and Weights & Biases get."""

import json
import sys

import jax
import numpy as np
import pytest
from helpers.event_files import events

from perceiver_io.core.errors import UsageError
from perceiver_io.training import loop
from perceiver_io.training.metric_writer import Extras, MetricWriter

CONFIG = '{"model": {"latents": 8}}'


def write(writer):
    """One of everything."""
    writer.scalars(3, {'loss': np.float32(0.5), 'learning_rate': 0.1}, 'train')
    writer.image(3, 'reconstruction', np.full((4, 6, 3), 7, np.uint8))
    writer.audio(3, 'original', np.full((800, 1), 1.5, np.float32), 8000)
    if writer.wants_histograms:
        writer.histograms(3, {'encoder/w': np.arange(10.0)})
    writer.close()


def test_tensorboard_gets_everything_and_the_config_as_text(tmp_path):
    write(MetricWriter.open(tmp_path, CONFIG, Extras(histograms=True)))
    found = events(tmp_path / 'tensorboard')
    [(_, text)] = found['config/text_summary']
    assert b'"latents": 8' in text.tensor.string_val[0]
    assert [(step, value.simple_value) for step, value in found['train/loss']] == [(3, 0.5)]
    assert 'train/learning_rate' in found
    [(_, image)] = found['reconstruction']
    assert (image.image.height, image.image.width) == (4, 6)
    [(_, sound)] = found['original']
    assert sound.audio.sample_rate == 8000
    [(_, histogram)] = found['encoder/w']
    assert (histogram.histo.num, histogram.histo.max) == (10, 9)
    lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    assert lines == ['{"step": 3, "train/loss": 0.5, "train/learning_rate": 0.1}']


def test_no_histograms_unless_asked_for(tmp_path):
    writer = MetricWriter.open(tmp_path, CONFIG)
    assert not writer.wants_histograms
    writer.close()
    nobody = MetricWriter((), Extras(histograms=True))  # a process that is not the first
    assert not nobody.wants_histograms
    write(nobody)


def test_what_an_earlier_start_has_logged_is_known(tmp_path):
    write(MetricWriter.open(tmp_path, CONFIG))
    with open(tmp_path / 'metrics.jsonl', 'a') as file:
        file.write(
            '{"step": 6, "train/loss": 0.4}\nbroken\n{"step": 8, "eval/loss": 0.4}\n{"step": 9'
        )
    writer = MetricWriter.open(tmp_path, CONFIG)
    assert writer.written == 6
    assert [loop.part_of(step, 4, writer.written) for step in (5, 6, 7)] == [
        *['compile', 'replay', 'step']
    ]
    writer.close()


def test_each_process_lists_its_own_clips_of_bad_steps(tmp_path, monkeypatch):
    for process in (0, 1):
        monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
        writer = MetricWriter.open(tmp_path, CONFIG)
        writer.bad_step(5, [f'{process}.mp4'])
        write(writer)
    listed = {path.name: json.loads(path.read_text()) for path in tmp_path.glob('bad*')}
    assert listed == {
        'bad_steps.jsonl': {'step': 5, 'clips': ['0.mp4']},
        'bad_steps_1.jsonl': {'step': 5, 'clips': ['1.mp4']},
    }
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 1


def test_without_wandb_the_flag_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(UsageError, match='pip install "wandb<1"'):
        MetricWriter.open(tmp_path, CONFIG, Extras(wandb=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings('default')  # the package has warnings of its own
def test_wandb_gets_the_same_offline_and_one_run_for_each_folder(tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    for _ in range(2):
        write(MetricWriter.open(tmp_path, CONFIG, Extras(histograms=True, wandb=True)))
    name = (tmp_path / 'wandb_id.txt').read_text().strip()
    runs = sorted((tmp_path / 'wandb').glob(f'offline-run-*-{name}/run-{name}.wandb'))
    assert runs
    written = b''.join(path.read_bytes() for path in runs)
    for tag in (b'train/loss', b'train/learning_rate', b'reconstruction', b'encoder/w', b'latents'):
        assert tag in written, tag
    assert list((tmp_path / 'wandb').glob('*/files/media/images/*.png'))
    assert list((tmp_path / 'wandb').glob('*/files/media/audio/*.wav'))
