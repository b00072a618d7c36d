"""Evaluates models: the row of Table 5 of each, a line for every clip, and a few videos to look at.

    perceiver-io eval --checkpoint=X [--checkpoint=Y ...] --output=OUT
        [--data.path=FOLDER --data.csv=labels.csv ...]

Every window of every clip of `data.eval_split` is decoded whole, with its label hidden. Any key of
the run's `data` can be overridden. `--data.path` names a folder of media files, or with
`--data.dataset` of prepared datasets. An evaluation that was interrupted goes on when it is started
again. With `--distributed` on several processes, each reads its part of the clips.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import haiku as hk
from absl import flags
from ml_collections import config_dict, config_flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import as_usage
from perceiver_io.core.picks import spread
from perceiver_io.core.progress import progress_bar
from perceiver_io.data import sources
from perceiver_io.data.config import DataConfig
from perceiver_io.data.records import Record, Source
from perceiver_io.distributed import sharding
from perceiver_io.distributed.processes import is_first
from perceiver_io.distributed.start import define_flags as define_distributed_flags
from perceiver_io.distributed.start import initialize_from_flags
from perceiver_io.evaluation import rate_distortion, table5
from perceiver_io.evaluation.evaluate import Evaluator
from perceiver_io.evaluation.results import ShownWindow
from perceiver_io.evaluation.saved_progress import SavedProgress, fingerprint
from perceiver_io.inference import inputs, reconstruction
from perceiver_io.media import reader
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.report import curves, page
from perceiver_io.report.content import Model
from perceiver_io.report.gather import gather
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment

VIDEO_SECONDS = 10  # of the side-by-side videos, at most


def main(arguments: Sequence[str]) -> None:
    cli.no_arguments(arguments)
    values = flags.FLAGS
    initialize_from_flags()
    evaluate_checkpoints(
        values.checkpoint,
        values.output,
        batch_size=values.batch_size,
        videos=values.videos,
        with_report=values.report,
        data=values.data.to_dict(),
    )


def define_flags() -> None:
    flags.DEFINE_multi_string(
        'checkpoint',
        None,
        f'{loading.CHECKPOINT_HELP} Several of these flags make several rows.',
        required=True,
    )
    flags.DEFINE_string('output', None, 'Folder for the results.', required=True)
    flags.DEFINE_integer('batch_size', 8, 'Windows decoded at a time.', lower_bound=1)
    flags.DEFINE_integer('videos', 4, 'How many side-by-side videos to write.', lower_bound=0)
    flags.DEFINE_bool('report', True, 'Whether to write report/index.html, with players and plots.')
    keys = {
        field.name: config_dict.placeholder(str if field.default is None else type(field.default))
        for field in dataclasses.fields(DataConfig)
    }
    config_flags.DEFINE_config_dict(
        'data', config_dict.create(**keys), "Overrides keys of the run's `data`."
    )
    define_distributed_flags()


def evaluate_checkpoints(
    checkpoints: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    batch_size: int = 8,
    videos: int = 4,
    with_report: bool = False,
    data: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Evaluates checkpoints, prints the table and writes the results.

    On several processes, each reads its part of the clips, and the first one writes.

    Args:
        checkpoints: whatever `loading.load_checkpoint` reads; of a run, its newest checkpoint.
        output: folder for `table5.json`, `.md` and `.csv`, `clips.csv`, `rate_distortion.json`,
            `*_side_by_side.mp4`, `report/`, and for `skipped.csv` if clips could not be used. Of
            several checkpoints, each has its videos in a folder of its own.
        batch_size: windows decoded at a time, over all devices.
        videos: how many side-by-side videos to write for each checkpoint.
        with_report: whether to write `report/index.html` too, as the program does by default.
        data: values of `DataConfig` that override those of the run, except None.

    Returns:
        The rows: of each checkpoint, what `table5.json` holds for it alone.
    """
    output = files.make_folder(output, '--output')
    rows: list[dict[str, Any]] = []
    clips: list[dict[str, Any]] = []
    written: list[pathlib.Path] = []
    saved: list[SavedProgress] = []
    models: list[Model] = []
    for number, checkpoint in enumerate(checkpoints, 1):
        several = len(checkpoints) > 1
        job = Job.open(checkpoint, data or {}, batch_size)
        progress = job.saved_progress(output / f'unfinished_{number}.jsonl', batch_size)
        saved.append(progress)
        row, table = job.measure(progress, f'{number}/{len(checkpoints)} ' if several else '')
        rows.append(row)
        clips += [line | {'checkpoint': row['checkpoint']} for line in table] if several else table
        if videos:
            folder = output / f'videos_{number}' if several else output
            folder.mkdir(exist_ok=True)
            shown = set(spread([line['name'] for line in table], videos))
            written += job.write_videos(shown, folder)
        if with_report:
            models.append(job.for_report(row, table))
    if is_first():
        written = write_results(rows, clips, output) + written
        if with_report:
            written = [page.write_report(models, output / 'report'), *written]
        report(rows, written)
    for progress in saved:
        progress.remove()
    return rows


@dataclasses.dataclass(frozen=True)
class Job:
    """A checkpoint and the clips that it is evaluated on.

    Attributes:
        checkpoint: as the user names it.
        experiment: with the model and the data that are evaluated.
        params: of the model.
        step: of training; None if it is not known.
        clips: of the evaluation split.
        evaluator: of the model on these clips.
    """

    checkpoint: str
    experiment: Experiment
    params: hk.Params
    step: int | None
    clips: Source
    evaluator: Evaluator

    @classmethod
    def open(cls, checkpoint: str | os.PathLike, data: Mapping[str, Any], batch_size: int) -> 'Job':
        """Loads a checkpoint and opens its clips; `data` overrides keys of its config."""
        loaded = loading.load_checkpoint(checkpoint)
        experiment = override_data(run_folder.experiment_of(checkpoint, loaded), data)
        spec = experiment.clip_spec
        mesh = sharding.make_mesh(sharding.MeshConfig())
        with as_usage():
            sharding.check_divisible(mesh, batch_size=batch_size, frames=spec.frames)
        clips = sources.open_source(
            experiment.data,
            experiment.data.eval_split,
            spec,
            needs_label=False,
            classes=loaded.classes,
        )
        evaluator = Evaluator(
            Autoencoder(experiment.model),
            clips,
            spec,
            mesh,
            data=experiment.data,
            loss=experiment.loss,
            batch_size=batch_size,
        )
        return cls(os.fspath(checkpoint), experiment, loaded.params, loaded.step, clips, evaluator)

    def saved_progress(self, path: pathlib.Path, batch_size: int) -> SavedProgress:
        """Where the evaluation keeps the clips that it has finished."""
        settings = [dataclasses.asdict(self.experiment), self.clips.classes, batch_size]
        names = [record.name for record in self.clips.records]
        return SavedProgress(
            path, fingerprint(self.params, self.evaluator.metrics, names, settings)
        )

    def measure(
        self, progress: SavedProgress, title: str
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The row of the table, and the lines of `clips.csv`."""
        finished = progress.read()
        if finished.records() and is_first():
            print(f'going on after {len(finished.records())} of {len(self.clips.records)} clips')
        evaluated = self.evaluator(
            self.params,
            progress=lambda batches, total: progress_bar(
                batches, f'{title}evaluating', total=total, unit='batch', disable=not is_first()
            ),
            finished=finished,
            save=progress.add,
        )
        row = table5.results(
            self.experiment.model,
            evaluated,
            self.clips.skipped,
            step=self.step,
            windows=self.experiment.data.eval_windows,
            data=dataclasses.asdict(self.experiment.data),
            checkpoint=self.checkpoint,
        )
        return row, evaluated.clip_table()

    def for_report(self, row: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Model:
        """What the report shows of this checkpoint. All processes must call this."""
        return gather(
            row,
            lines,
            model=Autoencoder(self.experiment.model),
            params=self.params,
            evaluator=self.evaluator,
            clips=self.clips,
            spec=self.experiment.clip_spec,
            config=dataclasses.asdict(self.experiment),
            training=curves.read_metrics(self.checkpoint),
        )

    def write_videos(self, names: set[str], output: pathlib.Path) -> list[pathlib.Path]:
        """Writes the first seconds of clips beside their reconstructions; returns the paths."""
        records = [record for record in self.clips.records if record.name in names]
        stems = inputs.output_stems([record.file for record in records], output)
        progress = progress_bar(
            zip(records, stems),
            'side by side',
            total=len(records),
            unit='video',
            disable=not (records and is_first()),
        )
        written = []
        for record, stem in progress:
            path = output / f'{stem}{inputs.SIDE_BY_SIDE}'
            try:
                self._write_video(record, path)
                written.append(path)
            except reader.UnreadableMedia as error:  # outside the window that was evaluated
                progress.write(f'no video of {record.name}: {error}')
        return written

    def _write_video(self, record: Record, path: pathlib.Path) -> None:
        windows = self.evaluator.reconstruct(self.params, record, VIDEO_SECONDS)
        if is_first():
            reconstruction.write_windows(
                as_windows(windows, self.experiment.clip_spec),
                self.experiment.clip_spec,
                classes=self.clips.classes,
                side_by_side=path,
            )
        else:
            for _ in windows:  # every process has its part in the computation
                pass


def as_windows(windows: Iterable[ShownWindow], spec: ClipSpec) -> Iterable[reconstruction.Window]:
    """Windows of an evaluation, as `reconstruction.write_windows` takes them."""
    for window in windows:
        scores = window.reconstruction.label
        yield reconstruction.window_of(window.original, window.reconstruction, scores, spec)


def override_data(experiment: Experiment, data: Mapping[str, Any]) -> Experiment:
    """The experiment with other values of its `data`.

    A `path` without a `source` is a folder's, or with a `dataset` that of prepared datasets.
    """
    given = {key: value for key, value in data.items() if value is not None}
    if given.get('path'):
        given = {'source': 'tfds' if given.get('dataset') else 'folder'} | given
    values = dataclasses.asdict(experiment)
    with as_usage():
        return Experiment.from_dict(values | {'data': values['data'] | given})


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


def report(rows: Sequence[Mapping[str, Any]], written: Sequence[pathlib.Path]) -> None:
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


if __name__ == '__main__':
    cli.run(main, define_flags)
