"""Datasets of decoded frames: what is stored, what is read from them, and resuming."""

import csv

import av
import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from helpers.media_files import frame_times, make_media
from helpers.prepare_runs import command, examples, rejects, stored_clips

from perceiver_io import cli, inspect
from perceiver_io import prepare as program
from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import loader, prepared
from perceiver_io.data.config import DataConfig
from perceiver_io.data.prepare import shard_work, tfds_builders, transcode
from perceiver_io.data.records import Selection
from perceiver_io.media import reader

SIDE = transcode.DECODED_SIDE
SPEC = ClipSpec(frames=4, height=SIDE, width=SIDE)
COUNT = 8


def waves(count, height, width, phase=0.0):
    """Frames of waves of light, which a codec keeps well."""
    t, y, x = np.meshgrid(*map(np.arange, (count, height, width)), indexing='ij')
    wave = 127.5 + 100 * np.sin(0.03 * x + 0.05 * y + 0.2 * t + phase)
    return list(np.repeat(wave[..., np.newaxis], 3, -1).astype(np.uint8))


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Six clips, one that is too short, and one that is missing."""
    folder = tmp_path_factory.mktemp('source')
    rng = np.random.default_rng(0)
    with open(folder / 'labels.csv', 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['file', 'label', 'split'])
        for index in range(COUNT):
            table.writerow([f'{index}.mkv', 'ab'[index % 2], 'train'])
            if index < 7:
                seconds = 0.2 if index == 5 else 1.2
                make_media(
                    folder / f'{index}.mkv',
                    frame_times(25, seconds),
                    images=waves(round(25 * seconds), 260, 320, index),
                    sound=rng.normal(0, 0.1, round(48_000 * seconds)),
                    audio_codec='pcm_s16le',
                )
    return folder


def prepare(source, data_dir, config='decoded'):
    builder = tfds_builders.AvFolder(data_dir=data_dir, config=config, workers=0)
    builder.download_and_prepare(
        download_dir=data_dir / 'downloads',
        download_config=tfds.download.DownloadConfig(manual_dir=source),
    )
    return builder.data_path


@pytest.fixture(scope='module')
def root(source, tmp_path_factory):
    """Prepared in two forms."""
    root = tmp_path_factory.mktemp('datasets')
    for config in ('transcoded', 'decoded'):
        prepare(source, root, config)
    return root


def opened(root, form, spec=SPEC):
    return prepared.open_prepared(root, Selection('train', spec), f'av_folder/{form}')


def psnr(one, other):
    return 10 * np.log10(255**2 / np.square(one.astype(float) - other).mean())


def test_the_form(root):
    for record in opened(root, 'decoded').records:
        (root / 'clip.mp4').write_bytes(record.load())
        with av.open(str(root / 'clip.mp4')) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec.name, audio.codec.name) == ('mpeg2video', 'flac')
            assert (video.width, video.height, video.average_rate) == (SIDE, SIDE, 25)
            assert (audio.rate, audio.channels) == (48_000, 1)
            packets = [packet for packet in container.demux(video) if packet.size]
        assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 12, 24]
        assert all(packet.pts == packet.dts for packet in packets)


def test_small_frames_are_not_enlarged(tmp_path):
    source = make_media(tmp_path / 'a.mkv', frame_times(25, 1), images=waves(25, 90, 122))
    stored = transcode.store(source, transcode.Settings(decoded=True), tmp_path)
    info = reader.probe(stored.media)
    assert (info.width, info.height, stored.seconds) == (90, 90, 1.0)


def test_the_same_windows_as_from_the_file_and_the_transcoded_clip(source, root):
    """The video almost, the audio of a clip at 48 kHz exactly, wherever a window starts."""
    for index, (record, other) in enumerate(
        zip(opened(root, 'decoded').records, opened(root, 'transcoded').records, strict=True)
    ):
        assert (record.name, record.seconds) == (other.name, other.seconds)
        for start in (0.0, 0.28, 0.52, record.seconds - SPEC.seconds):
            found, transcoded, original = (
                reader.read_window(media, start, SPEC)
                for media in (record.load(), other.load(), source / record.name)
            )
            np.testing.assert_array_equal(found.audio, original.audio)
            assert psnr(found.video, original.video) > 44, index
            assert psnr(found.video, transcoded.video) > 38
            assert psnr(found.video[1:], original.video[:-1]) < 30  # another frame is not as near


def test_audio_that_is_resampled_is_that_of_the_whole_clip(root):
    """FLAC needs no audio from long before a window, but the resampling filter some."""
    spec = ClipSpec(frames=4, height=8, width=8, sample_rate=25 * 882)
    record = opened(root, 'decoded').records[0]
    whole = np.concatenate([clip.audio for clip, _ in reader.read_windows(record.load(), spec)])
    for frame in (3, 10, 12, 24):  # 12 and 24 are at the start of a packet of FLAC
        window = reader.read_window(record.load(), frame / 25, spec).audio
        before = whole[frame * 882 : frame * 882 + len(window)]
        assert np.abs(window - before.astype(float)).max() < 0.02 * np.abs(whole).max(), frame


def test_the_loader_needs_no_flag(root):
    source = opened(root, 'decoded')
    one, two = (
        next(
            loader.train_batches(
                source, SPEC, batch_size=4, seed=0, windows_per_read=2, workers=workers
            )
        )
        for workers in (0, 1)
    )
    assert one.clip.video.dtype == np.uint8 and one.clip.audio.dtype == np.int16
    np.testing.assert_array_equal(one.clip.video, two.clip.video)
    np.testing.assert_array_equal(one.clip.audio, two.clip.audio)
    for video, place, start in zip(one.clip.video, one.record, one.start):
        frame = round(float(start) * 25)
        alone = reader.read_window(source.records[place].load(), frame / 25, SPEC)
        np.testing.assert_array_equal(video, alone.video)


def test_of_several_forms_the_transcoded_one_is_read(root):
    assert prepared.find_dataset(root, 'av_folder').parent.name == 'transcoded'
    assert prepared.find_dataset(root, 'av_folder/decoded').parent.name == 'decoded'


def test_larger_windows_are_refused(root):
    large = ClipSpec(frames=4, height=SIDE + 2, width=SIDE)
    with pytest.raises(ValueError, match=f'stores {SIDE} x {SIDE} pixels, fewer than .* of 226 x'):
        opened(root, 'decoded', large)
    opened(root, 'transcoded', large)
    opened(root, 'decoded', ClipSpec(frames=4, height=512, width=512, video=False))


def test_inspect_shows_the_form(root, tmp_path, capsys):
    config = DataConfig(source='tfds', path=str(root), dataset='av_folder/decoded')
    inspect.inspect(config, 'train', str(tmp_path / 'out'), videos=1)
    printed = capsys.readouterr().out
    assert 'av_folder/decoded/1.0.0: MPEG-2 at 25 frames/s' in printed
    assert "split 'train': 6 clips of 2 classes" in printed
    with av.open(str(next((tmp_path / 'out').glob('*.mp4')))) as container:
        assert container.streams.video[0].codec.name == 'h264'


def test_rejects_and_resuming(source, root, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_work, 'CHUNK_CLIPS', 2)
    with stored_clips(interrupt_at=5), pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path)
    with stored_clips() as again:
        folder = prepare(source, tmp_path)
    assert len(again) == COUNT - 4  # two chunks are not done again
    whole = prepared.find_dataset(root, 'av_folder/decoded')
    assert examples(folder) == examples(whole)
    assert (
        rejects(folder)
        == rejects(whole)
        == [
            ('train', '5.mkv', 'short'),
            ('train', '7.mkv', 'missing'),
        ]
    )
    transcoded = prepared.find_dataset(root, 'av_folder/transcoded')
    assert rejects(transcoded) == rejects(whole)


def test_the_flag(source, root, tmp_path):
    with cli.defined(program.define_flags):
        flags.FLAGS(command(source, tmp_path, '--name=av_folder', '--workers=0', '--decoded')[2:])
        assert program.main([]) == 0
    folder = prepared.find_dataset(tmp_path)
    assert folder == tmp_path / 'av_folder' / 'decoded' / '1.0.0'
    assert examples(folder) == examples(prepared.find_dataset(root, 'av_folder/decoded'))
