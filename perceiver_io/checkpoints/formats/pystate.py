"""`.pystate` files, the released form: a pickle of {module: {name: float32 array}}."""

import math
import os
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from perceiver_io.checkpoints.formats import inert_pickle
from perceiver_io.checkpoints.formats.checks import about, check_file, checked, quoted
from perceiver_io.core import files
from perceiver_io.core.errors import InvalidFileError

# First bytes of a pickle: protocol 2 and later; a dict in protocols 0 and 1; a name.
STARTS = (b'\x80', b'(', b'}', b'c')

Params = Mapping[str, Mapping[str, ArrayLike]]


def read_pystate(path: str | os.PathLike) -> dict[str, dict[str, np.ndarray]]:
    """Reads {module: {name: float32 array}}; UserError if the file is anything else."""
    with about(path):
        check_file(path)
        data = pathlib.Path(path).read_bytes()
        if data[:1] not in STARTS:
            raise InvalidFileError(
                'it is not a pickle, as a .pystate file must be: ' + guess(data[:9])
            )
        tree = inert_pickle.read(data, CALLS)
        if not isinstance(tree, dict):
            raise InvalidFileError('it is not {module: {name: array}}')
        for module, leaves in tree.items():
            if not isinstance(leaves, dict):
                raise InvalidFileError(f'{quoted(module)} in it is not {{name: array}}')
            for name, leaf in leaves.items():
                if not isinstance(leaf, _Array) or leaf.value is None:
                    raise InvalidFileError(f'{quoted(f"{module}/{name}")} in it is not an array')
        places = [(module, name) for module, leaves in tree.items() for name in leaves]
        arrays = checked(
            [f'{module}/{name}' for module, name in places],
            [tree[module][name].value for module, name in places],
            len(data),
        )
    params: dict[str, dict[str, np.ndarray]] = {module: {} for module in tree}
    for (module, name), array in zip(places, arrays):
        params[module][name] = array
    return params


def write_pystate(path: str | os.PathLike, params: Params) -> None:
    """Writes plain dicts of numpy arrays: `pickle.load` needs neither Haiku nor this project."""
    plain = {
        module: {name: np.asarray(leaf, np.float32) for name, leaf in leaves.items()}
        for module, leaves in params.items()
    }
    files.write_bytes(pathlib.Path(path), pickle.dumps(plain, protocol=4))


def guess(start: bytes) -> str:
    """What a file seems to be by its first nine bytes, and how to name it then."""
    if start[:4] == b'PK\x03\x04':
        return 'it is a zip archive, as torch saves; name it .bin'
    if start[:1] == b'\x80':
        return 'it is a pickle; name it .pystate'
    if start[8:9] == b'{':
        return 'it looks like safetensors; name it .safetensors'
    return 'its format is not known'


class _DType(inert_pickle.Built):
    """A numpy dtype by its code, 'f4' for float32."""

    def __init__(self, arguments: tuple):
        if not arguments or type(arguments[0]) is not str:
            raise InvalidFileError('a dtype in it is damaged')
        self.code = arguments[0].removeprefix('<')
        self.order = '<'

    def build(self, state: Any) -> None:
        """State: (version, byte order, ...)."""
        if type(state) is not tuple or len(state) < 2 or state[1] not in ('<', '>', '|', '='):
            raise InvalidFileError('a dtype in it is damaged')
        self.order = state[1]

    def numpy(self) -> np.dtype:
        if self.code != 'f4' or self.order not in '<>':
            raise InvalidFileError(
                f'an array in it is of dtype {quoted(self.order + self.code)}: save float32 weights'
            )
        return np.dtype(self.order + 'f4')


class _Array(inert_pickle.Built):
    """A numpy array; None until its state is set."""

    def __init__(self, value: np.ndarray | None = None):
        self.value = value

    def build(self, state: Any) -> None:
        """State: (version, shape, dtype, whether in Fortran order, bytes)."""
        if type(state) is not tuple or len(state) != 5:
            raise InvalidFileError('an array in it is damaged')
        _, shape, dtype, fortran, data = state
        self.value = _make(data, dtype, shape, 'F' if fortran is True else 'C')


def _make(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """A float32 array over `data`; InvalidFileError if the parts do not fit each other."""
    if (
        not isinstance(data, bytes | bytearray)
        or not isinstance(dtype, _DType)
        or type(shape) is not tuple
        or order not in ('C', 'F')
    ):
        raise InvalidFileError('an array in it is damaged')
    if len(shape) > 8 or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise InvalidFileError('an array in it has no shape')
    if math.prod(shape) * 4 != len(data) and dtype.code == 'f4':
        raise InvalidFileError(f'an array in it of shape {shape} has {len(data)} bytes')
    return np.frombuffer(data, dtype.numpy()).reshape(shape, order=order)


def _reconstruct(arguments: tuple) -> _Array:
    """NumPy before pickle protocol 5: an empty array, whose state is set later."""
    if not arguments or arguments[0] != inert_pickle.Name('numpy.ndarray'):
        raise InvalidFileError('an array in it is damaged')
    return _Array()


def _frombuffer(arguments: tuple) -> _Array:
    """NumPy since pickle protocol 5: (bytes, dtype, shape, order)."""
    if len(arguments) != 4:
        raise InvalidFileError('an array in it is damaged')
    return _Array(_make(*arguments))


def _dict(arguments: tuple) -> inert_pickle.Dict:
    """A dict of any kind, empty or from one dict."""
    if not arguments:
        return inert_pickle.Dict()
    if len(arguments) > 1 or type(arguments[0]) is not inert_pickle.Dict:
        raise InvalidFileError('a dict in it is damaged')
    return arguments[0]


def _encode(arguments: tuple) -> bytes:
    """Bytes as pickle protocols before 3 write them: a string of the characters 0 to 255."""
    if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != 'latin1':
        raise InvalidFileError('it is damaged')
    try:
        return arguments[0].encode('latin1')
    except UnicodeEncodeError as error:
        raise InvalidFileError('it is damaged') from error


def _never(_: tuple) -> None:
    raise InvalidFileError(
        'it calls numpy.ndarray, which reading arrays does not need: the file was not read'
    )


CALLS = {
    'numpy.dtype': _DType,
    'numpy.ndarray': _never,
    '_codecs.encode': _encode,
    'collections.OrderedDict': _dict,
    # What Haiku gave in 2021, and before.
    'haiku._src.data_structures.FlatMapping': _dict,
    'haiku._src.data_structures.frozendict': _dict,
    # numpy 1 and numpy 2
    'numpy.core.multiarray._reconstruct': _reconstruct,
    'numpy._core.multiarray._reconstruct': _reconstruct,
    'numpy.core.numeric._frombuffer': _frombuffer,
    'numpy._core.numeric._frombuffer': _frombuffer,
}
