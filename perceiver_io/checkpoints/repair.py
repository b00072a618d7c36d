"""Makes the folder of a run's checkpoints fit to go on from."""

import os
import pathlib
import shutil
import sys
import uuid
from collections.abc import Mapping

from perceiver_io.checkpoints import files, orbax_noise
from perceiver_io.core.errors import UserError

CHECKPOINTS = 'checkpoints'
UNFINISHED = '.orbax-checkpoint-tmp'  # in the name of a folder that Orbax has not finished
DAMAGED = 'damaged'


def repair(workdir: str | os.PathLike) -> None:
    """Removes unfinished checkpoints, and moves damaged ones to the folder `damaged` of the run.

    Call it before the folder is opened, in one process, and only while no run trains there.

    Raises:
        UserError: all checkpoints are damaged; none is moved.
    """
    folder = pathlib.Path(workdir).absolute() / CHECKPOINTS
    if not folder.is_dir():
        return
    orbax_noise.silence()  # about metadata that it can do without
    for path in folder.glob(f'*{UNFINISHED}*'):  # of a run that was killed
        shutil.rmtree(path, ignore_errors=True)
    names = (path.name for path in folder.iterdir())
    steps = sorted((int(name) for name in names if name.isdigit()), reverse=True)
    damaged = {step: problem for step in steps if (problem := files.damage(folder / str(step)))}
    whole = [step for step in steps if step not in damaged]
    if damaged and not whole:
        raise none_left(folder, damaged)
    if damaged:
        set_aside(folder, damaged, whole[0])


def set_aside(folder: pathlib.Path, damaged: Mapping[int, str], used: int) -> None:
    """Names damaged checkpoints, and moves them, which makes room for new ones of these steps.

    Args:
        folder: of the checkpoints.
        damaged: what is wrong, by step.
        used: the step of the newest one that is not damaged.
    """
    for step, problem in damaged.items():
        print(
            f'the checkpoint of step {step} is damaged ({problem}): the one of step {used} is used',
            file=sys.stderr,
        )
        aside = folder.parent / DAMAGED / f'{step}-{uuid.uuid4().hex[:8]}'
        aside.parent.mkdir(exist_ok=True)
        (folder / str(step)).rename(aside)


def none_left(folder: pathlib.Path, damaged: Mapping[int, str]) -> UserError:
    reasons = '; '.join(f'step {step}: {problem}' for step, problem in damaged.items())
    return UserError(
        f'no checkpoint in {folder} can be read ({reasons}): restore one, or start in another '
        '--workdir'
    )
