"""Puts whole files through a trained model.

    python reconstruct.py FILE... --checkpoint=DIR --output=OUT

Writes OUT/<stem>.mp4, OUT/<stem>_side_by_side.mp4 and a line in OUT/results.csv for each file, and
says what the model takes it for. Names that begin with '-' go last, after `--`.
"""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import tqdm
from absl import flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError
from perceiver_io.inference import reconstruction
from perceiver_io.inference.reconstruction import NO_SOUND
from perceiver_io.media import reader
from perceiver_io.models.autoencoder import Autoencoder

TOP = 5
COLUMNS = (
    'file',
    'output',
    'seconds',
    'windows',
    'video_psnr',
    'audio_psnr',
    *(f'{name}_{rank}' for rank in range(1, TOP + 1) for name in ('class', 'score')),
    'status',
    'reason',
)


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
    """Reconstructs files of any length; one that fails is named with its reason, and left out.

    Args:
        paths: of the files.
        checkpoint: whatever `loading.load_checkpoint` reads.
        output: folder for the results; no input is ever replaced, and inputs of the same stem get
            numbers.
        batch_size: windows decoded at a time.

    Returns:
        The rows of `results.csv`, with the keys COLUMNS; 'status' is 'done' or 'failed'.
    """
    if not paths:
        raise UsageError(
            'there is no file to reconstruct: name some, as in '
            'python reconstruct.py FILE... --checkpoint=DIR --output=OUT'
        )
    output = files.make_folder(output, '--output')
    loaded = loading.load_checkpoint(checkpoint)
    step = reconstruction.make_reconstruct_step(Autoencoder(loaded.config))
    spec = loaded.clip_spec

    rows = []
    for count, (path, stem) in enumerate(zip(paths, reconstruction.output_stems(paths, output)), 1):
        row = dict.fromkeys(COLUMNS) | {'file': os.fspath(path)}
        try:
            info = reader.probe(path)
            windows = reconstruction.reconstruct_windows(
                step, loaded.params, reader.read_windows(path, spec), spec, batch_size
            )
            progress = tqdm.tqdm(
                windows,
                f'{count}/{len(paths)} {stem}',
                unit='window',
                leave=False,
                total=math.ceil(info.seconds / spec.seconds),
            )
            with progress:
                summary = reconstruction.write_windows(
                    progress,
                    spec,
                    alone=output / f'{stem}.mp4',
                    side_by_side=output / f'{stem}{reconstruction.SIDE_BY_SIDE}',
                )
        except (reader.UnreadableMedia, OSError) as error:
            row |= {'status': 'failed', 'reason': cli.message(error) or str(error)}
        else:
            row |= {'status': 'done', 'output': f'{stem}.mp4'} | _numbers(
                summary, loaded.classes, spec
            )
            if spec.audio and not info.has_audio:
                row |= {'audio_psnr': None, 'reason': NO_SOUND}
        rows.append(row)
        _say(row)
        files.write_csv(output / 'results.csv', rows)  # each time, so that a stop loses none
    failed = sum(row['status'] == 'failed' for row in rows)
    print(f'{len(rows) - failed} of {len(rows)} files reconstructed, see {output / "results.csv"}')
    return rows


def _numbers(summary: reconstruction.Summary, classes: Sequence[str], spec) -> dict[str, Any]:
    row = {
        'seconds': summary.frames / spec.frame_rate,
        'windows': summary.windows,
        'video_psnr': summary.video_psnr,
        'audio_psnr': summary.audio_psnr,
    }
    if summary.scores is not None:
        best = summary.scores.argsort()[::-1][:TOP]
        for rank, index in enumerate(best, 1):
            row[f'class_{rank}'] = classes[index] if index < len(classes) else f'class {index}'
            row[f'score_{rank}'] = float(summary.scores[index])
    return row


def _say(row: dict[str, Any]) -> None:
    """A line about a file, and one about its classes."""
    if row['status'] == 'failed':
        print(f'{row["file"]}: {row["reason"]}', file=sys.stderr)
        return
    parts = [f'{row["seconds"]:.2f} s in {row["windows"]} windows']
    parts += [
        f'{kind} {row[f"{kind}_psnr"]:.2f} dB'
        for kind in ('video', 'audio')
        if row[f'{kind}_psnr'] is not None
    ]
    if row['reason']:
        parts.append(row['reason'])
    print(f'{row["file"]}: {", ".join(parts)}')
    named = [
        f'{row[f"class_{rank}"]} {row[f"score_{rank}"]:.1%}'
        for rank in range(1, TOP + 1)
        if row[f'class_{rank}'] is not None
    ]
    if named:
        print(f'  {", ".join(named)}')


if __name__ == '__main__':
    cli.run(main, define_flags)
