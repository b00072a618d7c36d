"""Media files through a trained model: videos, and a row of `results.csv` for each file."""

import math
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from perceiver_io.core import files
from perceiver_io.core.clip import Clip
from perceiver_io.core.progress import progress_bar
from perceiver_io.inference import reconstruction
from perceiver_io.inference.inputs import (
    NO_AUDIO,
    SIDE_BY_SIDE,
    SILENT,
    list_files,
    output_stems,
    reason_of,
)
from perceiver_io.inference.trained import Trained
from perceiver_io.media import reader

TOP = 5  # classes in a row
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


def reconstruct_files(
    paths: Sequence[str | os.PathLike], output: pathlib.Path, trained: Trained, batch_size: int
) -> list[dict[str, Any]]:
    """Reconstructs files of any length. A file that fails is reported, and the others go on.

    Args:
        paths: of files, and of folders, of which all media files are taken.
        output: a folder for `STEM.mp4`, `STEM_side_by_side.mp4` and `results.csv`. No input is
            replaced; inputs of the same stem get numbers.
        trained: the model.
        batch_size: windows in a batch.

    Returns:
        The rows of `results.csv`, with the keys COLUMNS; 'status' is 'done' or 'failed'.
    """
    inputs = list_files(paths, output)
    step = reconstruction.make_reconstruct_step(trained.model)
    rows: list[dict[str, Any]] = []
    for count, (path, stem) in enumerate(zip(inputs, output_stems(inputs, output)), 1):
        row = dict.fromkeys(COLUMNS) | {'file': os.fspath(path)}
        title = f'{count}/{len(inputs)} {stem}'
        try:
            row |= _reconstruct(path, output / stem, trained, step, batch_size, title)
        except (reader.UnreadableMedia, OSError) as error:
            row |= {'status': 'failed', 'reason': reason_of(error)}
        rows.append(row)
        _print_row(row)
        files.write_csv(output / 'results.csv', rows)  # each time, so that a stop loses none
    failed = sum(row['status'] == 'failed' for row in rows)
    print(f'{len(rows) - failed} of {len(rows)} files reconstructed, see {output / "results.csv"}')
    return rows


def _reconstruct(
    path: str | os.PathLike,
    target: pathlib.Path,
    trained: Trained,
    step: reconstruction.Step[Clip, reconstruction.Window],
    batch_size: int,
    title: str,
) -> dict[str, Any]:
    """Reconstructs a file into the videos whose names begin with `target`; returns its numbers."""
    spec = trained.spec
    info = reader.probe(path)
    windows = reconstruction.reconstruct_windows(
        step, trained.params, reader.read_windows(path, spec), spec, batch_size
    )
    total = math.ceil(info.seconds / spec.seconds)
    with progress_bar(windows, title, unit='window', leave=False, total=total) as progress:
        summary = reconstruction.write_windows(
            progress,
            spec,
            classes=trained.classes,
            alone=target.with_name(f'{target.name}.mp4'),
            side_by_side=target.with_name(f'{target.name}{SIDE_BY_SIDE}'),
        )
    reason = None
    if spec.audio and not summary.has_sound:
        reason = SILENT if info.has_audio else NO_AUDIO
    row = {
        'output': f'{target.name}.mp4',
        'seconds': summary.frames / spec.frame_rate,
        'windows': summary.windows,
        'video_psnr': summary.video_psnr,
        'audio_psnr': summary.audio_psnr,
        'status': 'done',
        'reason': reason,
    }
    if summary.scores is not None:
        best = summary.scores.argsort()[::-1][:TOP]
        for rank, index in enumerate(best, 1):
            row[f'class_{rank}'] = trained.classes[index]
            row[f'score_{rank}'] = float(summary.scores[index])
    return row


def _print_row(row: dict[str, Any]) -> None:
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
    classes = [
        f'{row[f"class_{rank}"]} {row[f"score_{rank}"]:.1%}'
        for rank in range(1, TOP + 1)
        if row[f'class_{rank}'] is not None
    ]
    if classes:
        print(f'  {", ".join(classes)}')
