"""A training run and the clips that it is evaluated on."""

from collections.abc import Sequence

from perceiver_io.checkpoints import loading
from perceiver_io.data import sources
from perceiver_io.data.records import Record
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment


def open_run(folder: str) -> tuple[loading.Checkpoint, Experiment, Sequence[Record]]:
    """The newest checkpoint of a run, its config, and the clips of its evaluation split."""
    loaded = loading.load_checkpoint(folder)
    experiment = run_folder.experiment_of(folder, loaded)
    data = experiment.data
    clips = sources.open_source(
        data, data.eval_split, experiment.clip_spec, needs_label=False, classes=loaded.classes
    )
    return loaded, experiment, clips.records
