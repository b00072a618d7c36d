"""How a run starts: it goes on, takes over from a checkpoint, or is fresh."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from perceiver_io.checkpoints import loading, store
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.repair import repair
from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.core.config_values import build, typed
from perceiver_io.core.errors import UsageError, as_usage
from perceiver_io.data import sources
from perceiver_io.data.config import DataConfig
from perceiver_io.distributed.processes import barrier, on_first
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.fit_config import fit_config
from perceiver_io.training.initialization.placement import Placement
from perceiver_io.training.steps import TrainState
from perceiver_io.training.take_over import TakeOver


@dataclasses.dataclass(frozen=True)
class Start:
    """How a run starts.

    Attributes:
        experiment: of the run, complete.
        goes_on: whether the folder of the run has a checkpoint to go on from.
        source: the checkpoint whose parameters are taken over; None if there is nothing to take
            over, or if the run has done so already.
    """

    experiment: Experiment
    goes_on: bool = False
    source: Checkpoint | None = None

    @property
    def placement(self) -> Placement | None:
        """Of the placed start; None if the run does not start from it."""
        is_fresh = not self.goes_on and self.source is None
        is_placed = self.experiment.model.initialization == 'placed'
        return self.experiment.initialization if is_fresh and is_placed else None


def decide(values: Mapping[str, Any], workdir: str | os.PathLike) -> Start:
    """How a run starts. The first of these that applies:

    1. The folder has a checkpoint: the run goes on from it, to the same parameters, bit for bit.
       If `init_from` is set, what the config leaves open is as in the folder's `config.json`. The
       checkpoint named by `init_from` is not read, and may be gone.
    2. `init_from` is set: the run takes over the parameters of that checkpoint, at step 0. What the
       config leaves open is as in the checkpoint.
    3. Otherwise the parameters are drawn from `training.seed`, as `model.initialization` says.

    A config leaves open what is None: with `init_from` keys of `model` and `data.frame_rate`, and
    in any case `model.classes`, which is then the number of classes of the clips.

    Damaged checkpoints are moved away first, see `checkpoints.repair`.

    Args:
        values: nested dictionaries, as for `Experiment.from_dict`.
        workdir: the folder of the run, which need not exist.

    Raises:
        UsageError: a value of the config is wrong, or does not fit the checkpoint.
        UserError: the folder holds a run with which this one cannot go on, or the checkpoint or
            the list of the clips cannot be read.
    """
    name = values.get('init_from') or ''
    on_first(lambda: repair(workdir))
    goes_on = store.latest_step(workdir) is not None
    barrier('start')  # before any process creates the folder of checkpoints
    if goes_on:
        before = run_folder.read_experiment(workdir)
        run_folder.check_init_from(workdir, before, name)
        if name:
            values = complete(values, before.model, before.data.frame_rate, str(workdir))
        return Start(experiment_of(values), goes_on=True)
    if name:
        source = loading.load_checkpoint(name)
        values = complete(values, source.config, source.frame_rate, name)
        return Start(experiment_of(values), source=source)
    return Start(experiment_of(values))


def complete(
    values: Mapping[str, Any], model: AutoencoderConfig, frame_rate: int, name: str
) -> dict[str, Any]:
    """`values`, with what they leave open taken from a model and its frame rate.

    Raises:
        UsageError: calls the model `name`; see `fit_config`.
        UserError: the classes of the clips cannot be read.
    """
    data = dict(values.get('data', {}))
    if data.get('frame_rate', 0) is None:
        data['frame_rate'] = frame_rate
    given = {key: value for key, value in values.get('model', {}).items() if value is not None}
    with as_usage():
        wanted = typed(AutoencoderConfig, given, 'model.')
    if 'label' in wanted.get('modalities', model.modalities) and 'classes' not in wanted:
        wanted['classes'] = _count_classes(data)
    with as_usage():
        fitted = fit_config(wanted, model, name)
    return {**values, 'model': dataclasses.asdict(fitted), 'data': data}


def experiment_of(values: Mapping[str, Any]) -> Experiment:
    """The experiment of a config that leaves at most the number of classes open.

    Raises:
        UsageError: a value is wrong, or the config takes its model from a checkpoint.
        UserError: the classes of the clips cannot be read.
    """
    model = dict(values.get('model', {}))
    if model.get('latents', 0) is None:
        raise UsageError(
            'this config takes its model from a checkpoint: set --config.init_from to one'
        )
    if model.get('classes', 0) is None:
        del model['classes']
        if 'label' in model.get('modalities', AutoencoderConfig().modalities):
            model['classes'] = _count_classes(values.get('data', {}))
    with as_usage():
        return Experiment.from_dict({**values, 'model': model})


def _count_classes(data: Mapping[str, Any]) -> int:
    with as_usage():
        config = build(DataConfig, data, 'data.')
    return len(sources.class_names(config))


def begin(start: Start, workdir: str | os.PathLike, classes: tuple[str, ...]) -> TakeOver:
    """Begins or continues the folder of a run; returns what the run takes, or took, over.

    Raises:
        UserError: the folder cannot be written, or holds another run.
    """
    if start.source is not None:
        taken = TakeOver.plan(start.experiment, start.source, classes)
        run_folder.start_run(workdir, start.experiment, classes)
        run_folder.write_take_over(workdir, taken, start.experiment)
        return taken
    run_folder.start_run(workdir, start.experiment, classes)
    return run_folder.read_take_over(workdir) if start.experiment.init_from else TakeOver()


def first_state(
    start: Start, taken: TakeOver, fresh: TrainState, checkpoints: CheckpointStore
) -> TrainState:
    """The state from which a run starts: the newest checkpoint's, or `fresh`, or a mix."""
    if start.goes_on:
        like = {'step': fresh.step, 'optimizer': fresh.optimizer}
        params, training = checkpoints.restore(fresh.params, like)
        return TrainState(training['step'], params, training['optimizer'])
    if start.source is not None:
        return fresh._replace(params=taken.parameters(fresh.params, start.source.params))
    return fresh
