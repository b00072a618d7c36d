"""Files of latents: an .npz that `numpy.load(path)` reads without pickles, and streams both ways.

    latents      float32 [w, n, d]   of every window of every file
    pooled       float32 [w, d]      their mean over the latents
    file_pooled  float32 [f, d]      its mean over the windows of a file, by their real frames
    names        str     [f]         the files
    of_file      int32   [w]         which of them a window is of, ascending
    start        float64 [w]         where in it the window starts, in seconds
    frames       int32   [w]         its real frames; the rest of the window is padding
    model        str     []          the model's config and what else is known, as JSON

w counts windows, f files. The format is ours.
"""

import json
import lzma
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from perceiver_io.core.errors import UserError

_SMALL = ('names', 'of_file', 'frames', 'model')  # all that is read at once
_LARGEST = 256 << 20  # bytes of each of these, which a small compressed file can exceed


class LatentsWriter:
    """Writes a file of latents in bounded memory: `with LatentsWriter(…) as writer: writer.add(…)`.

    The latents wait on disk beside the target until it is clear how many there are. The target gets
    its name when all is in it, and not at all after an error or when nothing was added.

    Args:
        path: the target, which is replaced if it exists.
        model: facts of the model, for the key `model`.
        seconds: from the start of a window to the next one's.
    """

    def __init__(self, path: str | os.PathLike, model: Mapping[str, Any], seconds: float):
        self._path = pathlib.Path(path)
        self._model = dict(model)
        self._seconds = seconds
        self._names, self._file_pooled = [], []
        self._pooled, self._of_file, self._start, self._frames = [], [], [], []
        self._shape = None
        parts = [f'.{self._path.name}.{os.getpid()}.{part}.part' for part in ('latents', 'npz')]
        self._waiting, self._temporary = (self._path.with_name(part) for part in parts)
        self._raw = open(self._waiting, 'wb')

    def add(self, name: str, windows: Iterable[tuple[np.ndarray, int]]) -> int:
        """Adds the windows of a file, (latents [n, d], real frames); returns how many.

        If `windows` raises, the file is as if it had not been.
        """
        begin = self._raw.tell()
        pooled, frames = [], []
        try:
            for latents, real in windows:
                self._raw.write(np.ascontiguousarray(latents, np.float32).tobytes())
                self._shape = latents.shape
                pooled.append(latents.mean(axis=0))
                frames.append(real)
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

    def __exit__(self, error_type, error, traceback) -> None:
        self._raw.close()
        try:
            if error_type is None and self._names:
                self._write()
        finally:
            for part in (self._waiting, self._temporary):
                part.unlink(missing_ok=True)

    def _write(self):
        latents = np.memmap(self._waiting, np.float32, 'r', shape=(len(self._frames), *self._shape))
        with open(self._temporary, 'wb') as file:
            np.savez(
                file,
                latents=latents,
                pooled=np.array(self._pooled, np.float32),
                file_pooled=np.array(self._file_pooled, np.float32),
                names=np.array(self._names),
                of_file=np.array(self._of_file, np.int32),
                start=np.array(self._start, np.float64),
                frames=np.array(self._frames, np.int32),
                model=np.array(json.dumps(self._model)),
            )
        os.replace(self._temporary, self._path)


class LatentsReader:
    """Reads a file of latents: all at once but for the latents, which `windows` streams.

    Args:
        path: of the file, which may also be another program's with these keys.

    Attributes:
        names: of the files.
        frames: int [w].
        of_file: int [w].
        model: facts of the model.
        shape: (n, d) of the latents.

    Raises:
        UserError: it is no such file; says what is wrong with it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
        if not os.path.isfile(path) and os.path.exists(path):
            raise self._damaged('it is no file')
        try:
            with zipfile.ZipFile(path) as archive:
                sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if max(sizes.get(f'{key}.npy', 0) for key in _SMALL) > _LARGEST:
                raise self._damaged('it is far larger than what it could be about')
            with np.load(path, allow_pickle=False) as arrays:
                names, self.of_file, self.frames, model = (arrays[key] for key in _SMALL)
                self.model = json.loads(str(model[()]))
            with self._open() as member:
                count, *self.shape = self._header(member)
        except Exception as error:  # whatever a damaged file makes its readers stumble over
            if isinstance(error, OSError) and error.errno:  # the system's
                raise
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise UserError(
                f'{path} is no whole file of latents ({reason}): make one with '
                'python -m perceiver_io.embed'
            ) from error
        self.names = tuple(map(str, names.ravel()))
        self.shape = tuple(self.shape)
        self._check(count)

    def windows(self) -> Iterator[tuple[int, np.ndarray, int]]:
        """Every window in turn: the index of its file, its latents [n, d], its real frames."""
        size = 4 * self.shape[0] * self.shape[1]
        with self._open() as member:
            self._header(member)
            for index, real in zip(self.of_file, self.frames):
                try:
                    data = member.read(size)
                except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
                    raise self._damaged(str(error)) from error
                if len(data) < size:
                    raise self._damaged('it ends early')
                latents = np.frombuffer(data, '<f4').reshape(self.shape)
                if not np.isfinite(latents).all():
                    raise self._damaged('its latents hold NaN or infinity')
                yield int(index), latents, int(real)

    def _open(self):
        return zipfile.ZipFile(self._path).open('latents.npy')

    def _header(self, member) -> tuple[int, ...]:
        """The shape [w, n, d] that the file announces; leaves `member` at the first latent."""
        version = np.lib.format.read_magic(member)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read(member)
        if len(shape) != 3 or fortran_order or dtype != np.dtype('<f4'):
            raise self._damaged(f'latents are {dtype} {shape} and must be float32 [w, n, d]')
        return shape

    def _check(self, count: int) -> None:
        """Raises where the arrays do not belong together."""
        for name in ('of_file', 'frames'):
            array = getattr(self, name)
            if array.shape != (count,) or array.dtype.kind not in 'iu':
                raise self._damaged(f'{name} must be whole numbers [{count}], one for each window')
        if not isinstance(self.model, dict):
            raise self._damaged('model must be a JSON object')
        ascending = np.unique(self.of_file).tolist() == list(range(len(self.names)))
        if not count or not ascending or (np.diff(self.of_file.astype(int)) < 0).any():
            raise self._damaged('of_file must have every file, in ascending order')
        if any('\0' in name or not name.strip() for name in self.names):
            raise self._damaged('names must be the names of files')

    def _damaged(self, reason: str) -> UserError:
        return UserError(f'{self._path} is no whole file of latents: {reason}')
