"""Converts weights between this project, the released form and the transformers library.

    perceiver-io convert SRC DST

SRC is whatever `--checkpoint` takes. The name of DST says what to write:

    x.pystate              the released form, {module: {name: array}}, and x.json beside it
    DIR/model.safetensors  for the transformers library, with DIR/config.json
    DIR                    a folder like that of a run, without the optimizer's state

Every number stays the same, bit for bit. Existing files are not replaced.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import jax

from perceiver_io import cli
from perceiver_io.checkpoints import store, writing
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.loading import load_checkpoint
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.training import run_folder

_SAFETENSORS = 'model.safetensors'
_OTHER_SUFFIXES = ('.safetensors', '.bin', '.json', '.pt', '.pth', '.npz', '.pkl')

Writer = Callable[[pathlib.Path, Checkpoint], list[pathlib.Path]]


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 3:
        raise UsageError('convert takes two names: perceiver-io convert SRC DST')
    convert(*arguments[1:])


def convert(source: str | os.PathLike, target: str | os.PathLike) -> list[pathlib.Path]:
    """Reads a checkpoint and writes it in another form; prints and returns what it wrote.

    Raises:
        UserError: `source` cannot be read, `target` exists, or its form cannot represent the model.
    """
    target = pathlib.Path(target)
    write = _writer(target, source)
    if target.exists():
        raise UserError(f'{target} exists already: choose another name, or remove it first')
    checkpoint = load_checkpoint(source)
    params = jax.device_get(checkpoint.params)
    written = write(target, dataclasses.replace(checkpoint, params=params))
    leaves = jax.tree.leaves(params)
    print(f'{len(leaves)} arrays with {sum(leaf.size for leaf in leaves):,} parameters')
    for path in written:
        print(f'{path}: {_size(path):,} bytes')
    return written


def _writer(target: pathlib.Path, source: str | os.PathLike) -> Writer:
    """The function that writes the form that the target's name asks for."""
    if target.suffix == '.pystate':
        return writing.write_pystate
    if target.name == _SAFETENSORS:
        return writing.write_transformers
    if target.suffix in _OTHER_SUFFIXES:
        raise UserError(
            f'{target} is no form to convert to: name it x.pystate, '
            f'DIR/{_SAFETENSORS}, or DIR for a folder like that of a run'
        )

    def write_run(target: pathlib.Path, checkpoint: Checkpoint) -> list[pathlib.Path]:
        experiment = run_folder.experiment_of(source, checkpoint)
        run_folder.check_run(target, experiment)
        run_folder.start_run(target, experiment, checkpoint.classes)
        store.write_params(target, checkpoint.params, checkpoint.step or 0)
        return [target]

    return write_run


def _size(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    found = [path] if path.is_file() else [file for file in path.rglob('*') if file.is_file()]
    return sum(file.stat().st_size for file in found)


if __name__ == '__main__':
    cli.run(main)
