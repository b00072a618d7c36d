"""Converts weights between this project, the released form and the transformers library.

    python -m perceiver_io.convert SRC DST

SRC is whatever `--checkpoint` takes. DST's name says what to write:

    x.pystate              the released form, {module: {name: array}}, and x.json beside it
    DIR/model.safetensors  for the transformers library, with DIR/config.json
    DIR                    a folder like that of a run, without the optimizer's state

Every number stays what it is, bit for bit. Nothing is overwritten.
"""

import os
import pathlib
from collections.abc import Sequence

import jax

from perceiver_io import cli
from perceiver_io.checkpoints import runs, weight_files
from perceiver_io.checkpoints.loading import load_checkpoint
from perceiver_io.checkpoints.weight_files import Loaded
from perceiver_io.core.errors import UsageError, UserError

_SAFETENSORS = 'model.safetensors'


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 3:
        raise UsageError('convert takes two names: python -m perceiver_io.convert SRC DST')
    convert(*arguments[1:])


def convert(source: str | os.PathLike, target: str | os.PathLike) -> list[pathlib.Path]:
    """Reads a checkpoint and writes it in another form; says what it wrote, and returns the paths.

    Raises:
        UserError: `source` cannot be read, `target` is there already, or its form cannot hold this
            model.
    """
    target = pathlib.Path(target)
    write = _writer(target)
    if target.exists():
        raise UserError(f'{target} is there already: choose another name, or remove it first')
    loaded = load_checkpoint(source)
    loaded = loaded._replace(params=jax.device_get(loaded.params))
    written = write(target, loaded)
    leaves = jax.tree.leaves(loaded.params)
    print(f'{len(leaves)} arrays with {sum(leaf.size for leaf in leaves):,} parameters')
    for path in written:
        print(f'{path}: {_size(path):,} bytes')
    return written


def _writer(target: pathlib.Path):
    """The function that writes the form that the name asks for."""
    if target.suffix == '.pystate':
        return weight_files.write_pystate
    if target.name == _SAFETENSORS:
        return weight_files.write_transformers
    if target.suffix in ('.safetensors', '.bin', '.json', '.pt', '.pth', '.npz', '.pkl'):
        raise UserError(
            f'{target} is no form to convert to: name it x.pystate, '
            f'DIR/{_SAFETENSORS}, or DIR for a folder like that of a run'
        )
    return _write_run


def _write_run(target: pathlib.Path, loaded: Loaded) -> list[pathlib.Path]:
    runs.check_run(target, loaded.experiment)
    runs.start_run(target, loaded.experiment, loaded.classes)
    runs.save_params(target, loaded.params, loaded.step or 0)
    return [target]


def _size(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    found = [path] if path.is_file() else [file for file in path.rglob('*') if file.is_file()]
    return sum(file.stat().st_size for file in found)


if __name__ == '__main__':
    cli.run(main)
