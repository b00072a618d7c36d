"""A synthetic Kinetics for tests: a few tiny clips, hard-linked into each of the known trees.

Some are good, in many containers and rates. The rest is damaged in every way that is known of.
"""

import csv
import fractions
import pathlib
import random
from typing import NamedTuple

import av
import numpy as np
from helpers import media_files

from perceiver_io.core.kinetics700 import CLASSES

FORMS = ('cvdf_flat', 'cvdf', 'torchvision', 'mmaction2', 'list')
# All whose index torchvision's sort moves, and all else that trees write in other ways.
CHOSEN = (
    'curling (sport)',
    'curling eyelashes',
    'curling hair',
    'hugging (not baby)',
    'hugging baby',
    "massaging person's head",
    'passing American football (in game)',
    'passing American football (not in game)',
    'zumba',
    *CLASSES[5::21],
)
UNKNOWN = 'unknown dance'


class Planted(NamedTuple):
    """A clip of the synthetic Kinetics: `reason` is why it must be rejected, or ''."""

    split: str
    name: str
    class_name: str
    content: str
    reason: str


def make_contents(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path | None, str]]:
    """By name of the content, a file (None for a missing one) and the reason for its rejection."""
    folder.mkdir()
    times = media_files.frame_times

    def make(name, times, **settings):
        settings = {
            'sound': media_files.burst(
                0.5, settings.get('sample_rate', 48_000), settings.pop('samples', 48_000)
            )
        } | settings
        return media_files.make_media(folder / name, times, **settings)

    good = make('good.mp4', times(25, 1))
    stereo = np.stack([media_files.burst(0.3, 44_100, 44_100)] * 2)
    uneven = [fractions.Fraction(n, 120) for n in (0, 3, 9, 20, 31, 40, 52, 66, 80, 97, 110, 119)]
    contents = {
        'good': good,
        'stereo': make('stereo.mp4', times(30, 1), sound=stereo, sample_rate=44_100),
        'slow': make('slow.mp4', times(15, 1), sample_rate=22_050, samples=22_050),
        'uneven': make('uneven.mp4', uneven, time_base=fractions.Fraction(1, 120)),
        'matroska': make('matroska.mkv', times(24, 1), audio_codec='libopus'),
        'avi': make('avi.avi', times(25, 1), video_codec='mpeg4', audio_codec='libmp3lame'),
        'turned': make('turned.mp4', times(25, 1), rotation=90),
        'late sound': make('late.mp4', times(25, 1), sound_at=0.2, samples=30_000),
        'long sound': make('long.mp4', times(25, 1), samples=80_000),
    }
    silent = make('silent.mp4', times(25, 1), sound=None)
    reasons = {
        'missing': (None, 'missing'),
        'short': (make('short.mp4', times(25, 0.4), samples=20_000), 'short'),
        'silent': (silent, 'no audio'),
        'audio only': (make('sound.mp4', None), 'no video'),
    }
    data = good.read_bytes()
    front = _index_in_front(good, folder / 'front.mp4').read_bytes()
    noise = list(np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), np.uint8))
    spoilt = bytearray(
        _index_in_front(
            make('noise.mp4', times(25, 2), images=noise), folder / 'noise in front.mp4'
        ).read_bytes()
    )
    middle = slice(len(spoilt) // 2, len(spoilt) * 3 // 4)  # far from what the header points to
    spoilt[middle] = np.random.default_rng(0).bytes(middle.stop - middle.start)
    pointer = b'version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1024\n'
    for name, content, reason in [
        ('empty', b'', 'empty'),
        ('moov atom not found', data[: len(data) * 2 // 3], 'damaged'),
        ('cut off', front[: len(front) * 2 // 3], 'damaged'),
        ('spoilt', bytes(spoilt), 'damaged'),
        ('no streams', data[:32], 'damaged'),
        ('pointer', pointer, 'not media'),
        ('web page', b'<html>Video unavailable</html>', 'not media'),
    ]:
        path = folder / f'{name}.mp4'
        path.write_bytes(content)
        reasons[name] = path, reason
    return {name: (path, '') for name, path in contents.items()} | reasons


def plan(
    contents: dict[str, tuple[pathlib.Path | None, str]], clips: int, bad: int
) -> list[Planted]:
    """So many clips, of which `bad` must be rejected: for every reason equally many."""
    rng = random.Random(0)
    good = [name for name, (_, reason) in contents.items() if not reason]
    wrong = [name for name, (_, reason) in contents.items() if reason] + [UNKNOWN]
    letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_'
    planted = []
    for number in range(clips):
        content = wrong[number % len(wrong)] if number < bad else good[number % len(good)]
        youtube_id = rng.choice('-_' + letters) + ''.join(rng.choices(letters, k=10))
        start = rng.randrange(300)
        unknown = content == UNKNOWN
        planted.append(
            Planted(
                ('train', 'train', 'train', 'val', 'test')[rng.randrange(5)],
                f'{youtube_id}_{start:06d}_{start + 10:06d}',
                UNKNOWN if unknown else CHOSEN[number % len(CHOSEN)],
                'good' if unknown else content,
                'unknown class' if unknown else contents[content][1],
            )
        )
    return planted


def build(
    form: str,
    root: pathlib.Path,
    planted: list[Planted],
    contents: dict[str, tuple[pathlib.Path | None, str]],
) -> pathlib.Path:
    """Lays the clips out in one of `FORMS`, with what else lies about in such folders."""
    lists = {}
    for clip in planted:
        path = root / _folder(form, clip) / clip.name
        path.parent.mkdir(parents=True, exist_ok=True)
        source, _ = contents[clip.content]
        path = path.with_name(clip.name + (source.suffix if source else '.mp4'))
        if source:
            path.hardlink_to(source)
            if clip.name[0] < 'M':
                path.with_name(f'._{path.name}').write_bytes(b'\0\5\26\7junk')
        index = CLASSES.index(clip.class_name) if clip.class_name != UNKNOWN else len(CLASSES)
        lists.setdefault(clip.split, []).append(f'{path} {index}\n')
    (root / 'README.txt').write_text('Not a list.\n')
    if form == 'list':
        for split, lines in lists.items():
            (root / f'{split}.csv').write_text(''.join(lines))
    else:
        write_annotations(root / 'annotations', planted, is_cc=form == 'torchvision')
    return root


def write_annotations(folder: pathlib.Path, planted: list[Planted], is_cc: bool = False) -> None:
    """The CSVs as they are published; with a column `is_cc`, as older ones have it."""
    folder.mkdir()
    published = {'train': 'train', 'val': 'validate', 'test': 'test'}
    for split in {clip.split for clip in planted}:
        with open(folder / f'{split}.csv', 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(
                ['label', 'youtube_id', 'time_start', 'time_end', 'split'] + ['is_cc'] * is_cc
            )
            for clip in planted:
                if clip.split == split:
                    start, end = int(clip.name[12:18]), int(clip.name[19:])
                    writer.writerow(
                        [clip.class_name, clip.name[:11], start, end, published[split]]
                        + [0] * is_cc
                    )


def _folder(form: str, clip: Planted) -> str:
    stripped = clip.class_name.replace(' ', '_').translate(str.maketrans('', '', "'()"))
    return {
        'cvdf_flat': clip.split,
        'cvdf': f'{clip.split}/{clip.class_name}',
        'torchvision': f'{clip.split}/{stripped}',
        'mmaction2': f'videos_{clip.split}/{clip.class_name.replace(" ", "_")}',
        'list': f'some clips/{clip.split}',
    }[form]


def _index_in_front(source: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """The same streams in a file that begins with its index."""
    with (
        av.open(str(source)) as before,
        av.open(str(path), 'w', options={'movflags': 'faststart'}) as after,
    ):
        copies = {stream.index: after.add_stream_from_template(stream) for stream in before.streams}
        for packet in before.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                after.mux(packet)
    return path
