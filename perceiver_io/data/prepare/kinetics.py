"""What is written about Kinetics-700-2020 beside its clips: classes, annotations and lists.

Two forms of list exist. Annotations are CSVs with a header, which name clips by YouTube's id and
the seconds where they start and end. Lists have no header, and a line is `path label_index`.
"""

import csv
import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from perceiver_io.core.errors import UserError
from perceiver_io.core.kinetics700 import CLASSES

_SPLIT_WORDS = {
    'train': 'train',
    'val': 'val',
    'validate': 'val',
    'validation': 'val',
    'test': 'test',
}
_LIST_LINE = re.compile(r'(.*\S)[ \t,]+(\d+)\s*')


class ListLine(NamedTuple):
    """A line of a list without header."""

    path: str
    index: int


@dataclasses.dataclass(frozen=True)
class Tables:
    """What the tables of a folder say; empty where there are none.

    Attributes:
        annotated: by split and name of the clip, the label as written; '' for one withheld.
        listed: by split, the lines of the lists.
        folders: by split, the folder that the list lies in.
    """

    annotated: dict[str, dict[str, str]]
    listed: dict[str, list[ListLine]]
    folders: dict[str, pathlib.Path]


@functools.lru_cache(4 * len(CLASSES))
def class_index(name: str) -> int | None:
    """The class of which this is a way of writing the name, or None.

    Trees replace spaces by underscores, and drop brackets, quotes or capitals; none of this makes
    two of the 700 names the same. (The index is never that of a sort of what is on disk: sorting
    torchvision's names moves five of them, and a missing class all that follow it.)
    """
    return _INDEX.get(_plain(name))


def split_of(name: str) -> str | None:
    """The split that is a word in the name of a file or folder: `videos_val`, `train.csv`."""
    found = {
        _SPLIT_WORDS[word] for word in re.split('[^a-z]+', name.lower()) if word in _SPLIT_WORDS
    }
    return found.pop() if len(found) == 1 else None


def read_tables(root: pathlib.Path) -> Tables:
    """Reads all tables in the folder and in its `annotations`, told apart by their first line.

    Raises:
        UserError: a table is damaged, or one that names no split is in no split's name.
    """
    tables = Tables({}, {}, {})
    for folder in (root, root / 'annotations'):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.suffix not in ('.csv', '.txt') or path.name.startswith('.'):
                continue
            try:
                _read_table(path, tables)
            except (UnicodeDecodeError, csv.Error) as error:
                raise UserError(
                    f'{path} is not a table in UTF-8 ({error}): mend it, or move it '
                    'out of the folder'
                ) from error
    return tables


def _read_table(path: pathlib.Path, tables: Tables) -> None:
    with open(path, newline='', encoding='utf-8-sig') as file:
        first = file.readline()
        file.seek(0)
        split = split_of(path.name)
        if 'youtube_id' in first:
            for row_split, name, label in _annotations(file, path):
                row_split = row_split or split
                if row_split is None:
                    raise UserError(
                        f'{path} names no split: give it a column `split`, or train, '
                        'val or test in its name'
                    )
                tables.annotated.setdefault(row_split, {}).setdefault(name, label)
        elif split and _LIST_LINE.fullmatch(first.strip()):
            tables.listed.setdefault(split, []).extend(_lines(file, path))
            tables.folders.setdefault(split, path.parent)


def _annotations(file, path: pathlib.Path) -> Iterator[tuple[str | None, str, str]]:
    """(split or None, name of the clip, label) of each row."""
    reader = csv.DictReader(file)
    for row in reader:
        try:
            start, end = (round(float(row[key])) for key in ('time_start', 'time_end'))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f'line {reader.line_num} of {path} has no time_start or time_end in '
                'seconds: mend it, or delete it'
            ) from error
        split = _SPLIT_WORDS.get((row.get('split') or '').strip().lower())
        label = (row.get('label') or '').strip()
        yield split, f'{row["youtube_id"]}_{start:06d}_{end:06d}', label


def _lines(file, path: pathlib.Path) -> Iterator[ListLine]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        match = _LIST_LINE.fullmatch(line.strip())
        if not match:
            raise UserError(
                f'line {number} of {path} is not `path label_index`: mend it, or delete it'
            )
        yield ListLine(match[1], int(match[2]))


def _plain(name: str) -> str:
    words = re.sub(r'[\'"()]', '', name.casefold())
    return ' '.join(re.split('[^a-z0-9]+', words)).strip()


_INDEX = {_plain(name): index for index, name in enumerate(CLASSES)}
