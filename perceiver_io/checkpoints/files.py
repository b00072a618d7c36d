"""Whether the files of a checkpoint are those that were written: a list of their CRC-32.

The list is written last, before Orbax gives the folder its name. So damage is found without Orbax
and TensorStore, which print a traceback for every array that they cannot read.
"""

import json
import os
import pathlib
import zlib

LIST = 'files.json'
_WRITTEN_LATER = '_CHECKPOINT_METADATA'  # by a thread of Orbax, which can do without this file
_BLOCK = 1 << 20  # bytes that are read at a time


def write_list(folder: pathlib.Path) -> None:
    """Lists the files of a checkpoint, by path in its folder, with their CRC-32."""
    sums = {
        path.relative_to(folder).as_posix(): _crc32(path)
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.name != _WRITTEN_LATER
    }
    with open(folder / LIST, 'w') as file:
        json.dump(sums, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def damage(folder: pathlib.Path) -> str:
    """What is wrong with the files of a checkpoint; '' if nothing is.

    A checkpoint without a list, as earlier versions wrote them, counts as whole.
    """
    try:
        text = (folder / LIST).read_bytes()
    except FileNotFoundError:
        return ''
    except OSError as error:
        return f'{LIST}: {error.strerror}'
    try:
        sums = {str(name): int(crc32) for name, crc32 in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError):
        return f'{LIST} is no list of files'
    for name, crc32 in sums.items():
        try:
            if _crc32(folder / name) != crc32:
                return f'{name} is not as it was written'
        except FileNotFoundError:
            return f'{name} is missing'
        except OSError as error:
            return f'{name}: {error.strerror}'
        except ValueError:  # a path with a null character
            return f'{LIST} is no list of files'
    return ''


def _crc32(path: pathlib.Path) -> int:
    total = 0
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            total = zlib.crc32(block, total)
    return total
