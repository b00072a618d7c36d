"""Latents of whole files, window by window.

    python -m perceiver_io.embed FILE... --checkpoint=X --output=latents.npz

What is in the file: see `latents_file`. `python -m perceiver_io.decode` makes clips of it again.
Names that begin with '-' go last, after `--`.
"""

import dataclasses
import math
import os
import pathlib
import sys
from collections.abc import Sequence

import tqdm
from absl import flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.inference import reconstruction
from perceiver_io.inference.latents_file import LatentsWriter
from perceiver_io.media import reader
from perceiver_io.models.autoencoder import Autoencoder


def main(arguments: Sequence[str]) -> int:
    values = flags.FLAGS
    failed = embed_files(
        arguments[1:], values.checkpoint, values.output, batch_size=values.batch_size
    )
    return int(bool(failed))


def define_flags() -> None:
    flags.DEFINE_string('checkpoint', None, loading.CHECKPOINT_HELP, required=True)
    flags.DEFINE_string('output', None, 'The file for the latents, an .npz.', required=True)
    flags.DEFINE_integer('batch_size', 4, 'Windows encoded at a time.', lower_bound=1)


def embed_files(
    paths: Sequence[str | os.PathLike],
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch_size: int = 4,
) -> dict[str, str]:
    """Encodes files of any length, with the label hidden, into one file of latents.

    Args:
        paths: of the files.
        checkpoint: whatever `loading.load_checkpoint` reads.
        output: the file of latents; it is not written if all files fail.
        batch_size: windows encoded at a time.

    Returns:
        The reasons of the files that failed, by name; they are left out.
    """
    if not paths:
        raise UsageError(
            'there is no file to embed: name some, as in python -m '
            'perceiver_io.embed FILE... --checkpoint=DIR --output=latents.npz'
        )
    output = pathlib.Path(output)
    files.make_folder(output.parent, '--output')
    taken = {os.path.realpath(path) for path in paths}
    if output.is_dir() or os.path.realpath(output) in taken:
        raise UserError(f'--output={output} is a folder, or a file to embed: name another file')
    loaded = loading.load_checkpoint(checkpoint)
    spec = loaded.clip_spec
    step = reconstruction.make_encode_step(Autoencoder(loaded.config))
    facts = {
        'checkpoint': os.fspath(checkpoint),
        'step': loaded.step,
        'frame_rate': spec.frame_rate,
        'config': dataclasses.asdict(loaded.config),
    }

    failed = {}
    with LatentsWriter(output, facts, spec.seconds) as writer:
        for count, path in enumerate(paths, 1):
            name = os.fspath(path)
            try:
                info = reader.probe(path)
                windows = reconstruction.run_windows(
                    step, loaded.params, reader.read_windows(path, spec), batch_size
                )
                with tqdm.tqdm(
                    windows,
                    f'{count}/{len(paths)} {pathlib.Path(path).name}',
                    math.ceil(info.seconds / spec.seconds),
                    unit='window',
                    leave=False,
                ) as progress:
                    added = writer.add(name, progress)
            except (reader.UnreadableMedia, OSError) as error:
                failed[name] = cli.message(error) or str(error)
                print(f'{name}: {failed[name]}', file=sys.stderr)
                continue
            silent = spec.audio and not info.has_audio
            print(f'{name}: {added} windows' + (f', {reconstruction.NO_SOUND}' if silent else ''))
    done = len(paths) - len(failed)
    print(f'{done} of {len(paths)} files embedded' + (f', see {output}' if done else ''))
    return failed


if __name__ == '__main__':
    cli.run(main, define_flags)
