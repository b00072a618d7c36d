"""Checks of files that nobody vouches for, and how their errors are worded.

The message of an `InvalidFileError` continues the name of the file: 'it holds no arrays'.
"""

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
    """Puts the name of the file before the message of an InvalidFileError."""
    try:
        yield
    except InvalidFileError as error:
        raise UserError(f'{path}: {error}') from error


def quoted(text: str) -> str:
    """A string from a file for an error message: without line breaks, and at most 80 characters."""
    return repr(text[:80])


def is_name(value: Any) -> bool:
    """Whether it is a string, in any script, without control characters and line breaks."""
    return isinstance(value, str) and not any(
        unicodedata.category(letter) in ('Cc', 'Cs', 'Zl', 'Zp') for letter in value
    )


def check_file(path: str | os.PathLike, largest: int = LARGEST) -> None:
    """Raises InvalidFileError for what is no regular file, or is larger than `largest` bytes."""
    if not os.path.isfile(path):
        raise InvalidFileError('it is not a regular file')
    size = os.path.getsize(path)
    if size > largest:
        raise InvalidFileError(
            f'it has {size:,} bytes, and nothing that is read here has more than {largest:,}'
        )


def read_json(path: str | os.PathLike) -> Any:
    """What is in a JSON file; InvalidFileError if it is none."""
    check_file(path, _LARGEST_JSON)
    try:
        return json.loads(pathlib.Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidFileError('it is not JSON') from error


def checked(names: Sequence[str], arrays: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """The arrays as float32 in C order; InvalidFileError if one cannot be that of weights.

    Args:
        names: of the arrays, for errors.
        arrays: possibly views, several of which can share bytes.
        size: bytes of the file. All arrays together cannot have more.
    """
    if not arrays:
        raise InvalidFileError('it holds no arrays')
    if sum(array.nbytes for array in arrays) > size:
        raise InvalidFileError('its arrays are larger than the file')
    for name, array in zip(names, arrays, strict=True):
        if not np.isfinite(array).all():
            raise InvalidFileError(
                f'{quoted(name)} in it holds NaN or infinity, so the weights are unusable'
            )
    return [np.ascontiguousarray(array, np.float32) for array in arrays]
