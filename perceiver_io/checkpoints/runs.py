"""Run folders: `config.json`, `classes.json` and Orbax checkpoints of the training state.

A checkpoint has two parts, `params` and `training` (the step and the optimizer's state), so that
the model can be read without the rest.
"""

import json
import os
import pathlib
from collections.abc import Mapping

import haiku as hk
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from perceiver_io.checkpoints.formats.refusal import InvalidFileError, is_name, read_json
from perceiver_io.checkpoints.model_sizes import check_shapes, shapes_of
from perceiver_io.core.errors import UserError
from perceiver_io.core.files import make_folder, write_text
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.steps import TrainState

CONFIG = 'config.json'
CLASSES = 'classes.json'
CHECKPOINTS = 'checkpoints'


class Checkpoints:
    """Saves and restores the state of a run; asynchronous, and whole or not at all.

    The newest `keep` and the best one (the lowest evaluation loss) stay.
    """

    def __init__(self, workdir: str | os.PathLike, keep: int = 1):
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics['loss'],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(preservation_policy=policy)
        handlers = {part: ocp.StandardCheckpointHandler() for part in ('params', 'training')}
        self._manager = ocp.CheckpointManager(
            pathlib.Path(workdir).absolute() / CHECKPOINTS, item_handlers=handlers, options=options
        )

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Starts writing `state`; `metrics`, if it was evaluated, holds its 'loss'."""
        training = {'step': state.step, 'optimizer': state.optimizer}
        self._manager.save(
            int(state.step),
            metrics=None if metrics is None else dict(metrics),
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params), training=ocp.args.StandardSave(training)
            ),
        )

    def save_params(self, params: hk.Params, step: int) -> None:
        """Starts writing parameters alone, that nothing can be trained on from."""
        self._manager.save(step, args=ocp.args.Composite(params=ocp.args.StandardSave(params)))

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, with the shapes and the shardings of `like` (which is not read).

        Raises:
            UserError: only parameters were saved.
        """
        if 'training' not in self._manager.item_metadata(self.latest_step()).keys():
            raise UserError(
                'this folder holds converted weights without a state of training: '
                'start in another --workdir'
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        training = {'step': abstract.step, 'optimizer': abstract.optimizer}
        restored = self._manager.restore(
            self.latest_step(),
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(abstract.params),
                training=ocp.args.StandardRestore(training),
            ),
        )
        training = restored['training']
        return TrainState(training['step'], restored['params'], training['optimizer'])

    def restore_params(self, config: AutoencoderConfig) -> hk.Params:
        """The newest parameters alone, on one device.

        Raises:
            UserError: they are not whole, not finite, or not those of a model of `config`.
        """
        step = self.latest_step()
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        try:
            check_shapes(self._manager.item_metadata(step)['params'].tree, config)
            like = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
                shapes_of(config),
            )
            params = self._manager.restore(
                step, args=ocp.args.Composite(params=ocp.args.StandardRestore(like))
            )['params']
        except InvalidFileError as error:
            raise UserError(
                f'the checkpoint is of another model than {CONFIG} says: {error}; put back the '
                f'{CONFIG} that the run was trained with'
            ) from error
        except Exception as error:  # of Orbax and TensorStore, which do not say of what kinds
            raise UserError(
                f'the checkpoint of step {step} is damaged: {str(error).splitlines()[0][:200]}'
            ) from error
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
            raise UserError(
                f'the checkpoint of step {step} holds NaN or infinity: its weights are spoilt'
            )
        return params

    def wait(self) -> None:
        """Until all that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def check_run(workdir: str | os.PathLike, experiment: Experiment) -> None:
    """Raises UserError where `workdir` cannot be written or holds a run of another model."""
    workdir = make_folder(workdir, '--workdir')
    if not (workdir / CONFIG).exists():
        return
    before = read_experiment(workdir)
    if before.init_from != experiment.init_from:
        raise UserError(
            f'{workdir} holds a run with init_from={before.init_from!r}, and not '
            f'{experiment.init_from!r}: choose another --workdir'
        )
    before = before.model
    changed = [
        f'{name} ({getattr(before, name)!r} then, {value!r} now)'
        for name, value in vars(experiment.model).items()
        if value != getattr(before, name)
    ]
    if changed:
        raise UserError(
            f'{workdir} holds a run of a model with another {", ".join(changed)}: '
            'choose another --workdir'
        )


def exist(workdir: str | os.PathLike) -> bool:
    """Whether a run folder has a checkpoint."""
    if not (pathlib.Path(workdir) / CHECKPOINTS).is_dir():  # it would be made
        return False
    checkpoints = Checkpoints(workdir)
    step = checkpoints.latest_step()
    checkpoints.close()
    return step is not None


def start_run(workdir: str | os.PathLike, experiment: Experiment, classes: tuple[str, ...]) -> None:
    """Writes what a run is into its folder, new or not.

    Raises:
        UserError: the classes changed, or the name of one is of several lines.
    """
    workdir = pathlib.Path(workdir)
    for name in classes:
        if not is_name(name):
            raise UserError(f'the class {name!r} cannot be shown in a line: rename it')
    if (workdir / CLASSES).exists() and read_classes(workdir) != classes:
        raise UserError(f'{workdir} holds a run with other classes: choose another --workdir')
    if jax.process_index() == 0:
        write_text(workdir / CLASSES, json.dumps(classes, ensure_ascii=False, indent=1) + '\n')
        write_text(workdir / CONFIG, experiment.to_json())


def save_params(workdir: str | os.PathLike, params: hk.Params, step: int) -> None:
    """Saves parameters as the checkpoint of a folder that `start_run` has begun, and waits."""
    checkpoints = Checkpoints(workdir)
    checkpoints.save_params(params, step)
    checkpoints.close()


def read_experiment(workdir: str | os.PathLike) -> Experiment:
    """The experiment of a run folder; UserError where there is none."""
    path = pathlib.Path(workdir) / CONFIG
    try:
        values = read_json(path)
    except OSError as error:
        raise UserError(
            f'{workdir} is not the folder of a run: it has no readable {CONFIG} ({error.strerror})'
        ) from error
    except InvalidFileError as error:
        raise UserError(f'{path} is damaged: {error}') from error
    if not isinstance(values, dict):
        raise UserError(f'{path} is damaged: it holds no config')
    return Experiment.from_dict(values)


def read_classes(workdir: str | os.PathLike) -> tuple[str, ...]:
    """The names of the run's classes, by index; UserError where there are none."""
    path = pathlib.Path(workdir) / CLASSES
    try:
        names = read_json(path)
    except (OSError, InvalidFileError) as error:
        raise UserError(f'{path}, the names of the classes, is missing or damaged') from error
    if not isinstance(names, list) or not all(map(is_name, names)):
        raise UserError(f'{path} is damaged: it holds no list of names')
    return tuple(names)


def read_params(workdir: str | os.PathLike) -> tuple[hk.Params, int]:
    """The parameters in the newest checkpoint of a run folder, and the step they were saved at.

    Raises:
        UserError: there is no run, none of its checkpoints is finished, or the newest one is of
            another model than the run's config says.
    """
    config = read_experiment(workdir).model
    if not exist(workdir):
        raise UserError(
            f'{workdir} has no finished checkpoint yet: run train.py until it saves one'
        )
    checkpoints = Checkpoints(workdir)
    params, step = checkpoints.restore_params(config), checkpoints.latest_step()
    checkpoints.close()
    return params, step
