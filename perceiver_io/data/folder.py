"""A folder of media files, described by a CSV: the one kind of source there is."""

import csv as csv_module
import dataclasses
import os
import pathlib
import zlib
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

import tqdm

from perceiver_io.clip import ClipSpec
from perceiver_io.data import media, sampling

SPLITS = ('train', 'val', 'test')
_ALIASES = {'validate': 'val', 'validation': 'val'}
_PROBE_THREADS = 8  # probing waits for the disk more than it computes


@dataclasses.dataclass(frozen=True)
class Record:
    """A clip that can be read.

    Attributes:
        path: of the file.
        name: as the CSV writes it.
        label: index into `Source.classes`; -1 for none.
        seconds: what windows may be drawn from.
        has_audio: False where reading gives silence instead of sound.
    """

    path: str
    name: str
    label: int
    seconds: float
    has_audio: bool


@dataclasses.dataclass(frozen=True)
class Source:
    """The clips of one split; small, and it pickles for worker processes.

    Attributes:
        records: the clips that can be read, in the order of the CSV.
        classes: name of each class index.
        skipped: (name, reason) of the rows of this split that cannot be used.
    """

    records: tuple[Record, ...]
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()


class Row(NamedTuple):
    """A line of the CSV."""

    name: str
    label: str
    split: str


def open_folder(root: str | os.PathLike, *, split: str, csv: str | os.PathLike = 'labels.csv',
                spec: ClipSpec, classes: Sequence[str] | None = None,
                missing_audio: str = 'silence', needs_label: bool = True,
                progress: bool = True) -> Source:
    """Reads the CSV, and probes every file of a split.

    The CSV has a header, a column `file` with paths relative to `root`, a column `label`, and
    perhaps a column `split` of train, val (or validate, or validation) and test. Without it, a
    file is in val if the CRC-32 of its name is divisible by 10, and otherwise in train (ours).

    Args:
        root: the folder.
        split: one of `SPLITS`, or another name of it.
        csv: path of the CSV; a relative one starts at `root`.
        spec: the windows that will be read: shorter files are of no use.
        classes: the class of each index. By default the labels of the whole CSV, sorted, so that
            they depend neither on the split nor on which files are there.
        missing_audio: what a file without sound is, where `spec` asks for sound: 'silence' or
            something to 'skip'.
        needs_label: whether a row without a label, or with one that is not in `classes`, is
            skipped. If not, its label is -1, and the column `label` may be missing.
        progress: whether to show a progress bar.

    Returns:
        The source. Files that are missing, unreadable, too short or otherwise of no use are named
        in `skipped`, each with its reason.

    Raises:
        ValueError: the folder, the CSV, a column or every usable file is missing, or the CSV
            contradicts itself; the message says what to change.
    """
    root = pathlib.Path(root).expanduser()
    split = _ALIASES.get(split, split)
    if split not in SPLITS:
        raise ValueError(f'{split=} must be one of {", ".join(SPLITS)}')
    if missing_audio not in ('silence', 'skip'):
        raise ValueError(f"{missing_audio=} must be 'silence' or 'skip'")
    if not root.is_dir():
        raise ValueError(f'no folder {root}: give the folder that holds the clips')
    table = root / pathlib.Path(csv).expanduser()
    rows = read_rows(table, needs_label)
    if classes is None:
        classes = sorted({row.label for row in rows} - {''})
    class_index = {name: index for index, name in enumerate(classes)}
    if len(class_index) < len(classes):
        raise ValueError('classes names a class twice: each must have one index')

    def examine(row: Row) -> Record | str:
        """The record, or the reason why there is none."""
        label = class_index.get(row.label, -1)
        if needs_label and label < 0:
            return f'its class {row.label!r} is unknown' if row.label else 'it has no label'
        path = root / row.name
        try:
            info = media.probe(path)
        except (media.UnreadableMedia, OSError) as error:
            return str(error)
        reason = _unusable(info, spec, missing_audio)
        return reason or Record(str(path), row.name, label, info.seconds, info.has_audio)

    rows = [row for row in rows if row.split == split]
    with futures.ThreadPoolExecutor(_PROBE_THREADS) as pool:
        found = list(tqdm.tqdm(pool.map(examine, rows), f'probing {split} clips', len(rows),
                               unit='clip', disable=not progress))
    records = tuple(each for each in found if isinstance(each, Record))
    skipped = tuple((row.name, each) for row, each in zip(rows, found) if isinstance(each, str))
    if not records:
        reasons = '; '.join(f'{name}: {reason}' for name, reason in skipped[:3])
        raise ValueError(
            f'no usable clip for the split {split!r} in {root}: '
            + (f'{len(skipped)} skipped ({reasons}{"; ..." if len(skipped) > 3 else ""})'
               if skipped else f'{table.name} has no row of this split, add some'))
    return Source(records, tuple(classes), skipped)


def _unusable(info: media.MediaInfo, spec: ClipSpec, missing_audio: str) -> str | None:
    if spec.video and not info.has_video:
        return 'it has no picture'
    if spec.audio and not info.has_audio and (missing_audio == 'skip' or not spec.video):
        return 'it has no sound'
    if not sampling.fits(info.seconds, spec):
        return f'it lasts {info.seconds:.2f} s, less than a window of {spec.seconds:.2f} s'
    return None


def read_rows(table: pathlib.Path, needs_label: bool) -> list[Row]:
    """All rows of the CSV, of every split, as `open_folder` describes it."""
    if not table.is_file():
        raise ValueError(f'no CSV {table}: write one with the columns file,label[,split]')
    rows = {}
    try:
        with open(table, newline='', encoding='utf-8-sig') as file:
            reader = csv_module.DictReader(file)
            columns = reader.fieldnames or ()
            for column in ('file', 'label') if needs_label else ('file',):
                if column not in columns:
                    raise ValueError(f'{table} has no column {column!r}, its first line is '
                                     f'{",".join(columns)!r}: start it with file,label[,split]')
            for cells in reader:
                row = _read_row(cells, f'line {reader.line_num} of {table}')
                if row.name in rows:
                    raise ValueError(f'line {reader.line_num} of {table} lists {row.name!r} a '
                                     'second time: keep one of the two')
                rows[row.name] = row
    except (UnicodeDecodeError, csv_module.Error) as error:
        raise ValueError(f'{table} is not a CSV in UTF-8: {error}') from error
    return list(rows.values())


def _read_row(cells: dict, place: str) -> Row:
    if None in cells:
        raise ValueError(f'{place} has more cells than the header: put names that contain a comma '
                         'in double quotes')
    name = cells['file']
    if not name:
        raise ValueError(f'{place} names no file: name one, or delete the line')
    if 'split' in cells:
        split = (cells['split'] or '').strip()
        split = _ALIASES.get(split, split)
        if split not in SPLITS:
            raise ValueError(f'{place} has {split=}: write one of {", ".join(SPLITS)}')
    else:
        split = 'val' if zlib.crc32(name.encode()) % 10 == 0 else 'train'
    return Row(name, (cells.get('label') or '').strip(), split)
