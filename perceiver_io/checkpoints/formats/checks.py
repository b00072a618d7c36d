"""How a file is refused: in one line that names the file and what is wrong with it."""

import contextlib
import json
import os
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from perceiver_io.core.errors import InvalidFileError, UserError

LARGEST = 4 << 30  # bytes of a file of weights: fifty times the released ones
_LARGEST_JSON = 8 << 20  # bytes: a config with the names of a hundred thousand classes


@contextlib.contextmanager
def about(path: str | os.PathLike) -> Iterator[None]:
    """Puts the name of the file before what is wrong with it."""
    try:
        yield
    except InvalidFileError as error:
        raise UserError(f'{path}: {error}') from error


def quoted(text: str) -> str:
    """A string out of a file, fit for a line: without line breaks, and cut where it is long."""
    return repr(text[:80])


def is_name(value: Any) -> bool:
    """Whether it is a string that can be shown in a line, of any script."""
    return isinstance(value, str) and not any(
        unicodedata.category(letter) in ('Cc', 'Cs', 'Zl', 'Zp') for letter in value
    )


def check_file(path: str | os.PathLike, largest: int = LARGEST) -> None:
    """Raises InvalidFileError where reading would never end, or take all memory."""
    if not os.path.isfile(path):
        raise InvalidFileError('it is no file')
    size = os.path.getsize(path)
    if size > largest:
        raise InvalidFileError(
            f'it has {size:,} bytes, and nothing that is read here more than {largest:,}'
        )


def read_json(path: str | os.PathLike) -> Any:
    """What is in a JSON file; InvalidFileError where it is none."""
    check_file(path, _LARGEST_JSON)
    try:
        return json.loads(pathlib.Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidFileError('it is no JSON') from error


def checked(names: Sequence[str], arrays: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """The arrays in C order and native bytes; InvalidFileError where one is not what weights are.

    Args:
        names: what to call each.
        arrays: possibly views, of which many can be of the same bytes.
        size: bytes of the file, which all of them together cannot exceed.
    """
    if not arrays:
        raise InvalidFileError('it holds no arrays')
    if sum(array.nbytes for array in arrays) > size:
        raise InvalidFileError('its arrays are larger than the file')
    for name, array in zip(names, arrays, strict=True):
        if not np.isfinite(array).all():
            raise InvalidFileError(
                f'{quoted(name)} in it holds NaN or infinity: these weights are spoilt'
            )
    return [np.ascontiguousarray(array, np.float32) for array in arrays]
