"""`pytorch_model.bin`, as `torch.save` writes it: a zip archive of a pickle and the tensors' bytes.

It is read without torch. Only uncompressed archives are read, as torch writes them, so that a small
file cannot expand into a large one.
"""

import dataclasses
import io
import math
import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from perceiver_io.checkpoints.formats import inert_pickle, pystate
from perceiver_io.checkpoints.formats.checks import LARGEST, about, check_file, checked, quoted
from perceiver_io.core.errors import InvalidFileError

_LONGEST_DIRECTORY = 4 << 20  # bytes, for about ten thousand entries of a zip archive
_DAMAGED_TENSOR = 'a tensor in it is damaged'
_STORAGES = ('Float', 'Half', 'BFloat16', 'Double', 'Long', 'Int', 'Short', 'Char', 'Byte', 'Bool')


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor. A type of its own, so that nothing else in a pickle can pass for one."""

    value: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A float32 [numbers] array, of which tensors are parts."""

    numbers: np.ndarray


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a state dict, {name: float32 array}; UserError if the file is anything else."""
    with about(path):
        check_file(path)
        with open(path, 'rb') as file:
            start = file.read(9)
        if start[:4] != b'PK\x03\x04':
            if start[:1] in pystate.STARTS:
                _check_globals(path)
            raise InvalidFileError(_not_a_zip(start))
        with _File(path) as file:
            archive = _Archive(file)
            tree = inert_pickle.read(archive.read('data.pkl'), _CALLS, archive.storage)
        if not isinstance(tree, dict):
            raise InvalidFileError('it is not a state dict, {name: tensor}')
        for name, tensor in tree.items():
            if not isinstance(tensor, _Tensor):
                raise InvalidFileError(f'{quoted(name)} in it is not a tensor')
        arrays = checked(
            list(tree), [tensor.value for tensor in tree.values()], os.path.getsize(path)
        )
    return dict(zip(tree, arrays))


class _File(io.FileIO):
    """A file that refuses to read more than `most` bytes at a time."""

    most = _LONGEST_DIRECTORY

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self.most:
            raise InvalidFileError('its zip archive has far more entries than weights need')
        return super().read(size)


class _Archive:
    """The entries of the zip archive below its one folder, and the storages in them."""

    def __init__(self, file: _File):
        self._storages: dict[str, bytes] = {}
        try:
            self._archive = zipfile.ZipFile(file)
        except InvalidFileError:
            raise
        except _ZIP_ERRORS as error:
            raise InvalidFileError('it is a damaged zip archive') from error
        file.most = LARGEST
        entries = self._archive.infolist()
        names = [entry.filename for entry in entries]
        if len(set(names)) < len(names):
            raise InvalidFileError('its zip archive has two entries of one name')
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise InvalidFileError('its zip archive is compressed, which torch never does')
        if sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
            raise InvalidFileError('its zip archive declares more bytes than the file has')
        pickles = [name for name in names if name.rsplit('/')[-1] == 'data.pkl']
        if len(pickles) != 1:
            raise InvalidFileError('it is a zip archive, but none of torch: it has no data.pkl')
        self._folder = pickles[0].removesuffix('data.pkl')
        if self._folder + 'byteorder' in names and self.read('byteorder') != b'little':
            raise InvalidFileError('its numbers are big-endian')

    def read(self, name: str) -> bytes:
        try:
            return self._archive.read(self._folder + name)
        except KeyError as error:
            raise InvalidFileError(f'its zip archive lacks {quoted(name)}') from error
        except _ZIP_ERRORS as error:
            raise InvalidFileError(f'{quoted(name)} in its zip archive is damaged') from error

    def storage(self, reference: tuple) -> _Storage:
        """The storage for a pickle's reference ('storage', type, key, device, count)."""
        if (
            len(reference) != 5
            or reference[0] != 'storage'
            or not isinstance(reference[1], inert_pickle.Name)
        ):
            raise InvalidFileError('its pickle refers to something that is not a tensor')
        _, kind, key, _, count = reference
        if kind.full != 'torch.FloatStorage':
            raise InvalidFileError(
                f'it holds a tensor of {quoted(kind.full)}: save float32 weights'
            )
        if type(key) is not str or not key.isdecimal():
            raise InvalidFileError('its pickle refers to something that is not a tensor')
        if key not in self._storages:
            self._storages[key] = self.read(f'data/{key}')
        data = self._storages[key]
        if type(count) is not int or count * 4 != len(data):
            raise InvalidFileError(
                f'a tensor in it has {len(data)} bytes, and declares another number'
            )
        return _Storage(np.frombuffer(data, '<f4'))


# What zipfile raises for damaged archives, documented or not.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    OSError,
)


def _not_a_zip(start: bytes) -> str:
    if start[:2] == b'\x80\x02':
        return (
            'it is not a zip archive, which torch has saved since 1.6: load it in torch and save '
            'it again'
        )
    return 'it is not a zip archive, as torch saves: ' + pystate.guess(start)


def _check_globals(path: str | os.PathLike) -> None:
    """Raises DisallowedGlobal if a bare pickle names what weights do not need."""
    try:
        inert_pickle.read(pathlib.Path(path).read_bytes(), pystate.CALLS | _CALLS)
    except inert_pickle.DisallowedGlobal:
        raise
    except InvalidFileError:  # the caller says that it is no zip archive
        pass


def _rebuild_tensor(arguments: tuple) -> _Tensor:
    """(storage, offset, sizes, strides, ...): a view of a storage."""
    if len(arguments) < 4:
        raise InvalidFileError(_DAMAGED_TENSOR)
    storage, offset, sizes, strides = arguments[:4]
    if not isinstance(storage, _Storage) or not _counts(sizes) or not _counts(strides):
        raise InvalidFileError(_DAMAGED_TENSOR)
    if not _counts((offset,)) or len(sizes) != len(strides):
        raise InvalidFileError(_DAMAGED_TENSOR)
    numbers = storage.numbers
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides))
    if 0 in sizes or last >= len(numbers) or math.prod(sizes) > len(numbers):
        raise InvalidFileError(
            f'a tensor in it of shape {sizes} goes beyond its {len(numbers)} numbers'
        )
    return _Tensor(
        np.lib.stride_tricks.as_strided(
            numbers[offset:], sizes, [4 * stride for stride in strides], writeable=False
        )
    )


def _rebuild_parameter(arguments: tuple) -> _Tensor:
    """(tensor, ...): a parameter is its tensor."""
    if not arguments or not isinstance(arguments[0], _Tensor):
        raise InvalidFileError(_DAMAGED_TENSOR)
    return arguments[0]


def _counts(values: Any) -> bool:
    """Whether these are sizes: at most 8 integers of at least 0."""
    return (
        type(values) is tuple
        and len(values) <= 8
        and all(type(value) is int and 0 <= value < 2**40 for value in values)
    )


def _ordered_dict(arguments: tuple) -> inert_pickle.Dict:
    if arguments:
        raise InvalidFileError('a dict in it is damaged')
    return inert_pickle.Dict()


def _never(_: tuple) -> None:
    raise InvalidFileError(
        'it calls a storage, which reading tensors does not need: the file was not read'
    )


_CALLS = {
    'collections.OrderedDict': _ordered_dict,
    'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
    'torch._utils._rebuild_parameter': _rebuild_parameter,
} | {f'torch.{kind}Storage': _never for kind in _STORAGES}
