"""Trained models from wherever they are: one function that all programs use.

    model, params = load('runs/demo')
    loaded = load_checkpoint('runs/demo')      # and what else is known of it
"""

import os
from typing import NamedTuple

import haiku as hk

from perceiver_io import checkpoints
from perceiver_io.autoencoder import Autoencoder
from perceiver_io.config import AutoencoderConfig
from perceiver_io.experiment import Experiment


class Loaded(NamedTuple):
    """A trained model and what is known of it.

    Attributes:
        experiment: that of the run. A checkpoint that comes without one has the default one, with
            its own model and, for data, a folder that is yet to be named (`data.path`).
        params: {module: {name: float32}}, on one device.
        classes: names by index; fewer than `config.classes` where the run's clips had fewer.
        step: of training; None where it is not known.
    """

    experiment: Experiment
    params: hk.Params
    classes: tuple[str, ...]
    step: int | None

    @property
    def config(self) -> AutoencoderConfig:
        """The model's."""
        return self.experiment.model


def load(checkpoint: str | os.PathLike) -> tuple[Autoencoder, hk.Params]:
    """A trained model and its parameters; see `load_checkpoint`."""
    loaded = load_checkpoint(checkpoint)
    return Autoencoder(loaded.config), loaded.params


def load_checkpoint(checkpoint: str | os.PathLike) -> Loaded:
    """Reads a checkpoint: the folder of a run of train.py.

    Raises:
        ValueError: it is none, or none that fits a model; says why.
    """
    experiment = checkpoints.read_experiment(checkpoint)
    params, step = checkpoints.read_params(checkpoint)
    return Loaded(experiment, params, checkpoints.read_classes(checkpoint), step)


def read_config(checkpoint: str | os.PathLike) -> AutoencoderConfig:
    """The config of a checkpoint's model, without its parameters where that is quicker."""
    return checkpoints.read_experiment(checkpoint).model
