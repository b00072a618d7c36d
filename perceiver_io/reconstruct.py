"""Reconstructs whole media files with a trained model.

    perceiver-io reconstruct FILE... --checkpoint=X --output=OUT

FILE can be a folder, of which all media files are taken. Writes OUT/STEM.mp4,
OUT/STEM_side_by_side.mp4 and a row of OUT/results.csv for each file, and prints the likeliest
classes. `--hide=audio` decodes the audio from the video alone, `--latents=N` decodes from the first
N latents: both for models that were trained so (docs/one_model.md). File names that begin with '-'
go last, after `--`.
"""

import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError, as_usage
from perceiver_io.distributed import compilation_cache
from perceiver_io.inference import reconstruct_files as inference
from perceiver_io.inference.trained import Trained


def main(arguments: Sequence[str]) -> int:
    values = flags.FLAGS
    compilation_cache.use_from_flag()
    rows = reconstruct_files(
        arguments[1:],
        values.checkpoint,
        values.output,
        batch_size=values.batch_size,
        hide=values.hide,
        latents=values.latents,
    )
    return int(any(row['status'] == 'failed' for row in rows))


def define_flags() -> None:
    flags.DEFINE_string('checkpoint', None, loading.CHECKPOINT_HELP, required=True)
    flags.DEFINE_string('output', None, 'Folder for the results.', required=True)
    flags.DEFINE_integer('batch_size', 4, 'Windows decoded at a time.', lower_bound=1)
    flags.DEFINE_enum('hide', None, ['video', 'audio'], 'Hidden from the model, and decoded.')
    flags.DEFINE_integer('latents', 0, 'Keeps the first latents only; 0: all.', lower_bound=0)
    compilation_cache.define_flags()


def reconstruct_files(
    paths: Sequence[str | os.PathLike],
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch_size: int = 4,
    hide: str | None = None,
    latents: int = 0,
) -> list[dict[str, Any]]:
    """Reconstructs files and folders; see `inference.reconstruct_files`.

    Args:
        paths: of the files and folders.
        checkpoint: whatever `load_checkpoint` reads.
        output: folder for the results.
        batch_size: windows in a batch.
        hide: 'video' or 'audio', which the model does not see and decodes all the same.
        latents: how many are kept, the first ones; 0 for all.

    Returns:
        The rows of `results.csv`.
    """
    if not paths:
        raise UsageError(
            'there is no file to reconstruct: name some, as in '
            'perceiver-io reconstruct FILE... --checkpoint=DIR --output=OUT'
        )
    folder = files.make_folder(output, '--output')
    loaded = loading.load_checkpoint(checkpoint)
    with as_usage():
        trained = Trained.of(loaded, checkpoint, (hide,) if hide else (), latents)
    return inference.reconstruct_files(paths, folder, trained, batch_size)


if __name__ == '__main__':
    cli.run(main, define_flags)
