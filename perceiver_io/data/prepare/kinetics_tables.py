"""The tables of Kinetics-700-2020: names of classes, annotations and lists of clips.

Annotations are CSVs with a header, which identify a clip by its YouTube id and the seconds at which
it starts and ends. Lists have no header, and their lines are `path label_index`.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from perceiver_io.core import files
from perceiver_io.core.errors import InvalidFileError, UserError
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
    label: int


@dataclasses.dataclass(frozen=True)
class Tables:
    """The content of the tables of a folder; empty where there are none.

    Attributes:
        annotated: by split and name of the clip, the label as written; '' if it is withheld.
        listed: by split, the lines of the lists.
        folders: by split, the folder that the list lies in.
    """

    annotated: dict[str, dict[str, str]]
    listed: dict[str, list[ListLine]]
    folders: dict[str, pathlib.Path]


@functools.lru_cache(4 * len(CLASSES))
def class_index(name: str) -> int | None:
    """The index of a class from any spelling of its name, or None.

    Trees replace spaces by underscores, and drop brackets, quotes or capitals; the 700 names stay
    different. (The index is not the place among the folders on disk: sorting torchvision's names
    moves five of them, and a missing class moves all that follow it.)
    """
    return _INDEX.get(_plain(name))


def split_of(name: str) -> str | None:
    """The split that a word in the name of a file or folder says: `videos_val`, `train.csv`."""
    found = {
        _SPLIT_WORDS[word] for word in re.split('[^a-z]+', name.lower()) if word in _SPLIT_WORDS
    }
    return found.pop() if len(found) == 1 else None


def read_tables(root: pathlib.Path) -> Tables:
    """Reads all tables in the folder and in its `annotations`, by the form of their first line.

    Raises:
        UserError: a table is damaged, or neither its name nor its content says the split.
    """
    tables = Tables({}, {}, {})
    for folder in (root, root / 'annotations'):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.suffix not in ('.csv', '.txt') or path.name.startswith('.'):
                continue
            try:
                _read_table(path, tables)
            except (UnicodeDecodeError, InvalidFileError) as error:
                raise UserError(
                    f'{path} is not a table in UTF-8 ({error}): correct it, or move it '
                    'out of the folder'
                ) from error
    return tables


def _read_table(path: pathlib.Path, tables: Tables) -> None:
    with open(path, newline='', encoding='utf-8-sig') as file:
        first = file.readline()
        file.seek(0)
        split = split_of(path.name)
        if 'youtube_id' in first:
            for row_split, name, label in _annotations(path):
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


def _annotations(path: pathlib.Path) -> Iterator[tuple[str | None, str, str]]:
    """(split or None, name of the clip, label) of each row."""
    for line, row, _ in files.read_csv(path).rows:
        try:
            start, end = (round(float(row[key])) for key in ('time_start', 'time_end'))
            youtube_id = row['youtube_id']
        except (KeyError, ValueError) as error:
            raise UserError(
                f'line {line} of {path} has no youtube_id, or no time_start or time_end in '
                'seconds: correct it, or delete it'
            ) from error
        split = _SPLIT_WORDS.get(row.get('split', '').strip().lower())
        label = row.get('label', '').strip()
        yield split, f'{youtube_id}_{start:06d}_{end:06d}', label


def _lines(file: Iterable[str], path: pathlib.Path) -> Iterator[ListLine]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        match = _LIST_LINE.fullmatch(line.strip())
        if not match:
            raise UserError(
                f'line {number} of {path} is not `path label_index`: correct it, or delete it'
            )
        yield ListLine(match[1], int(match[2]))


def _plain(name: str) -> str:
    words = re.sub(r'[\'"()]', '', name.casefold())
    return ' '.join(re.split('[^a-z0-9]+', words)).strip()


_INDEX = {_plain(name): index for index, name in enumerate(CLASSES)}
