"""Decodes a file of latents that `perceiver-io encode` made into videos.

    perceiver-io decode latents.safetensors --checkpoint=X --output=OUT

Writes OUT/STEM.mp4 for each file that was encoded: what `perceiver-io reconstruct` makes of it.
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


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise UsageError(
            'name one file of latents, as in '
            'perceiver-io decode latents.safetensors --checkpoint=DIR --output=OUT'
        )
    values = flags.FLAGS
    compilation_cache.use_from_flag()
    decode_file(arguments[1], values.checkpoint, values.output, batch_size=values.batch_size)


def define_flags() -> None:
    flags.DEFINE_string('checkpoint', None, loading.CHECKPOINT_HELP, required=True)
    flags.DEFINE_string('output', None, 'Folder for the videos.', required=True)
    flags.DEFINE_integer('batch_size', 4, 'Windows decoded at a time.', lower_bound=1)
    compilation_cache.define_flags()


def decode_file(
    latents: str | os.PathLike,
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch_size: int = 4,
) -> list[pathlib.Path]:
    """Decodes a file of latents; see `inference.encode_files.decode_latents`.

    Args:
        latents: the path of the file.
        checkpoint: whatever `load_checkpoint` reads: the one that made the latents.
        output: folder for the videos.
        batch_size: windows in a batch.

    Returns:
        The paths of the videos.
    """
    folder = files.make_folder(output, '--output')
    trained = Trained.of(loading.load_checkpoint(checkpoint), checkpoint)
    return inference.decode_latents(latents, folder, trained, batch_size)


if __name__ == '__main__':
    cli.run(main, define_flags)
