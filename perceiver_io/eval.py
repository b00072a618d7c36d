"""Evaluates models: the row of Table 5 of each, a line for every clip, and a few videos to look at.

    perceiver-io eval --checkpoint=X [--checkpoint=Y ...] --output=OUT
        [--data.path=FOLDER --data.csv=labels.csv ...]

`data.eval_windows` windows of every clip of `data.eval_split`, by default the one at its centre,
are decoded whole, with the label hidden. Any key of the run's `data` can be overridden. `--hide`
and `--latents` make rows of their own, for models that were trained so (docs/one_model.md).
`--data.path` names a folder of media files, or with `--data.dataset` of prepared datasets. An
evaluation that was interrupted goes on when it is started again. With `--distributed` on several
processes, each reads its part of the clips.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import haiku as hk
from absl import flags
from ml_collections import config_dict, config_flags

from perceiver_io import cli
from perceiver_io.checkpoints import loading
from perceiver_io.core import files
from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import as_usage
from perceiver_io.core.metrics_file import read_metrics
from perceiver_io.core.picks import spread
from perceiver_io.core.progress import progress_bar
from perceiver_io.data import sources
from perceiver_io.data.config import DataConfig
from perceiver_io.data.records import Record, Source
from perceiver_io.distributed import compilation_cache, preemption, sharding
from perceiver_io.distributed.peers import watched_peers
from perceiver_io.distributed.processes import is_first
from perceiver_io.distributed.start import define_flags as define_distributed_flags
from perceiver_io.distributed.start import initialize_from_flags
from perceiver_io.evaluation import output as results
from perceiver_io.evaluation import table5
from perceiver_io.evaluation.evaluate import Evaluator
from perceiver_io.evaluation.results import ShownWindow
from perceiver_io.evaluation.saved_progress import SavedProgress, fingerprint
from perceiver_io.inference import inputs, reconstruction
from perceiver_io.media import reader
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.report import page
from perceiver_io.report.content import Model
from perceiver_io.report.gather import gather
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment

VIDEO_SECONDS = 10  # of the side-by-side videos, at most


def main(arguments: Sequence[str]) -> None:
    cli.no_arguments(arguments)
    values = flags.FLAGS
    compilation_cache.use_from_flag()
    initialize_from_flags()
    preemption.end_at_sigterm()  # what has been evaluated is saved after every batch
    with watched_peers(values.peer_timeout):
        evaluate_checkpoints(
            values.checkpoint,
            values.output,
            batch_size=values.batch_size,
            videos=values.videos,
            with_report=values.report,
            views=views(values.latents, values.hide),
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
    flags.DEFINE_multi_enum(
        'hide', [], ['video', 'audio'], 'A row with this modality hidden, besides; repeatable.'
    )
    flags.DEFINE_multi_integer(
        'latents', [], 'A row with the first latents only, as many as this.', lower_bound=1
    )
    keys = {
        field.name: config_dict.placeholder(str if field.default is None else type(field.default))
        for field in dataclasses.fields(DataConfig)
    }
    config_flags.DEFINE_config_dict(
        'data', config_dict.create(**keys), "Overrides keys of the run's `data`."
    )
    define_distributed_flags()
    compilation_cache.define_flags()


class View(NamedTuple):
    """What a row of the table shows of a model: see `Autoencoder`."""

    hidden: tuple[str, ...] = ()
    kept: int = 0


def views(latents: Sequence[int], hide: Sequence[str]) -> list[View]:
    """The whole model, or its first latents, and the same with each of `hide` hidden."""
    hidden = [(), *((name,) for name in dict.fromkeys(hide))]
    return [View(each, kept) for kept in latents or (0,) for each in hidden]


def evaluate_checkpoints(
    checkpoints: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    batch_size: int = 8,
    videos: int = 4,
    with_report: bool = False,
    views: Sequence[View] = (View(),),
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
        views: of each checkpoint, a row each.
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
    wanted = list(itertools.product(checkpoints, views))
    several = len(wanted) > 1
    # All of them first: a wrong name is found before hours of evaluation.
    jobs = [Job.open(checkpoint, data or {}, batch_size, view) for checkpoint, view in wanted]
    for number, job in enumerate(jobs, 1):
        progress = job.saved_progress(output / f'unfinished_{number}.jsonl', batch_size)
        saved.append(progress)
        row, table = job.measure(progress, f'{number}/{len(wanted)} ' if several else '')
        rows.append(row)
        label = {'checkpoint': row['checkpoint']}
        if len(views) > 1:
            label['row'] = table5.title(row, len(wanted))
        clips += [line | label for line in table] if several else table
        if videos:
            folder = output / f'videos_{number}' if several else output
            folder.mkdir(exist_ok=True)
            shown = set(spread([line['name'] for line in table], videos))
            written += job.write_videos(shown, folder)
        if with_report:
            models.append(job.for_report(row, table))
    if is_first():
        written = results.write_results(rows, clips, output) + written
        if with_report:
            written = [page.write_report(models, output / 'report'), *written]
        results.print_results(rows, written)
    for progress in saved:
        progress.remove()
    return rows


@dataclasses.dataclass(frozen=True)
class Job:
    """A checkpoint and the clips that it is evaluated on.

    Attributes:
        checkpoint: as the user names it.
        model: that is evaluated, with what is hidden from it.
        experiment: with the model and the data that are evaluated.
        params: of the model.
        step: of training; None if it is not known.
        clips: of the evaluation split.
        evaluator: of the model on these clips.
    """

    checkpoint: str
    model: Autoencoder
    experiment: Experiment
    params: hk.Params
    step: int | None
    clips: Source
    evaluator: Evaluator

    @classmethod
    def open(
        cls,
        checkpoint: str | os.PathLike,
        data: Mapping[str, Any],
        batch_size: int,
        view: View = View(),  # noqa: B008
    ) -> 'Job':
        """Loads a checkpoint and opens its clips; `data` overrides keys of its config."""
        loaded = loading.load_checkpoint(checkpoint)
        experiment = override_data(run_folder.experiment_of(checkpoint, loaded), data)
        spec = experiment.clip_spec
        mesh = sharding.make_mesh(sharding.MeshConfig())
        with as_usage():
            model = Autoencoder(experiment.model, view.hidden, view.kept)
            sharding.check_divisible(mesh, batch_size=batch_size, frames=spec.frames)
        clips = sources.open_source(
            experiment.data,
            experiment.data.eval_split,
            spec,
            needs_label=False,
            classes=loaded.classes,
        )
        evaluator = Evaluator(
            model,
            clips,
            spec,
            mesh,
            data=experiment.data,
            loss=experiment.loss,
            batch_size=batch_size,
        )
        name = os.fspath(checkpoint)
        return cls(name, model, experiment, loaded.params, loaded.step, clips, evaluator)

    def saved_progress(self, path: pathlib.Path, batch_size: int) -> SavedProgress:
        """Where the evaluation keeps the clips that it has finished."""
        view = [self.model.hidden, self.model.kept]
        settings = [dataclasses.asdict(self.experiment), self.clips.classes, batch_size, view]
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
        kept = self.model.kept or self.experiment.model.latents
        row = table5.results(
            dataclasses.replace(self.experiment.model, latents=kept),
            evaluated,
            self.clips.skipped,
            step=self.step,
            windows=self.experiment.data.eval_windows,
            data=dataclasses.asdict(self.experiment.data),
            checkpoint=self.checkpoint,
            hidden=self.model.hidden,
        )
        return row, evaluated.clip_table()

    def for_report(self, row: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Model:
        """What the report shows of this checkpoint. All processes must call this."""
        return gather(
            row,
            lines,
            model=self.model,
            params=self.params,
            evaluator=self.evaluator,
            clips=self.clips,
            spec=self.experiment.clip_spec,
            config=dataclasses.asdict(self.experiment),
            training=read_metrics(self.checkpoint),
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


if __name__ == '__main__':
    cli.run(main, define_flags)
