"""Files of latents as safetensors: a header in JSON, then the arrays; see `latents`.

safetensors itself writes arrays that are in memory. Latents may be larger, so the header is written
here (eight bytes with its length, JSON padded with spaces, then the bytes of all arrays without
gaps). Files are read by the library, which checks every offset against the size of the file.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import safetensors

from perceiver_io.core.errors import InvalidFileError
from perceiver_io.inference.latents_index import Index, check_latents

FORMAT = 'perceiver_io latents'
_DTYPES = {'float32': 'F32', 'float64': 'F64', 'int32': 'I32'}
_ALIGNMENT = 8  # bytes
_CHUNK = 16 << 20  # bytes written at a time
_LONGEST_HEADER = 64 << 20  # bytes: the names of some hundred thousand files


def write(
    file: BinaryIO, latents: np.ndarray, index: Index, summaries: Mapping[str, np.ndarray]
) -> None:
    """Writes the arrays, with the names and the model's facts as JSON in the metadata.

    Args:
        file: to write to.
        latents: [w, n, d], possibly larger than memory.
        index: which are of which file.
        summaries: further arrays by name.
    """
    # The wider types come first, so that every array is aligned.
    small = sorted(summaries.items(), key=lambda item: -item[1].itemsize)
    arrays = dict(small) | {'of_file': index.of_file, 'frames': index.frames, 'latents': latents}
    metadata = {
        'format': FORMAT,
        'names': json.dumps(index.names),
        'model': json.dumps(index.model),
    }
    header: dict[str, object] = {'__metadata__': metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            'dtype': _DTYPES[array.dtype.name],
            'shape': list(array.shape),
            'data_offsets': [begin, end],
        }
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % _ALIGNMENT)
    if len(text) > _LONGEST_HEADER:
        raise InvalidFileError('the names of the files are too long for safetensors: name it .npz')
    file.write(len(text).to_bytes(8, 'little') + text)
    for array in arrays.values():
        rows = max(1, _CHUNK // max(1, array[:1].nbytes))
        for first in range(0, len(array), rows):
            part = array[first : first + rows]
            file.write(np.ascontiguousarray(part, part.dtype.newbyteorder('<')).tobytes())


def read_index(path: str | os.PathLike) -> tuple[Index, tuple[int, ...]]:
    """The index, and the shape of the latents."""
    with open(path, 'rb') as start:
        if int.from_bytes(start.read(8), 'little') > _LONGEST_HEADER:
            raise InvalidFileError('its header is too long')
    with safetensors.safe_open(path, framework='numpy') as file:
        missing = {'latents', 'of_file', 'frames'} - set(file.keys())
        if missing:
            raise InvalidFileError(f'it lacks {min(missing)}')
        metadata = file.metadata() or {}
        if not {'names', 'model'} <= metadata.keys():
            raise InvalidFileError('its metadata lacks names or model')
        names, model = json.loads(metadata['names']), json.loads(metadata['model'])
        latents = file.get_slice('latents')
        shape = tuple(latents.get_shape())
        dtype = latents.get_dtype()
        check_latents(shape, {'F32': '<f4', 'F64': '<f8', 'F16': '<f2'}.get(dtype, 'V'))
        of_file, frames = file.get_tensor('of_file'), file.get_tensor('frames')
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidFileError('names must be the names of files')
    return Index(tuple(names), of_file, frames, model), shape


def read_latents(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """The latents of each window, [n, d]."""
    with safetensors.safe_open(path, framework='numpy') as file:
        latents = file.get_slice('latents')
        for index in range(latents.get_shape()[0]):
            yield latents[index]
