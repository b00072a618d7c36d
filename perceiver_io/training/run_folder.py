"""The folder of a run: `config.json`, `classes.json` and `init_from.json`.

The checkpoints in it are those of `CheckpointStore`. What may change while a run goes on is what
neither the parameters nor the order of the examples depend on, and the number of steps:

| key | |
| --- | --- |
| training.steps | the schedule of the learning rate stretches with it |
| training.log_every, eval_every, eval_clips, eval_batch_size, checkpoint_every, keep | |
| training.max_bad_steps | |
| data.workers, threads, eval_split, eval_windows | |
| data.path, csv, dataset, cache | the same clips at another place |
| model.attention, remat, decode_memory | the same function, apart from rounding |
| mesh.data, mesh.context | the same training, apart from rounding |

All other keys stay. To train on with other ones, start a new run with `init_from`.
"""

import dataclasses
import json
import os
import pathlib
import sys
from typing import Any

from perceiver_io.checkpoints import loading
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.formats.checks import is_name, read_json
from perceiver_io.checkpoints.loading import CLASSES, CONFIG
from perceiver_io.core.errors import InvalidFileError, UserError
from perceiver_io.core.files import make_folder, write_text
from perceiver_io.data.config import DataConfig
from perceiver_io.distributed.processes import is_first
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.take_over import TakeOver

INIT_FROM = 'init_from.json'
_MAY_CHANGE = {
    'training': (
        'steps',
        'log_every',
        'eval_every',
        'eval_clips',
        'eval_batch_size',
        'checkpoint_every',
        'max_bad_steps',
        'keep',
    ),
    'data': (
        'workers',
        'threads',
        'eval_split',
        'eval_windows',
        'path',
        'csv',
        'dataset',
        'cache',
    ),
    'model': ('attention', 'remat', 'decode_memory'),
    'mesh': ('data', 'context'),
}


def check_run(workdir: str | os.PathLike, experiment: Experiment, goes_on: bool = True) -> None:
    """Names the keys that differ from those of the run in `workdir`, if it goes on.

    Args:
        workdir: the folder of the run, which need not exist.
        experiment: of the run that starts.
        goes_on: whether the folder has a checkpoint; without one, its config counts for nothing.

    Raises:
        UserError: the folder cannot be written, or a key differs that must not.
    """
    workdir = make_folder(workdir, '--workdir')
    if not goes_on or not (workdir / CONFIG).exists():
        return
    before = read_experiment(workdir)
    check_init_from(workdir, before, experiment.init_from)
    changed = changes(before, experiment)
    forbidden = [key for key in changed if not _may_change(key)]
    if forbidden:
        named = [f'{key} ({changed[key][0]!r} then, {changed[key][1]!r} now)' for key in forbidden]
        raise UserError(
            f'{workdir} holds a run with another {", ".join(named)}, which cannot change while a '
            'run goes on: choose another --workdir (with --config.init_from, it can start from '
            'this run)'
        )
    if is_first():
        for key, (then, now) in changed.items():
            print(f'changed: {key} is {now!r}, it was {then!r}', file=sys.stderr)


def changes(before: Experiment, now: Experiment) -> dict[str, tuple[Any, Any]]:
    """The (value then, value now) of the keys of two experiments that differ, by 'group.key'."""
    changed = {}
    for group, values in dataclasses.asdict(now).items():
        old = dataclasses.asdict(before)[group]
        if not isinstance(values, dict):
            group, values, old = '', {group: values}, {group: old}
        for key, value in values.items():
            if value != old[key]:
                changed[f'{group}.{key}'.lstrip('.')] = (old[key], value)
    return changed


def _may_change(name: str) -> bool:
    group, _, key = name.partition('.')
    return key in _MAY_CHANGE.get(group, ())


def check_init_from(workdir: str | os.PathLike, before: Experiment, init_from: str) -> None:
    """Raises UserError if a run started from something else than `init_from` says."""
    if before.init_from != init_from:
        raise UserError(
            f'{workdir} holds a run with init_from={before.init_from!r}, and not '
            f'{init_from!r}: choose another --workdir'
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
    if is_first():
        write_text(workdir / CLASSES, json.dumps(classes, ensure_ascii=False, indent=1) + '\n')
        write_text(workdir / CONFIG, experiment.to_json())


def write_take_over(workdir: str | os.PathLike, taken: TakeOver, experiment: Experiment) -> None:
    """Writes what a run takes over, and shows it, with the steps that train only what is new."""
    if is_first():
        text = json.dumps(dataclasses.asdict(taken), indent=1) + '\n'
        write_text(pathlib.Path(workdir) / INIT_FROM, text)
        print('\n'.join(taken.lines()), file=sys.stderr)
        head_first, steps = experiment.optimizer.head_first, experiment.training.steps
        if head_first:
            what = f'the first {head_first} of {steps}' if head_first < steps else f'all {steps}'
            print(
                f'  {what} steps train only what is new (optimizer.head_first={head_first})',
                file=sys.stderr,
            )


def read_take_over(workdir: str | os.PathLike) -> TakeOver:
    """What a run took over when it started."""
    path = pathlib.Path(workdir) / INIT_FROM
    try:
        return TakeOver(**read_json(path))
    except (OSError, InvalidFileError, TypeError) as error:
        raise UserError(
            f'{path}, what the run started from, is missing or damaged: restore '
            'it, or start the run in another --workdir'
        ) from error


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
