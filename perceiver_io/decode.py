"""Clips out of a file of latents that `python -m perceiver_io.embed` made.

    python -m perceiver_io.decode latents.npz --checkpoint=X --output=OUT

Writes OUT/<stem>.mp4 for each file that was embedded: what `reconstruct.py` makes of it.
"""

import itertools
import os
import pathlib
from collections.abc import Sequence

import tqdm
from absl import flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.inference import reconstruction
from perceiver_io.inference.latents_file import LatentsReader
from perceiver_io.models.autoencoder import Autoencoder


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise UsageError(
            'name one file of latents, as in python -m perceiver_io.decode '
            'latents.npz --checkpoint=DIR --output=OUT'
        )
    values = flags.FLAGS
    decode_file(arguments[1], values.checkpoint, values.output, batch_size=values.batch_size)


def define_flags() -> None:
    flags.DEFINE_string('checkpoint', None, loading.CHECKPOINT_HELP, required=True)
    flags.DEFINE_string('output', None, 'Folder for the clips.', required=True)
    flags.DEFINE_integer('batch_size', 4, 'Windows decoded at a time.', lower_bound=1)


def decode_file(
    latents: str | os.PathLike,
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch_size: int = 4,
) -> list[pathlib.Path]:
    """Decodes every window and writes the clips, in bounded memory.

    Args:
        latents: path of the file.
        checkpoint: whatever `loading.load_checkpoint` reads: the one that made the latents, or one
            of the same sizes.
        output: folder for the clips; files of the same stem get numbers.
        batch_size: windows decoded at a time.

    Returns:
        The paths of the clips.

    Raises:
        UserError: the file is damaged, or its latents are of another size than the model's.
    """
    reader = LatentsReader(latents)
    output = files.make_folder(output, '--output')
    loaded = loading.load_checkpoint(checkpoint)
    config, spec = loaded.config, loaded.clip_spec
    if reader.shape != (config.latents, config.latent_channels):
        raise UserError(
            f'{latents} has latents {reader.shape} and the model of {checkpoint} '
            f'{(config.latents, config.latent_channels)}: give the --checkpoint that made them, '
            f'{reader.model.get("checkpoint")!r}'
        )
    if not 1 <= reader.frames.min() <= reader.frames.max() <= config.frames:
        raise UserError(
            f'{latents} has windows of up to {reader.frames.max()} frames and the '
            f'model of {checkpoint} {config.frames}: give the one that made them'
        )
    step = reconstruction.make_decode_step(Autoencoder(config))

    stems = reconstruction.output_stems(reader.names, output)
    written = []
    with tqdm.tqdm(reader.windows(), 'decoding', len(reader.frames), unit='window') as progress:
        for index, windows in itertools.groupby(progress, key=lambda window: window[0]):
            path = output / f'{stems[index]}.mp4'
            reconstruction.write_windows(
                reconstruction.reconstruct_windows(
                    step,
                    loaded.params,
                    ((window, real) for _, window, real in windows),
                    spec,
                    batch_size,
                ),
                spec,
                alone=path,
            )
            written.append(path)
            progress.write(f'{reader.names[index]}: {path}')
    return written


if __name__ == '__main__':
    cli.run(main, define_flags)
