"""Media files to a file of latents, and back."""

import dataclasses
import itertools
import math
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.core.progress import progress_bar
from perceiver_io.inference import reconstruction
from perceiver_io.inference.inputs import NO_AUDIO, list_files, output_stems, reason_of
from perceiver_io.inference.latents import LatentsReader, LatentsWriter
from perceiver_io.inference.trained import Trained
from perceiver_io.media import reader


def encode_files(
    paths: Sequence[str | os.PathLike], output: pathlib.Path, trained: Trained, batch_size: int
) -> dict[str, str]:
    """Encodes files of any length, with the label hidden, into one file of latents.

    Args:
        paths: of files, and of folders, of which all media files are taken.
        output: the file of latents. It is not written if all files fail.
        trained: the model.
        batch_size: windows in a batch.

    Returns:
        The reasons of the files that failed, by name; they are left out.
    """
    inputs = list_files(paths)
    if output.is_dir() or os.path.realpath(output) in map(os.path.realpath, inputs):
        raise UsageError(f'--output={output} is a folder, or one of the inputs: name another file')
    step = reconstruction.make_encode_step(trained.model)
    spec = trained.spec
    failed = {}
    with LatentsWriter(output, model_facts(trained), spec.seconds) as writer:
        for count, path in enumerate(inputs, 1):
            name = os.fspath(path)
            title = f'{count}/{len(inputs)} {pathlib.Path(path).name}'
            try:
                info = reader.probe(path)
                windows = reconstruction.run_windows(
                    step, trained.params, reader.read_windows(path, spec), batch_size
                )
                total = math.ceil(info.seconds / spec.seconds)
                with progress_bar(windows, title, unit='window', leave=False, total=total) as bar:
                    added = writer.add(name, bar)
            except (reader.UnreadableMedia, OSError) as error:
                failed[name] = reason_of(error)
                print(f'{name}: {failed[name]}', file=sys.stderr)
                continue
            without_audio = spec.audio and not info.has_audio
            print(f'{name}: {added} windows' + (f', {NO_AUDIO}' if without_audio else ''))
    done = len(inputs) - len(failed)
    print(f'{done} of {len(inputs)} files encoded' + (f', see {output}' if done else ''))
    return failed


def decode_latents(
    latents: str | os.PathLike, output: pathlib.Path, trained: Trained, batch_size: int
) -> list[pathlib.Path]:
    """Decodes every window of a file of latents and writes the clips, in bounded memory.

    Prints a warning if the latents were made with other weights.

    Args:
        latents: the path of the file.
        output: a folder for `STEM.mp4` of each file that was encoded; files of the same stem get
            numbers.
        trained: the model.
        batch_size: windows in a batch.

    Returns:
        The paths of the clips.

    Raises:
        UserError: the file is damaged, or its latents do not fit the model.
    """
    source = LatentsReader(latents)
    _check_fits(source, trained)
    step = reconstruction.make_decode_step(trained.model)
    stems = output_stems(source.names, output)
    written = []
    with progress_bar(
        source.windows(), 'decoding', total=len(source.frames), unit='window'
    ) as progress:
        for index, windows in itertools.groupby(progress, key=lambda window: window[0]):
            path = output / f'{stems[index]}.mp4'
            decoded = reconstruction.reconstruct_windows(
                step,
                trained.params,
                ((window, valid_frames) for _, window, valid_frames in windows),
                trained.spec,
                batch_size,
            )
            reconstruction.write_windows(decoded, trained.spec, alone=path)
            written.append(path)
            progress.write(f'{source.names[index]}: {path}')
    return written


def model_facts(trained: Trained) -> dict[str, Any]:
    """What a file of latents says about the model that made them."""
    return {
        'checkpoint': trained.name,
        'step': trained.step,
        'frame_rate': trained.spec.frame_rate,
        'config': dataclasses.asdict(trained.model.config),
        'params_sha256': trained.params_sha256,
    }


def _check_fits(source: LatentsReader, trained: Trained) -> None:
    """Raises UserError where latents do not fit a model; warns where other weights made them."""
    config = trained.model.config
    shape = (config.latents, config.latent_channels)
    made_by = source.model.get('checkpoint')
    if source.shape != shape:
        raise UserError(
            f'{source.path} has latents {source.shape} and the model of {trained.name} {shape}: '
            f'give the --checkpoint that made them, {made_by!r}'
        )
    if not 1 <= source.frames.min() <= source.frames.max() <= config.frames:
        raise UserError(
            f'{source.path} has windows of up to {source.frames.max()} frames and the model of '
            f'{trained.name} {config.frames}: give the one that made them'
        )
    made_with, own = source.model.get('params_sha256'), trained.params_sha256
    if made_with is None:  # the file is of an earlier version
        made_with = (made_by, source.model.get('step'))
        own_name: Any = (trained.name, trained.step)
        differs = made_with != own_name
    else:
        differs = made_with != own
    if differs:
        step = source.model.get('step')
        origin = f'{made_by!r}' + ('' if step is None else f', step {step}')
        print(
            f'warning: the latents in {source.path} were made with other weights ({origin}) than '
            f'those of --checkpoint={trained}: the videos will not resemble the files',
            file=sys.stderr,
        )
