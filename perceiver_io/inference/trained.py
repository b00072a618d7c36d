"""A trained model with what is needed to run files through it."""

import dataclasses
import functools
import hashlib
import os
from typing import Protocol, Self

import haiku as hk
import numpy as np

from perceiver_io.core.clip import ClipSpec
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig


class Checkpoint(Protocol):
    """What `Trained.of` reads: `checkpoints.checkpoint.Checkpoint`, or something like it."""

    @property
    def config(self) -> AutoencoderConfig: ...
    @property
    def params(self) -> hk.Params: ...
    @property
    def step(self) -> int | None: ...
    @property
    def clip_spec(self) -> ClipSpec: ...
    def class_name(self, index: int) -> str: ...


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: the model.
        params: its parameters.
        spec: the sizes and rates to which files are read.
        classes: a name for each class of the model, by index.
        name: of the checkpoint, as the user gave it.
        step: of training; None if it is not known.
    """

    model: Autoencoder
    params: hk.Params
    spec: ClipSpec
    classes: tuple[str, ...] = ()
    name: str = ''
    step: int | None = None

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        name: str | os.PathLike,
        hidden: tuple[str, ...] = (),
        kept: int = 0,
    ) -> Self:
        """The model of a checkpoint, called `name` by the user; see `Autoencoder` for the rest."""
        return cls(
            Autoencoder(checkpoint.config, hidden, kept),
            checkpoint.params,
            checkpoint.clip_spec,
            tuple(checkpoint.class_name(index) for index in range(checkpoint.config.classes)),
            os.fspath(name),
            checkpoint.step,
        )

    def __str__(self) -> str:
        return self.name if self.step is None else f'{self.name}, step {self.step}'

    @functools.cached_property
    def params_sha256(self) -> str:
        """The hash of all parameters, with their names and shapes, in hexadecimal."""
        digest = hashlib.sha256()
        for module, leaves in sorted(self.params.items()):
            for name, leaf in sorted(leaves.items()):
                array = np.ascontiguousarray(leaf, np.dtype('<f4'))
                digest.update(f'{module}/{name}{array.shape}'.encode())
                digest.update(array.data)
        return digest.hexdigest()
