"""`model.safetensors`: names, shapes and offsets in a JSON header, then the bytes of the arrays.

The safetensors library reads it, and checks every offset against the size of the file. This module
adds what weights need beyond that: float32, finite, of a sensible size.
"""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from perceiver_io.checkpoints.formats.checks import about, check_file, checked, quoted
from perceiver_io.checkpoints.formats.pystate import guess
from perceiver_io.core import files
from perceiver_io.core.errors import InvalidFileError

_LONGEST_HEADER = 8 << 20  # bytes, for about ten thousand arrays


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads {name: float32 array}; UserError if the file is anything else."""
    with about(path):
        check_file(path)
        with open(path, 'rb') as file:
            start = file.read(9)
        if start[8:9] != b'{':
            raise InvalidFileError('it is not a safetensors file: ' + guess(start))
        if int.from_bytes(start[:8], 'little') > _LONGEST_HEADER:
            raise InvalidFileError(
                'it is damaged, or holds far more than weights: its header is too long'
            )
        try:
            arrays = _read(path)
        except safetensors.SafetensorError as error:
            raise InvalidFileError(f'it is damaged ({quoted(str(error))})') from error
        return dict(
            zip(arrays, checked(list(arrays), list(arrays.values()), os.path.getsize(path)))
        )


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    with safetensors.safe_open(path, framework='numpy') as file:
        for name in file.keys():
            dtype = file.get_slice(name).get_dtype()
            if dtype != 'F32':
                raise InvalidFileError(f'{quoted(name)} in it is {dtype}: save float32 weights')
        return {name: file.get_tensor(name) for name in file.keys()}


def write_safetensors(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes float32 arrays with the metadata that the transformers library expects."""
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    files.write_bytes(pathlib.Path(path), safetensors.numpy.save(arrays, metadata={'format': 'pt'}))
