"""Orbax checkpoints in the folder of a run, `checkpoints/STEP`.

A checkpoint has two items, `params` and `training` (whatever else is needed to go on training), so
that the model can be read without the rest. Importing this module imports Orbax, which takes
seconds.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import haiku as hk
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from perceiver_io.checkpoints import files, orbax_noise, repair
from perceiver_io.checkpoints.repair import CHECKPOINTS, UNFINISHED
from perceiver_io.checkpoints.sizes import check_shapes, parameter_shapes
from perceiver_io.core.errors import InvalidFileError, UserError
from perceiver_io.models.config import AutoencoderConfig

Training = TypeVar('Training')  # a pytree


class CheckpointStore:
    """Saves and restores parameters and the state of training; asynchronous, all or nothing.

    Keeps the newest `keep` checkpoints, and the best one: that with the lowest evaluation loss.

    Args:
        workdir: the folder of the run.
        keep: how many of the newest checkpoints to keep.

    Attributes:
        folder: of the checkpoints.
    """

    def __init__(self, workdir: str | os.PathLike, keep: int = 1):
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(
                    get_metric_fn=_loss,
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=_loss,  # without it, Orbax does not write the metrics
            best_mode='min',
            async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
        )
        handlers = {part: ocp.StandardCheckpointHandler() for part in ('params', 'training')}
        self.folder = pathlib.Path(workdir).absolute() / CHECKPOINTS
        self._saving: int | None = None
        try:
            self._manager = ocp.CheckpointManager(
                self.folder, item_handlers=handlers, options=options
            )
        except Exception as error:  # Orbax does not document what it raises for damaged metadata
            raise UserError(
                f'the checkpoints in {self.folder} cannot be listed ({_first_line(error)}): move '
                'the damaged one away'
            ) from error

    def _list_files(self) -> None:
        """Called in a thread when all files of a checkpoint are written, but its folder unnamed."""
        if jax.process_index() == 0:
            for folder in self.folder.glob(f'{self._saving}{UNFINISHED}*'):
                files.write_list(folder)

    def latest_step(self) -> int | None:
        """The step of the newest finished checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        params: hk.Params,
        training: Any = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts writing a checkpoint.

        Args:
            step: of training.
            params: the parameters.
            training: a pytree of arrays; None for a checkpoint that no training can go on from.
            metrics: of an evaluation of these parameters, with its 'loss'; None if there was none.

        Raises:
            UserError: the disk is full; also `wait` and `close` raise it. Older checkpoints stay.
        """
        orbax_noise.silence()
        self.wait()
        self._saving = step
        trees = {'params': params} | ({} if training is None else {'training': training})
        with self._writing():
            self._manager.save(
                step,
                metrics=None if metrics is None else dict(metrics),
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
                ),
            )

    def evaluated(self, step: int) -> bool:
        """Whether the checkpoint of a step was saved with the metrics of an evaluation."""
        return self._manager.metrics(step) is not None

    def restore(self, params: hk.Params, training: Training) -> tuple[hk.Params, Training]:
        """The newest checkpoint that is not damaged, with the shardings of the arguments.

        A damaged one is reported in a line, and moved to the folder `damaged` of the run.

        Args:
            params: arrays, or what stands for them; their values are not read.
            training: the same, for what `save` was given.

        Raises:
            UserError: only parameters were saved, or no checkpoint can be read.
        """
        orbax_noise.silence()
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, (params, training))
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, *like)
            except UserError:
                raise
            except Exception as error:  # Orbax and TensorStore do not document which they raise
                damaged[step] = _first_line(error)
            else:
                if damaged:
                    if jax.process_index() == 0:
                        repair.set_aside(self.folder, damaged, step)
                    self._manager.reload()
                return restored
        raise repair.none_left(self.folder, damaged)

    def _restore(
        self, step: int, params: hk.Params, training: Training
    ) -> tuple[hk.Params, Training]:
        if 'training' not in self._manager.item_metadata(step).keys():
            if (self.folder / str(step) / 'training').exists():
                raise OSError('its metadata cannot be read')
            raise UserError(
                'this folder holds converted weights without a state of training: '
                'start in another --workdir'
            )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(params),
                training=ocp.args.StandardRestore(training),
            ),
        )
        return restored['params'], restored['training']

    def restore_params(self, config: AutoencoderConfig) -> hk.Params:
        """The newest parameters alone, on one device.

        Raises:
            UserError: they are damaged, not finite, or not those of a model of `config`.
        """
        step = self.latest_step()
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        if problem := files.damage(self.folder / str(step)):
            raise UserError(f'the checkpoint of step {step} is damaged: {problem}')
        try:
            check_shapes(self._manager.item_metadata(step)['params'].tree, config)
            like = {
                module: {
                    name: jax.ShapeDtypeStruct(shape, np.float32, sharding=device)
                    for name, shape in leaves.items()
                }
                for module, leaves in parameter_shapes(config).items()
            }
            restored = self._manager.restore(
                step, args=ocp.args.Composite(params=ocp.args.StandardRestore(like))
            )
            params = restored['params']
        except InvalidFileError as error:
            raise UserError(
                f'the checkpoint is of another model than config.json says: {error}; put back the '
                'config.json that the run was trained with'
            ) from error
        except Exception as error:  # Orbax and TensorStore do not document which they raise
            raise UserError(
                f'the checkpoint of step {step} is damaged: {_first_line(error)}'
            ) from error
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
            raise UserError(f'the checkpoint of step {step} holds NaN or infinity')
        return params

    def wait(self) -> None:
        """Returns when everything that was saved is on disk."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and releases what the manager holds."""
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not _disk_is_full(error):
                raise
            raise UserError(
                f'the disk of {self.folder} is full: the checkpoint of step {self._saving} could '
                'not be written, older ones stay; make room and start the run again'
            ) from error


def _loss(metrics: Mapping[str, float]) -> float:
    return metrics['loss']


def _disk_is_full(error: Exception) -> bool:
    return any(text in str(error) for text in ('No space left', 'Disk quota exceeded'))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def latest_step(workdir: str | os.PathLike) -> int | None:
    """The step of the newest checkpoint of a folder, which is not changed; None if it has none."""
    if not (pathlib.Path(workdir) / CHECKPOINTS).is_dir():  # Orbax would create it
        return None
    store = CheckpointStore(workdir)
    step = store.latest_step()
    store.close()
    return step


def read_params(workdir: str | os.PathLike, config: AutoencoderConfig) -> tuple[hk.Params, int]:
    """The parameters in the newest checkpoint of a run, and their step.

    Raises:
        UserError: no checkpoint is finished, or see `CheckpointStore.restore_params`.
    """
    step = latest_step(workdir)
    if step is None:
        raise UserError(
            f'{workdir} has no finished checkpoint yet: run train.py until it saves one'
        )
    store = CheckpointStore(workdir)
    params = store.restore_params(config)
    store.close()
    return params, step


def write_params(workdir: str | os.PathLike, params: hk.Params, step: int) -> None:
    """Saves parameters alone as a checkpoint, and waits until they are on disk."""
    store = CheckpointStore(workdir)
    store.save(step, params)
    store.close()
