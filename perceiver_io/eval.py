"""Evaluates a model: the row of Table 5, a line for every clip, and a few videos to look at.

    python eval.py --checkpoint=X --output=OUT [--data.path=FOLDER --data.csv=labels.csv ...]

Every window of every clip of `data.eval_split` is decoded whole, with its label hidden. Any key of
the run's `data` can be overridden; `--data.path` says that the clips are a folder's, and with
`--data.dataset` that they are a prepared dataset's.
"""

import dataclasses
import itertools
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import haiku as hk
import numpy as np
import tqdm
from absl import flags
from ml_collections import config_dict, config_flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import loader, sources
from perceiver_io.data.records import Record
from perceiver_io.distributed import sharding
from perceiver_io.evaluation import evaluation, table5
from perceiver_io.inference import reconstruction
from perceiver_io.media import reader
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.training.experiment import Experiment

VIDEO_SECONDS = 10  # of the side-by-side videos, at most


def main(_) -> None:
    values = flags.FLAGS
    evaluate_run(
        values.checkpoint,
        values.output,
        batch_size=values.batch_size,
        videos=values.videos,
        data=values.data.to_dict(),
    )


def define_flags() -> None:
    flags.DEFINE_string('checkpoint', None, loading.CHECKPOINT_HELP, required=True)
    flags.DEFINE_string('output', None, 'Folder for the results.', required=True)
    flags.DEFINE_integer('batch_size', 8, 'Windows decoded at a time.', lower_bound=1)
    flags.DEFINE_integer('videos', 4, 'How many side-by-side videos to write.', lower_bound=0)
    keys = {
        field.name: config_dict.placeholder(str if field.default is None else type(field.default))
        for field in dataclasses.fields(sources.DataConfig)
    }
    config_flags.DEFINE_config_dict(
        'data', config_dict.create(**keys), "Keys of the run's data that are to be others."
    )


def evaluate_run(
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    batch_size: int = 8,
    videos: int = 4,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint, prints the table and writes the results.

    Args:
        checkpoint: whatever `loading.load_checkpoint` reads; of a run, its newest checkpoint.
        output: folder for `table5.json`, `clips.csv` and `*_side_by_side.mp4`, and for
            `skipped.csv` if clips could not be used.
        batch_size: windows decoded at a time, over all devices.
        videos: how many side-by-side videos to write.
        data: values of `DataConfig` that replace the run's; those that are None do not.

    Returns:
        What is in `table5.json`.
    """
    output = files.make_folder(output, '--output')
    loaded = loading.load_checkpoint(checkpoint)
    experiment = override_data(loaded.experiment, data or {})
    mesh = sharding.make_mesh(sharding.MeshConfig())
    sharding.check_divisible(mesh, batch_size=batch_size, frames=experiment.model.frames)
    model = Autoencoder(experiment.model)
    clips = sources.open_source(
        experiment.data,
        experiment.data.eval_split,
        experiment.clip_spec,
        needs_label=False,
        classes=loaded.classes,
    )

    windows = experiment.data.eval_windows
    batches = loader.evaluation_batches(
        clips,
        experiment.clip_spec,
        batch_size=batch_size,
        windows=windows,
        workers=experiment.data.workers,
        threads=experiment.data.threads,
    )
    evaluated = evaluation.evaluate(
        evaluation.make_eval_step(model, mesh),
        sharding.put_replicated(loaded.params, mesh),
        batches,
        names=[record.name for record in clips.records],
        classes=clips.classes,
        weights=experiment.loss,
        mesh=mesh,
        progress=lambda batches: tqdm.tqdm(
            batches,
            'evaluating',
            math.ceil(len(clips.records) * windows / batch_size),
            unit='batch',
        ),
    )

    results = table5.results(experiment.model, evaluated, clips.skipped) | {
        'step': loaded.step,
        'windows': windows,
        'model': dataclasses.asdict(experiment.model),
        'data': dataclasses.asdict(experiment.data),
    }
    written = write_results(results, evaluated, output)
    shown = spread([row['name'] for row in evaluated.clips], videos)
    written += write_videos(
        reconstruction.make_reconstruct_step(model),
        loaded.params,
        [record for record in clips.records if record.name in shown],
        experiment.clip_spec,
        output,
        batch_size,
    )
    report(results, experiment, written)
    return results


def override_data(experiment: Experiment, data: Mapping[str, Any]) -> Experiment:
    """The experiment with other values of its `data`; see the head of this file for the source."""
    given = {key: value for key, value in data.items() if value is not None}
    if given.get('path'):
        given = {'source': 'tfds' if given.get('dataset') else 'folder'} | given
    values = dataclasses.asdict(experiment)
    return Experiment.from_dict(values | {'data': values['data'] | given})


def write_results(
    results: Mapping[str, Any], evaluated: evaluation.Evaluation, output: pathlib.Path
) -> list[pathlib.Path]:
    """Writes the numbers; returns the paths."""
    tables = {'clips.csv': evaluated.clips, 'skipped.csv': results['skipped_clips']}
    (output / 'skipped.csv').unlink(missing_ok=True)  # of an earlier evaluation
    tables = {name: rows for name, rows in tables.items() if rows}
    for name, rows in tables.items():
        files.write_csv(output / name, rows)
    files.write_text(output / 'table5.json', table5.to_json(results))
    return [output / 'table5.json', *(output / name for name in tables)]


def write_videos(
    step: Callable,
    params: hk.Params,
    records: Sequence[Record],
    spec: ClipSpec,
    output: pathlib.Path,
    batch_size: int,
) -> list[pathlib.Path]:
    """Writes the first seconds of each clip beside its reconstruction; returns the paths."""
    stems = reconstruction.output_stems([record.file for record in records], output)
    count = max(1, round(VIDEO_SECONDS / spec.seconds))
    written = []
    progress = tqdm.tqdm(
        zip(records, stems), 'side by side', len(records), unit='video', disable=not records
    )
    for record, stem in progress:
        windows = itertools.islice(reader.read_windows(record.load(), spec), count)
        path = output / f'{stem}{reconstruction.SIDE_BY_SIDE}'
        try:
            reconstruction.write_windows(
                reconstruction.reconstruct_windows(step, params, windows, spec, batch_size),
                spec,
                side_by_side=path,
            )
        except reader.UnreadableMedia as error:  # outside the window that was evaluated
            progress.write(f'no video of {record.name}: {error}')
            continue
        written.append(path)
    return written


def report(
    results: Mapping[str, Any], experiment: Experiment, written: Sequence[pathlib.Path]
) -> None:
    """Prints the table, what was skipped, and what was written."""
    clips, labelled = results['clips'], results['labelled_clips']
    step = '' if results['step'] is None else f'step {results["step"]}, '
    print(
        f'\nTable 5, {step}split {experiment.data.eval_split!r}: {clips} clips x '
        f'{results["windows"]} windows of {experiment.clip_spec.seconds:.2f} s'
    )
    print(table5.text(results, experiment.model))
    if 'label' in experiment.model.modalities and labelled < clips:
        print(f'top-1 and top-5 are of the {labelled} clips with a class that the model knows')
    print('PSNR in dB: peak 1, audio in [-1, 1] (peak 2 would add 6.02 dB)')
    if results['skipped']:
        print(f'skipped {results["skipped"]}:')
        for clip in results['skipped_clips']:
            print(f'  {clip["name"]}: {clip["reason"]}')
    print('written:')
    for path in written:
        print(f'  {path}')


def spread(items: Sequence[str], count: int) -> set[str]:
    """At most `count` of the items, evenly from first to last."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return {items[place] for place in places}


if __name__ == '__main__':
    cli.run(main, define_flags)
