"""Small result files, written whole or not at all."""

import contextlib
import csv
import io
import itertools
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.core.errors import InvalidFileError, UserError

_created: list[pathlib.Path] = []  # by `make_folder`, deepest first


def make_folder(path: str | os.PathLike, flag: str) -> pathlib.Path:
    """The folder, created if it does not exist.

    `remove_empty_folders` removes it again if it was created here and is still empty.

    Raises:
        UserError: it cannot be written; the message names `flag`.
    """
    folder = pathlib.Path(path)
    probe = folder / f'.writable.{uuid.uuid4().hex}'  # other hosts may try the same folder
    try:
        _created.extend(each for each in (folder, *folder.parents) if not each.exists())
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f'{flag}={path} cannot be written ({error.strerror}): choose another folder'
        ) from error
    return folder


def remove_empty_folders() -> None:
    """Removes the folders that `make_folder` created and that hold no file."""
    for folder in _created:
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(path)
    _created.clear()


def cache_folder() -> pathlib.Path:
    """Where what can be fetched or made again is kept: ~/.cache/perceiver_io."""
    base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    return pathlib.Path(base) / 'perceiver_io'


@contextlib.contextmanager
def written_whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary path beside `path`, `.NAME.*.part`, which gets that name at the end.

    At an error, the temporary file is removed and `path` stays as it was. If the program is killed,
    the temporary file stays.
    """
    # Unique also among machines that share the folder.
    partial = path.with_name(f'.{path.name}.{os.getpid()}.{uuid.uuid4().hex[:12]}.part')
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all; an error names `path`."""
    try:
        with written_whole(path) as partial:
            partial.write_bytes(data)
    except OSError as error:  # where the disk is full, it names no file
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: pathlib.Path, text: str) -> None:
    """The same, in UTF-8; bytes of a name that are none become backslash escapes, as in JSON."""
    write_bytes(path, text.encode(errors='backslashreplace'))


def write_csv(
    path: pathlib.Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> None:
    """Writes a header and the rows. None becomes an empty cell; floats keep six digits.

    Args:
        path: of the file.
        rows: the cells by column.
        columns: the header; by default the keys of all rows, as they come first.
    """

    def cell(value: Any) -> Any:
        return f'{value:.6g}' if isinstance(value, float | np.floating) else value

    text = io.StringIO()
    header = list(dict.fromkeys(itertools.chain(*rows))) if columns is None else columns
    writer = csv.DictWriter(text, header, lineterminator='\n')
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


class CsvRow(NamedTuple):
    """A row of a CSV.

    Attributes:
        line: number of its last line in the file, from 1.
        cells: by column, without those that are missing at the end of the row.
        has_extra: whether it has more cells than the header.
    """

    line: int
    cells: dict[str, str]
    has_extra: bool


class Csv(NamedTuple):
    """A CSV with a header."""

    columns: tuple[str, ...]
    rows: list[CsvRow]


def read_csv(path: pathlib.Path) -> Csv:
    """Reads a CSV in UTF-8, with or without a byte order mark.

    Raises:
        InvalidFileError: it is not one.
    """
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            rows = []
            for row in reader:
                cells = {name: cell for name, cell in row.items() if name and cell is not None}
                rows.append(CsvRow(reader.line_num, cells, None in row))
            return Csv(tuple(reader.fieldnames or ()), rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidFileError(f'{path} is not a CSV in UTF-8: {error}') from error
