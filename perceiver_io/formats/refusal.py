"""How a file is refused: in one line that names the file and what is wrong with it."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np


class Refused(ValueError):
    """What is wrong with a file; `about` adds which file."""


@contextlib.contextmanager
def about(path: str | os.PathLike) -> Iterator[None]:
    """Puts the name of the file before what is wrong with it."""
    try:
        yield
    except Refused as error:
        raise ValueError(f'{path}: {error}') from error


def quoted(text: str) -> str:
    """A string out of a file, fit for a line: without line breaks, and cut where it is long."""
    return repr(text[:80])


def checked(names: Sequence[str], arrays: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """The arrays in C order and native bytes; Refused where one is not what weights are.

    Args:
        names: what to call each.
        arrays: possibly views, of which many can be of the same bytes.
        size: bytes of the file, which all of them together cannot exceed.
    """
    if not arrays:
        raise Refused('it holds no arrays')
    if sum(array.nbytes for array in arrays) > size:
        raise Refused('its arrays are larger than the file')
    for name, array in zip(names, arrays, strict=True):
        if not np.isfinite(array).all():
            raise Refused(f'{quoted(name)} in it holds NaN or infinity: these weights are spoilt')
    return [np.ascontiguousarray(array, np.float32) for array in arrays]
