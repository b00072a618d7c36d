"""Files of latents: written and read as streams, as safetensors or as `.npz`.

    latents      float32 [w, n, d]   of every window of every file
    pooled       float32 [w, d]      their mean over the latents
    file_pooled  float32 [f, d]      its mean over the windows of a file, weighted by valid frames
    names        str     [f]         the files
    of_file      int32   [w]         index of the file that a window is of, ascending
    start        float64 [w]         where in the file the window starts, in seconds
    frames       int32   [w]         its valid frames; the rest of the window is padding
    model        str     []          the model's config and what else is known, as JSON

w counts windows, f files. In a safetensors file, `names` and `model` are JSON in the metadata, and
`safetensors.safe_open(path, 'numpy').get_slice('latents')[3:5]` reads some windows. In an `.npz`,
all are arrays that `numpy.load(path)` reads without pickles. The contents are this project's own.
"""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from perceiver_io.core import files
from perceiver_io.core.errors import InvalidFileError
from perceiver_io.inference import latents_npz, latents_safetensors
from perceiver_io.inference.latents_index import Index

SAFETENSORS = '.safetensors'


class LatentsWriter:
    """Writes a file of latents in bounded memory: `with LatentsWriter(…) as writer: writer.add(…)`.

    The latents are kept on disk beside the target until their number is known. The target gets its
    name when it is complete, and not at all after an error or if nothing was added.

    Args:
        path: the target, which is replaced if it exists: safetensors if its name ends so, else
            the format of `.npz`.
        model: facts of the model, for the key `model`.
        seconds: from the start of a window to that of the next one.
    """

    def __init__(self, path: str | os.PathLike, model: Mapping[str, Any], seconds: float):
        self._path = pathlib.Path(path)
        self._model = dict(model)
        self._seconds = seconds
        self._names: list[str] = []
        self._file_pooled: list[np.ndarray] = []
        self._pooled: list[np.ndarray] = []
        self._of_file: list[int] = []
        self._start: list[float] = []
        self._frames: list[int] = []
        self._shape: tuple[int, ...] = ()
        self._waiting = self._path.with_name(f'.{self._path.name}.{uuid.uuid4().hex}.part')
        self._raw = open(self._waiting, 'wb')

    def add(self, name: str, windows: Iterable[tuple[np.ndarray, int]]) -> int:
        """Adds the windows of a file, (latents [n, d], valid frames); returns how many.

        If `windows` raises, the windows of this file are discarded.
        """
        begin = self._raw.tell()
        pooled, frames = [], []
        try:
            for latents, valid_frames in windows:
                self._raw.write(np.ascontiguousarray(latents, np.float32).tobytes())
                self._shape = latents.shape
                pooled.append(latents.mean(axis=0))
                frames.append(valid_frames)
        except BaseException:
            self._raw.seek(begin)
            self._raw.truncate()
            raise
        self._of_file += [len(self._names)] * len(frames)
        self._names.append(name)
        self._pooled += pooled
        self._file_pooled.append(np.average(pooled, axis=0, weights=frames))
        self._start += [index * self._seconds for index in range(len(frames))]
        self._frames += frames
        return len(frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._raw.close()
        try:
            if error_type is None and self._names:
                self._write()
        finally:
            self._waiting.unlink(missing_ok=True)

    def _write(self) -> None:
        shape = (len(self._frames), *self._shape)
        latents = np.memmap(self._waiting, np.float32, 'r', shape=shape)
        index = Index(
            names=tuple(self._names),
            of_file=np.array(self._of_file, np.int32),
            frames=np.array(self._frames, np.int32),
            model=self._model,
        )
        summaries: dict[str, np.ndarray] = {
            'start': np.array(self._start, np.float64),
            'pooled': np.array(self._pooled, np.float32),
            'file_pooled': np.array(self._file_pooled, np.float32),
        }
        is_safetensors = self._path.suffix == SAFETENSORS
        write = latents_safetensors.write if is_safetensors else latents_npz.write
        with files.written_whole(self._path) as partial:
            with open(partial, 'wb') as file:
                write(file, latents, index, summaries)


class LatentsReader:
    """Reads a file of latents: all at once but for the latents, which `windows` streams.

    Args:
        path: of the file, which may also be another program's with this content.

    Attributes:
        path: of the file.
        names: of the media files.
        frames: int [w], valid frames.
        of_file: int [w].
        model: facts of the model.
        shape: (n, d) of the latents.

    Raises:
        InvalidFileError: it is no such file; says what is wrong with it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path
        if not os.path.isfile(path) and os.path.exists(path):
            raise InvalidFileError(f'{path} is no file of latents: it is no regular file')
        with open(path, 'rb') as file:
            start = file.read(9)
        is_safetensors = start[8:9] == b'{'
        self._format = latents_safetensors if is_safetensors else latents_npz
        with self._explained():
            index, shape = self._format.read_index(path)
            index.check(shape)
        self.names, self.model = index.names, index.model
        self.frames, self.of_file = index.frames, index.of_file
        self.shape = shape[1:]

    def windows(self) -> Iterator[tuple[int, np.ndarray, int]]:
        """Every window in turn: the index of its file, its latents [n, d], its valid frames."""
        with self._explained():
            latents = self._format.read_latents(self.path)
            for index, valid_frames, window in zip(self.of_file, self.frames, latents):
                if not np.isfinite(window).all():
                    raise InvalidFileError('its latents hold NaN or infinity')
                yield int(index), window, int(valid_frames)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever a damaged file makes its readers raise, as an error about the file."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno:  # the operating system's
                raise
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise InvalidFileError(
                f'{self.path} is no valid file of latents ({reason}): make one with '
                'perceiver-io encode'
            ) from error
