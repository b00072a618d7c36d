"""The files of an evaluation apart from videos and report, and what is printed."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from perceiver_io.core import files
from perceiver_io.evaluation import rate_distortion, table5


def write_results(
    rows: Sequence[Mapping[str, Any]], clips: Sequence[Mapping[str, Any]], output: pathlib.Path
) -> list[pathlib.Path]:
    """Writes the numbers; returns the paths."""
    skipped = {clip['name']: clip for row in rows for clip in row['skipped_clips']}
    (output / 'skipped.csv').unlink(missing_ok=True)  # of an earlier evaluation
    texts = {
        'table5.json': table5.to_json(rows[0] if len(rows) == 1 else {**rows[0], 'rows': rows}),
        'table5.md': table5.markdown(rows),
        'rate_distortion.json': rate_distortion.to_json(rows),
    }
    tables = {
        'table5.csv': table5.csv_rows(rows),
        'clips.csv': clips,
        'skipped.csv': list(skipped.values()),
    }
    written = []
    for name, text in texts.items():
        if text is not None:
            files.write_text(output / name, text)
            written.append(output / name)
    for name, lines in tables.items():
        if lines:
            files.write_csv(output / name, lines)
            written.append(output / name)
    return written


def print_results(rows: Sequence[Mapping[str, Any]], written: Sequence[pathlib.Path]) -> None:
    """Prints the table, what was skipped, and what was written."""
    first = rows[0]
    step = '' if first['step'] is None or len(rows) > 1 else f'step {first["step"]}, '
    seconds = first['model']['frames'] / first['data']['frame_rate']
    print(
        f'\nTable 5, {step}split {first["data"]["eval_split"]!r}: {first["clips"]} clips x '
        f'{first["windows"]} windows of {seconds:.2f} s'
    )
    print(table5.text(rows))
    print(table5.notes(rows))
    if 'label' in first['model']['modalities'] and first['labelled_clips'] < first['clips']:
        print(
            f'top-1 and top-5 are of the {first["labelled_clips"]} clips with a class that the '
            'model knows'
        )
    print('PSNR in dB: peak 1, audio in [-1, 1] (peak 2 would add 6.02 dB)')
    skipped = {clip['name']: clip for row in rows for clip in row['skipped_clips']}
    if skipped:
        reasons = [f'{clip["name"]}: {clip["reason"]}' for clip in skipped.values()]
        print(f'skipped {len(skipped)}:', *reasons, sep='\n  ')
    print('written:', *written, sep='\n  ')
