"""Files of latents as `.npz`, a zip archive of arrays; see `latents`."""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, BinaryIO

import numpy as np

from perceiver_io.core.errors import InvalidFileError
from perceiver_io.inference.latents_index import Index, check_latents

_SMALL = ('names', 'of_file', 'frames', 'model')  # what is read at once
_LARGEST = 256 << 20  # bytes of each of these, which a small compressed file can exceed
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write(
    file: BinaryIO, latents: np.ndarray, index: Index, summaries: Mapping[str, np.ndarray]
) -> None:
    """Writes the arrays, in the order that `latents` lists them.

    Args:
        file: to write to.
        latents: [w, n, d], possibly larger than memory.
        index: which are of which file.
        summaries: further arrays by name.
    """
    arrays = {'latents': latents, **summaries, 'names': np.array(index.names)}
    arrays |= {'of_file': index.of_file, 'frames': index.frames}
    np.savez(file, allow_pickle=False, **arrays, model=np.array(json.dumps(index.model)))


def read_index(path: str | os.PathLike) -> tuple[Index, tuple[int, ...]]:
    """The index, and the shape of the latents."""
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if max(sizes.get(f'{key}.npy', 0) for key in _SMALL) > _LARGEST:
        raise InvalidFileError('it is far larger than files of latents are')
    with np.load(path, allow_pickle=False) as arrays:
        names, of_file, frames, model = (arrays[key] for key in _SMALL)
    with zipfile.ZipFile(path).open('latents.npy') as member:
        shape = _read_shape(member)
    names = tuple(map(str, names.ravel()))
    return Index(names, of_file, frames, json.loads(str(model[()]))), shape


def read_latents(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """The latents of each window, [n, d]."""
    with zipfile.ZipFile(path).open('latents.npy') as member:
        count, *shape = _read_shape(member)
        size = 4 * shape[0] * shape[1]
        for _ in range(count):
            data = member.read(size)
            if len(data) < size:
                raise InvalidFileError('it ends early')
            yield np.frombuffer(data, '<f4').reshape(shape)


def _read_shape(member: IO[bytes]) -> tuple[int, ...]:
    """The shape [w, n, d] in the header; `member` is then at the first number."""
    shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
    check_latents(shape, dtype)
    if fortran_order:
        raise InvalidFileError('latents must be in C order')
    return shape
