"""A folder of media files with a CSV that lists them, as a source of clips."""

import os
import pathlib
import zlib
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

from perceiver_io.core import files
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.core.progress import progress_bar
from perceiver_io.data.records import (
    Record,
    Selection,
    Source,
    choose_classes,
    in_fraction,
    none_usable,
)
from perceiver_io.media import reader

SPLITS = ('train', 'val', 'test')
_ALIASES = {'validate': 'val', 'validation': 'val'}
_PROBE_THREADS = 8  # probing mostly waits for the disk


class Row(NamedTuple):
    """A line of the CSV."""

    name: str
    label: str
    split: str


def open_folder(
    root: str | os.PathLike[str],
    selection: Selection,
    csv: str | os.PathLike[str] = 'labels.csv',
    progress: bool = True,
) -> Source:
    """Reads the CSV, and probes every selected file.

    The CSV has a header, a column `file` with paths relative to `root`, a column `label`, and
    optionally a column `split` with train, val (or validate, or validation) and test. Without this
    column, a file belongs to val if the CRC-32 of its name is divisible by 10, and to train
    otherwise. The column `label` may be missing where no label is needed.

    Args:
        root: the folder.
        selection: which clips are used; its default classes are the labels of the whole CSV,
            sorted, so that they depend neither on the split nor on which files exist.
        csv: path of the CSV; a relative one starts at `root`.
        progress: whether to show a progress bar.

    Returns:
        The source. Files that are missing, unreadable, too short or otherwise not usable are in
        `skipped`, each with its reason.

    Raises:
        UserError: the folder, the CSV, a column or every usable file is missing, or the CSV
            contradicts itself; the message says what to change.
    """
    root = pathlib.Path(root).expanduser()
    split = _ALIASES.get(selection.split, selection.split)
    if split not in SPLITS:
        raise UsageError(f'{split=} must be one of {", ".join(SPLITS)}')
    table = _table(root, csv)
    rows = read_rows(table, selection.needs_label)
    classes = choose_classes(_classes(rows), selection.classes, selection.only)
    class_index = {name: index for index, name in enumerate(classes)}

    def examine(row: Row) -> Record | str:
        """The record, or the reason why there is none."""
        label = class_index.get(row.label, -1)
        if selection.needs_label and label < 0:
            return f'its class {row.label!r} is unknown' if row.label else 'it has no label'
        path = root / row.name
        try:
            info = reader.probe(path)
        except (reader.UnreadableMedia, OSError) as error:
            return str(error)
        reason = selection.why_unusable(info.has_video, info.has_audio, info.seconds)
        return reason or Record(str(path), row.name, label, info.seconds, info.has_audio)

    rows = [
        row
        for row in rows
        if row.split == split
        and (not selection.only or row.label in selection.only)
        and in_fraction(row.name, selection.fraction)
    ]
    with futures.ThreadPoolExecutor(_PROBE_THREADS) as pool:
        found = list(
            progress_bar(
                pool.map(examine, rows),
                f'probing {split} clips',
                total=len(rows),
                unit='clip',
                disable=not progress,
            )
        )
    records = tuple(each for each in found if isinstance(each, Record))
    skipped = tuple((row.name, each) for row, each in zip(rows, found) if isinstance(each, str))
    if not records:
        where = f'the split {split!r} of {table}'
        if 'split' not in files.read_csv(table)[0]:
            where += ' (it has no column split: about a tenth of the files is in val)'
        raise none_usable(where, skipped)
    return Source(records, classes, skipped)


def class_names(
    root: str | os.PathLike[str], csv: str | os.PathLike[str] = 'labels.csv'
) -> list[str]:
    """The classes that `open_folder` finds by default: the labels of the whole CSV, sorted."""
    return _classes(read_rows(_table(pathlib.Path(root).expanduser(), csv), needs_label=True))


def _classes(rows: Sequence[Row]) -> list[str]:
    return sorted({row.label for row in rows} - {''})


def _table(root: pathlib.Path, csv: str | os.PathLike[str]) -> pathlib.Path:
    if not root.is_dir():
        raise UserError(f'no folder {root}: give the folder that holds the clips')
    return root / pathlib.Path(csv).expanduser()


def read_rows(table: pathlib.Path, needs_label: bool) -> list[Row]:
    """All rows of the CSV, of every split, as `open_folder` describes it."""
    if not table.is_file():
        raise UserError(f'no CSV {table}: write one with the columns file,label[,split]')
    columns, lines = files.read_csv(table)
    for column in ('file', 'label') if needs_label else ('file',):
        if column not in columns:
            raise UserError(
                f'{table} has no column {column!r}, its first line is '
                f'{",".join(columns)!r}: start it with file,label[,split]'
            )
    rows: dict[str, Row] = {}
    for line in lines:
        row = _read_row(line, f'line {line.line} of {table}', 'split' in columns)
        if row.name in rows:
            raise UserError(
                f'line {line.line} of {table} lists {row.name!r} a second time: keep one of the two'
            )
        rows[row.name] = row
    return list(rows.values())


def _read_row(line: files.CsvRow, place: str, has_split: bool) -> Row:
    if line.has_extra:
        raise UserError(
            f'{place} has more cells than the header: put names that contain a comma '
            'in double quotes'
        )
    name = line.cells.get('file')
    if not name:
        raise UserError(f'{place} names no file: name one, or delete the line')
    if has_split:
        split = line.cells.get('split', '').strip()
        split = _ALIASES.get(split, split)
        if split not in SPLITS:
            raise UserError(f'{place} has {split=}: write one of {", ".join(SPLITS)}')
    else:
        split = 'val' if zlib.crc32(name.encode()) % 10 == 0 else 'train'
    return Row(name, line.cells.get('label', '').strip(), split)
