"""Small result files, written whole or not at all."""

import csv
import io
import os
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_io.core.errors import UserError


def make_folder(path: str | os.PathLike, flag: str) -> pathlib.Path:
    """The folder, made if it is not there; UserError, naming `flag`, if it cannot be written."""
    folder = pathlib.Path(path)
    probe = folder / f'.writable.{os.getpid()}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f'{flag}={path} cannot be written ({error.strerror}): choose another folder'
        ) from error
    return folder


def cache_folder() -> pathlib.Path:
    """Where what can be fetched or made again is kept: ~/.cache/perceiver_io."""
    base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    return pathlib.Path(base) / 'perceiver_io'


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes so that a reader never sees half of it."""
    # Unique also among machines that share the folder.
    partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.part')
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:  # where the disk is full, it does not say which
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """The same, in UTF-8; bytes of a name that are none become backslash escapes, as in JSON."""
    write_bytes(path, text.encode(errors='backslashreplace'))


def write_csv(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes at least one row, under a line with the keys of the first.

    None becomes an empty cell; floats keep six digits.
    """

    def cell(value: Any) -> Any:
        return f'{value:.6g}' if isinstance(value, float | np.floating) else value

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    write_text(path, text.getvalue())
