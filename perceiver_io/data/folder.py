"""A folder of media files, described by a CSV, as a source of clips."""

import csv as csv_module
import os
import pathlib
import zlib
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

import tqdm

from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data.records import (
    Record,
    Source,
    check_missing_audio,
    choose_classes,
    in_fraction,
    none_usable,
    unusable,
)
from perceiver_io.media import reader

SPLITS = ('train', 'val', 'test')
_ALIASES = {'validate': 'val', 'validation': 'val'}
_PROBE_THREADS = 8  # probing waits for the disk more than it computes


class Row(NamedTuple):
    """A line of the CSV."""

    name: str
    label: str
    split: str


def open_folder(
    root: str | os.PathLike,
    *,
    split: str,
    csv: str | os.PathLike = 'labels.csv',
    spec: ClipSpec,
    classes: Sequence[str] | None = None,
    only: Sequence[str] = (),
    fraction: float = 1.0,
    missing_audio: str = 'silence',
    needs_label: bool = True,
    progress: bool = True,
) -> Source:
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
        only: the classes that are read; empty for all. See `records.choose_classes`.
        fraction: of the clips that is read, chosen by `records.in_fraction`.
        missing_audio: what a file without sound is, where `spec` asks for sound: 'silence' or
            something to 'skip'.
        needs_label: whether a row without a label, or with one that is not in `classes`, is
            skipped. If not, its label is -1, and the column `label` may be missing.
        progress: whether to show a progress bar.

    Returns:
        The source. Files that are missing, unreadable, too short or otherwise of no use are named
        in `skipped`, each with its reason.

    Raises:
        UserError: the folder, the CSV, a column or every usable file is missing, or the CSV
            contradicts itself; the message says what to change.
    """
    root = pathlib.Path(root).expanduser()
    split = _ALIASES.get(split, split)
    if split not in SPLITS:
        raise UserError(f'{split=} must be one of {", ".join(SPLITS)}')
    check_missing_audio(missing_audio)
    table = _table(root, csv)
    rows = read_rows(table, needs_label)
    classes = choose_classes(_classes(rows), classes, only)
    class_index = {name: index for index, name in enumerate(classes)}

    def examine(row: Row) -> Record | str:
        """The record, or the reason why there is none."""
        label = class_index.get(row.label, -1)
        if needs_label and label < 0:
            return f'its class {row.label!r} is unknown' if row.label else 'it has no label'
        path = root / row.name
        try:
            info = reader.probe(path)
        except (reader.UnreadableMedia, OSError) as error:
            return str(error)
        reason = unusable(info.has_video, info.has_audio, info.seconds, spec, missing_audio)
        return reason or Record(str(path), row.name, label, info.seconds, info.has_audio)

    rows = [
        row
        for row in rows
        if row.split == split
        and (not only or row.label in only)
        and in_fraction(row.name, fraction)
    ]
    with futures.ThreadPoolExecutor(_PROBE_THREADS) as pool:
        found = list(
            tqdm.tqdm(
                pool.map(examine, rows),
                f'probing {split} clips',
                len(rows),
                unit='clip',
                disable=not progress,
            )
        )
    records = tuple(each for each in found if isinstance(each, Record))
    skipped = tuple((row.name, each) for row, each in zip(rows, found) if isinstance(each, str))
    if not records:
        raise none_usable(f'the split {split!r} of {table}', skipped)
    return Source(records, classes, skipped)


def class_names(root: str | os.PathLike, csv: str | os.PathLike = 'labels.csv') -> list[str]:
    """The classes that `open_folder` finds by default: the labels of the whole CSV, sorted."""
    return _classes(read_rows(_table(pathlib.Path(root).expanduser(), csv), needs_label=True))


def _classes(rows: Sequence[Row]) -> list[str]:
    return sorted({row.label for row in rows} - {''})


def _table(root: pathlib.Path, csv: str | os.PathLike) -> pathlib.Path:
    if not root.is_dir():
        raise UserError(f'no folder {root}: give the folder that holds the clips')
    return root / pathlib.Path(csv).expanduser()


def read_rows(table: pathlib.Path, needs_label: bool) -> list[Row]:
    """All rows of the CSV, of every split, as `open_folder` describes it."""
    if not table.is_file():
        raise UserError(f'no CSV {table}: write one with the columns file,label[,split]')
    rows = {}
    try:
        with open(table, newline='', encoding='utf-8-sig') as file:
            reader = csv_module.DictReader(file)
            columns = reader.fieldnames or ()
            for column in ('file', 'label') if needs_label else ('file',):
                if column not in columns:
                    raise UserError(
                        f'{table} has no column {column!r}, its first line is '
                        f'{",".join(columns)!r}: start it with file,label[,split]'
                    )
            for cells in reader:
                row = _read_row(cells, f'line {reader.line_num} of {table}')
                if row.name in rows:
                    raise UserError(
                        f'line {reader.line_num} of {table} lists {row.name!r} a '
                        'second time: keep one of the two'
                    )
                rows[row.name] = row
    except (UnicodeDecodeError, csv_module.Error) as error:
        raise UserError(f'{table} is not a CSV in UTF-8: {error}') from error
    return list(rows.values())


def _read_row(cells: dict, place: str) -> Row:
    if None in cells:
        raise UserError(
            f'{place} has more cells than the header: put names that contain a comma '
            'in double quotes'
        )
    name = cells['file']
    if not name:
        raise UserError(f'{place} names no file: name one, or delete the line')
    if 'split' in cells:
        split = (cells['split'] or '').strip()
        split = _ALIASES.get(split, split)
        if split not in SPLITS:
            raise UserError(f'{place} has {split=}: write one of {", ".join(SPLITS)}')
    else:
        split = 'val' if zlib.crc32(name.encode()) % 10 == 0 else 'train'
    return Row(name, (cells.get('label') or '').strip(), split)
