"""Encodes whole media files into a file of latents, window by window.

    perceiver-io encode FILE... --checkpoint=X --output=latents.safetensors

FILE can be a folder, of which all media files are taken. `perceiver-io decode` makes videos of the
latents again. File names that begin with '-' go last, after `--`. `--output=latents.npz` writes the
same as a NumPy archive.
"""

import os
import pathlib
from collections.abc import Sequence

from absl import flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError
from perceiver_io.distributed import compilation_cache
from perceiver_io.inference import encode_files as inference
from perceiver_io.inference.trained import Trained


def main(arguments: Sequence[str]) -> int:
    values = flags.FLAGS
    compilation_cache.use_from_flag()
    failed = encode_files(
        arguments[1:], values.checkpoint, values.output, batch_size=values.batch_size
    )
    return int(bool(failed))


def define_flags() -> None:
    flags.DEFINE_string('checkpoint', None, loading.CHECKPOINT_HELP, required=True)
    flags.DEFINE_string(
        'output', None, 'The file for the latents, .safetensors or .npz.', required=True
    )
    flags.DEFINE_integer('batch_size', 4, 'Windows encoded at a time.', lower_bound=1)
    compilation_cache.define_flags()


def encode_files(
    paths: Sequence[str | os.PathLike],
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch_size: int = 4,
) -> dict[str, str]:
    """Encodes files and folders into one file of latents; see `inference.encode_files`.

    Args:
        paths: of the files and folders.
        checkpoint: whatever `load_checkpoint` reads.
        output: the file of latents.
        batch_size: windows in a batch.

    Returns:
        The reasons of the files that failed, by name.
    """
    if not paths:
        raise UsageError(
            'there is no file to encode: name some, as in '
            'perceiver-io encode FILE... --checkpoint=DIR --output=latents.safetensors'
        )
    path = pathlib.Path(output)
    files.make_folder(path.parent, '--output')
    trained = Trained.of(loading.load_checkpoint(checkpoint), checkpoint)
    return inference.encode_files(paths, path, trained, batch_size)


if __name__ == '__main__':
    cli.run(main, define_flags)
