"""Reconstructs whole media files with a trained model.

    perceiver-io reconstruct FILE... --checkpoint=X --output=OUT

FILE can be a folder, of which all media files are taken. Writes OUT/STEM.mp4,
OUT/STEM_side_by_side.mp4 and a row of OUT/results.csv for each file, and prints the likeliest
classes. File names that begin with '-' go last, after `--`.
"""

import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError
from perceiver_io.inference import reconstruct_files as inference
from perceiver_io.inference.trained import Trained


def main(arguments: Sequence[str]) -> int:
    values = flags.FLAGS
    rows = reconstruct_files(
        arguments[1:], values.checkpoint, values.output, batch_size=values.batch_size
    )
    return int(any(row['status'] == 'failed' for row in rows))


def define_flags() -> None:
    flags.DEFINE_string('checkpoint', None, loading.CHECKPOINT_HELP, required=True)
    flags.DEFINE_string('output', None, 'Folder for the results.', required=True)
    flags.DEFINE_integer('batch_size', 4, 'Windows decoded at a time.', lower_bound=1)


def reconstruct_files(
    paths: Sequence[str | os.PathLike],
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch_size: int = 4,
) -> list[dict[str, Any]]:
    """Reconstructs files and folders; see `inference.reconstruct_files`.

    Args:
        paths: of the files and folders.
        checkpoint: whatever `load_checkpoint` reads.
        output: folder for the results.
        batch_size: windows in a batch.

    Returns:
        The rows of `results.csv`.
    """
    if not paths:
        raise UsageError(
            'there is no file to reconstruct: name some, as in '
            'perceiver-io reconstruct FILE... --checkpoint=DIR --output=OUT'
        )
    folder = files.make_folder(output, '--output')
    trained = Trained.of(loading.load_checkpoint(checkpoint), checkpoint)
    return inference.reconstruct_files(paths, folder, trained, batch_size)


if __name__ == '__main__':
    cli.run(main, define_flags)
