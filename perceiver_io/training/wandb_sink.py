"""The metrics of a run to Weights & Biases, which is an optional requirement.

Its own variables choose where to: WANDB_PROJECT, WANDB_ENTITY, and WANDB_MODE. With
WANDB_MODE=offline, the folder of the run gets files that `wandb sync` uploads later.
"""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.core.files import write_text

PROJECT = 'perceiver-io'  # unless WANDB_PROJECT names another
ID = 'wandb_id.txt'


def installed() -> Any:
    """The package; UsageError if it is not installed."""
    try:
        import wandb
    except ImportError as error:
        raise UsageError('--wandb needs the package wandb: pip install "wandb<1"') from error
    return wandb


class WandbSink:
    """One run of Weights & Biases for each folder, also if the training is interrupted.

    Args:
        workdir: of the run; gets the files of `wandb` and the file ID.
        config: of the run.

    Raises:
        UsageError: the package is not installed.
        UserError: the service refuses, or cannot be reached.
    """

    def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
        self._wandb = wandb = installed()
        known = workdir / ID
        try:
            self._run = wandb.init(
                project=os.environ.get('WANDB_PROJECT', PROJECT),
                dir=str(workdir),
                name=workdir.name,
                id=known.read_text().strip() if known.exists() else None,
                resume='allow',
                config=dict(config),
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise UserError(
                f'Weights & Biases: {" ".join(str(error).split())}; run `wandb login`, or set '
                'WANDB_MODE=offline'
            ) from error
        print(f'Weights & Biases: {self._run.url or self._run.dir}', file=sys.stderr)
        write_text(known, f'{self._run.id}\n')
        # Steps are a metric of their own: a run that goes on repeats some, which wandb would drop.
        self._run.define_metric('step')
        self._run.define_metric('*', step_metric='step')

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({'step': step, **values})

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._run.log({'step': step, name: self._wandb.Image(image)})

    def audio(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None:
        sound = self._wandb.Audio(audio, sample_rate=sample_rate)
        self._run.log({'step': step, f'{name}_audio': sound})  # images have the same names

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        self._run.log({'step': step, name: self._wandb.Histogram(values)})

    def close(self) -> None:
        self._run.finish()
