"""Shows what a run would train on.

    perceiver-io inspect --output=OUT --dataset_dir=DATASETS [--dataset=NAME]
    perceiver-io inspect --output=OUT --path=FOLDER [--csv=labels.csv]
    perceiver-io inspect --output=OUT

for a prepared dataset, a folder, or the rendered clips. Prints the form of the clips, the
counts of the classes, the durations and the share of clips with audio, and writes
OUT/contact_sheet.png, OUT/classes.csv and a few clips as the model of the paper gets them,
OUT/*.mp4.
"""

import collections
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags
from PIL import Image

from perceiver_io import cli
from perceiver_io.core import files
from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.errors import UsageError
from perceiver_io.core.picks import spread
from perceiver_io.core.progress import progress_bar
from perceiver_io.data import sampling, sources
from perceiver_io.data.config import DataConfig
from perceiver_io.data.records import Record, Source
from perceiver_io.media import contact_sheet, reader
from perceiver_io.media.writer import MediaWriter

_BAR = 40  # characters
_LISTED = 12  # classes in the printed list


def main(arguments: Sequence[str]) -> None:
    cli.no_arguments(arguments)
    values = flags.FLAGS
    if values.dataset_dir and values.path:
        raise UsageError('--dataset_dir and --path exclude each other: set one of them')
    config = DataConfig(
        source='tfds' if values.dataset_dir else 'folder' if values.path else 'rendered',
        path=values.dataset_dir or values.path or '',
        dataset=values.dataset,
        csv=values.csv,
    )
    inspect(
        config,
        values.split,
        values.output,
        rows=values.rows,
        columns=values.columns,
        videos=values.videos,
    )


def define_flags() -> None:
    flags.DEFINE_string('output', None, 'Folder for what is written.', required=True)
    flags.DEFINE_string('dataset_dir', None, 'Folder that prepared datasets are in.')
    flags.DEFINE_string('dataset', '', 'Which of those in --dataset_dir, if several.')
    flags.DEFINE_string('path', None, 'Folder of media files.')
    flags.DEFINE_string('csv', 'labels.csv', 'With --path: its list of files.')
    flags.DEFINE_string('split', 'train', 'Which split.')
    flags.DEFINE_integer('rows', 12, 'Classes on the contact sheet.', lower_bound=1)
    flags.DEFINE_integer('columns', 8, 'Clips of each class on the contact sheet.', lower_bound=1)
    flags.DEFINE_integer('videos', 4, 'Clips to write whole.', lower_bound=0)


def inspect(
    config: DataConfig,
    split: str,
    output: str,
    *,
    rows: int = 12,
    columns: int = 8,
    videos: int = 4,
) -> None:
    """Prints and writes what the docstring of this module describes.

    Args:
        config: where the clips come from.
        split: which of them.
        output: folder for what is written.
        rows: classes on the contact sheet, evenly spread over those that have clips.
        columns: clips of each class.
        videos: how many clips to write, evenly spread.
    """
    folder = files.make_folder(output, '--output')
    source = sources.open_source(config, split, ClipSpec(), needs_label=False)
    print(sources.describe(config))
    of_class = collections.defaultdict(list)
    seconds, heard = [], []
    for place, record in enumerate(source.records):
        of_class[name_of(source, record)].append(place)
        seconds.append(record.seconds)
        heard.append(record.has_audio)
    counts = {name: len(places) for name, places in of_class.items()}
    counts |= {name: 0 for name in source.classes if name not in counts}
    print(report(split, counts, np.array(seconds), np.array(heard), source.skipped))

    written = [folder / 'classes.csv', folder / 'contact_sheet.png']
    files.write_csv(written[0], [{'class': name, 'clips': counts[name]} for name in sorted(counts)])
    shown = [
        (name, [source.records[place] for place in spread(of_class[name], columns)])
        for name in spread(sorted(of_class), rows)
    ]
    Image.fromarray(draw_sheet(split, len(source.records), len(of_class), counts, shown)).save(
        written[1]
    )
    (folder / 'skipped.csv').unlink(missing_ok=True)  # of an earlier call
    if source.skipped:
        written.append(folder / 'skipped.csv')
        names = ('file', 'reason')
        files.write_csv(written[-1], [dict(zip(names, clip)) for clip in source.skipped])
    progress = progress_bar(
        spread(source.records, videos), 'writing clips', unit='clip', disable=not videos
    )
    for number, record in enumerate(progress, 1):
        path = folder / f'{number}_{pathlib.PurePath(record.name).stem}.mp4'
        try:
            write_clip(record, path)
        except (
            reader.UnreadableMedia,
            OSError,
        ) as error:  # damaged outside the window on the sheet
            progress.write(f'no video of {record.name}: {error}')
            continue
        written.append(path)
    print('written:')
    for path in written:
        print(f'  {path}')


def name_of(source: Source, record: Record) -> str:
    """The class of a record."""
    return source.classes[record.label] if record.label >= 0 else '(no class)'


def report(
    split: str,
    counts: dict[str, int],
    seconds: np.ndarray,
    heard: np.ndarray,
    skipped: Sequence[tuple[str, str]],
) -> str:
    """The text to print.

    Args:
        split: the name of the split.
        counts: clips of each class.
        seconds: [n] length of each clip.
        heard: bool [n], whether it has audio.
        skipped: (name, reason) of clips that cannot be used.
    """
    order = sorted(counts, key=lambda name: (-counts[name], name))
    lines = [
        f'split {split!r}: {len(seconds)} clips of {sum(map(bool, counts.values()))} classes, '
        f'{seconds.sum() / 3600:.2f} hours, {heard.mean():.1%} with audio',
        '',
        f'clips per class: {min(counts.values())} to {max(counts.values())}, median '
        f'{np.median(list(counts.values())):g}',
    ]
    listed = order if len(order) <= _LISTED else [*order[: _LISTED // 2], *order[-_LISTED // 2 :]]
    for index, name in enumerate(listed):
        if len(listed) < len(order) and index == _LISTED // 2:
            lines.append(f'  ... {len(order) - len(listed)} more in classes.csv')
        lines.append(_bar(name[:28], 28, counts[name], max(counts.values())))
    lines += [
        '',
        f'seconds of a clip: {seconds.min():.2f} to {seconds.max():.2f}, median '
        f'{np.median(seconds):.2f}',
    ]
    sizes, edges = np.histogram(seconds, bins=min(10, max(1, len(np.unique(seconds)))))
    for size, low, high in zip(sizes, edges[:-1], edges[1:]):
        lines.append(_bar(f'{low:.2f} to {high:.2f}', 28, size, sizes.max()))
    if skipped:
        lines += ['', f'{len(skipped)} clips cannot be used (skipped.csv), the first of them:']
        lines += [f'  {name}: {reason}' for name, reason in skipped[:5]]
    return '\n'.join(lines) + '\n'


def _bar(name: str, width: int, value: int, most: int) -> str:
    return f'  {name:{width}} {"#" * round(_BAR * value / most):{_BAR}} {value}'


def draw_sheet(
    split: str,
    clips: int,
    classes: int,
    counts: dict[str, int],
    shown: Sequence[tuple[str, Sequence[Record]]],
) -> np.ndarray:
    """uint8 [h, w, 3]: the contact sheet of these clips, a row for each class."""
    rows = []
    for name, some in progress_bar(shown, 'contact sheet', unit='class'):
        number = f'{counts[name]} clip{"" if counts[name] == 1 else "s"}'
        rows.append(contact_sheet.Row(name, number, [read_middle(record) for record in some]))
    rest = f', of which {len(shown)} are shown' if len(shown) < classes else ''
    note = (
        f'{clips} clips, {classes} classes{rest}; the middle of each clip as the model gets it, '
        f'and {contact_sheet.SPEC.seconds:.2f} s of its audio'
    )
    return contact_sheet.draw(f'split {split!r}', note, rows)


def read_middle(record: Record) -> Clip | None:
    """The window from the middle of a clip, or None if that cannot be read."""
    spec = contact_sheet.SPEC
    try:
        return reader.read_window(record.load(), sampling.centre_start(record.seconds, spec), spec)
    except (reader.UnreadableMedia, OSError):
        return None


def write_clip(record: Record, path: pathlib.Path) -> None:
    """Writes a whole clip, cropped, resized and resampled as the model gets it."""
    spec = ClipSpec()
    with MediaWriter(
        path,
        width=spec.width,
        height=spec.height,
        frame_rate=spec.frame_rate,
        sample_rate=spec.sample_rate,
    ) as writer:
        for clip, valid in reader.read_windows(record.load(), spec):
            writer.write(clip.video[:valid], clip.audio[: valid * spec.samples_per_frame])


if __name__ == '__main__':
    cli.run(main, define_flags)
