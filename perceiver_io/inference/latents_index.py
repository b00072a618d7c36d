"""Which latents in a file are of which media file, and of which model."""

import dataclasses
from typing import Any

import numpy as np

from perceiver_io.core.errors import InvalidFileError


@dataclasses.dataclass(frozen=True)
class Index:
    """What a file of latents holds besides arrays of numbers; see `latents`.

    Attributes:
        names: of the f media files.
        of_file: int [w], the file that each window is of.
        frames: int [w], valid frames of each window.
        model: facts of the model.
    """

    names: tuple[str, ...]
    of_file: np.ndarray
    frames: np.ndarray
    model: dict[str, Any]

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises InvalidFileError where this does not fit itself, or latents of shape [w, n, d]."""
        for name, array in (('of_file', self.of_file), ('frames', self.frames)):
            if array.shape != shape[:1] or array.dtype.kind not in 'iu':
                raise InvalidFileError(
                    f'{name} must be whole numbers [{shape[0]}], one for each window'
                )
        if not isinstance(self.model, dict):
            raise InvalidFileError('model must be a JSON object')
        files = np.unique(self.of_file).tolist()
        ascending = bool((np.diff(self.of_file.astype(int)) >= 0).all())
        if not shape[0] or files != list(range(len(self.names))) or not ascending:
            raise InvalidFileError('of_file must have every file, in ascending order')
        if any('\0' in name or not name.strip() for name in self.names):
            raise InvalidFileError('names must be the names of files')


def check_latents(shape: tuple[int, ...], dtype: np.dtype | str) -> None:
    """Raises InvalidFileError unless latents are float32 [w, n, d]; `dtype` as numpy names it."""
    if len(shape) != 3 or np.dtype(dtype) != np.dtype('<f4'):
        raise InvalidFileError(
            f'latents are {np.dtype(dtype)} {tuple(shape)} and must be float32 [w, n, d]'
        )
