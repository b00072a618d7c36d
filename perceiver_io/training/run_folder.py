"""The folder of a run: `config.json` and `classes.json`; its checkpoints are the store's."""

import json
import os
import pathlib

import jax

from perceiver_io.checkpoints import loading
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.formats.checks import is_name
from perceiver_io.checkpoints.loading import CLASSES, CONFIG
from perceiver_io.core.errors import UserError
from perceiver_io.core.files import make_folder, write_text
from perceiver_io.data.config import DataConfig
from perceiver_io.training.experiment import Experiment


def check_run(workdir: str | os.PathLike, experiment: Experiment) -> None:
    """Raises UserError if `workdir` cannot be written, or holds a run of another model."""
    workdir = make_folder(workdir, '--workdir')
    if not (workdir / CONFIG).exists():
        return
    before = read_experiment(workdir)
    if before.init_from != experiment.init_from:
        raise UserError(
            f'{workdir} holds a run with init_from={before.init_from!r}, and not '
            f'{experiment.init_from!r}: choose another --workdir'
        )
    changed = [
        f'{name} ({getattr(before.model, name)!r} then, {value!r} now)'
        for name, value in vars(experiment.model).items()
        if value != getattr(before.model, name)
    ]
    if changed:
        raise UserError(
            f'{workdir} holds a run of a model with another {", ".join(changed)}: '
            'choose another --workdir'
        )


def start_run(workdir: str | os.PathLike, experiment: Experiment, classes: tuple[str, ...]) -> None:
    """Writes the experiment and the names of the classes into a folder, new or not.

    Raises:
        UserError: the folder holds a run with other classes, or a name has several lines.
    """
    workdir = pathlib.Path(workdir)
    for name in classes:
        if not is_name(name):
            raise UserError(f'the class {name!r} cannot be shown in a line: rename it')
    if (workdir / CLASSES).exists() and loading.read_classes(workdir) != classes:
        raise UserError(f'{workdir} holds a run with other classes: choose another --workdir')
    if jax.process_index() == 0:
        write_text(workdir / CLASSES, json.dumps(classes, ensure_ascii=False, indent=1) + '\n')
        write_text(workdir / CONFIG, experiment.to_json())


def read_experiment(workdir: str | os.PathLike) -> Experiment:
    """The experiment of a run; UserError if there is none."""
    return Experiment.from_dict(loading.read_config(workdir))


def experiment_of(name: str | os.PathLike, checkpoint: Checkpoint) -> Experiment:
    """The experiment of the run that a checkpoint is from.

    Args:
        name: from which the checkpoint was loaded.
        checkpoint: what was loaded.

    Returns:
        For weights that are no run's, the default experiment with their model and frame rate, and
        a folder as the source of data, whose `data.path` is yet to be named.
    """
    if loading.is_run(name):
        return read_experiment(name)
    data = DataConfig(source='folder', frame_rate=checkpoint.frame_rate)
    return Experiment(model=checkpoint.config, data=data)
