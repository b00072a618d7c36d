"""Saving the state of a training: when, what, and only where there is room."""

import os
import shutil
from collections.abc import Mapping
from typing import Any

import jax

from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.core.errors import UserError
from perceiver_io.distributed.processes import from_first, is_first
from perceiver_io.training.experiment import TrainingConfig
from perceiver_io.training.steps import TrainState

_BESIDES = 256 * 1024  # bytes for the files of a checkpoint that hold no arrays


def evaluates(step: int, config: TrainingConfig) -> bool:
    """Whether the parameters are evaluated after a step: every so often, and after the last."""
    return is_due(step, config.eval_every, config)


def is_due(step: int, every: int, config: TrainingConfig) -> bool:
    """Whether a step is the last one, or one of each `every`; 0 means the last only."""
    return step == config.steps or bool(every and step % every == 0)


def save(
    checkpoints: CheckpointStore, state: TrainState, summary: Mapping[str, float] | None = None
) -> None:
    """Starts saving a state, with the summary of its evaluation if there was one.

    Raises:
        UserError: the disk is full; nothing was written. The same on all processes.
    """
    checkpoints.wait()  # what is still being written needs its room
    _check_room(checkpoints.folder, state, checkpoints.latest_step())
    training = {'step': state.step, 'optimizer': state.optimizer}
    checkpoints.save(int(state.step), state.params, training, summary)


def _check_room(folder: str | os.PathLike, state: Any, newest: int | None) -> None:
    """UserError if the state does not fit the disk.

    A write that fails midway would print an error of Orbax and TensorStore for every array.
    """
    problem = ''
    if is_first():
        free = shutil.disk_usage(folder).free
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _BESIDES
        if free < needed:
            kept = 'there is no older one' if newest is None else f'that of step {newest} stays'
            problem = (
                f'the disk of {folder} is full: the checkpoint of step {int(state.step)} needs '
                f'{needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free ({kept}); make room and '
                'start the run again'
            )
    problem = from_first(problem)
    if problem:
        raise UserError(problem)
