"""Taking over the parameters of a checkpoint: which are kept, which are new, and why.

The account of it is `init_from.json` in the folder of the run.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import haiku as hk
import jax
import numpy as np

from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.core.errors import UsageError
from perceiver_io.distributed.sharding import put_like
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.modalities import Readout
from perceiver_io.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class TakeOver:
    """What a run takes over from a checkpoint; nothing by default.

    Attributes:
        source: the checkpoint, as `init_from` names it.
        step: of the source; None if it is not known.
        kept: how many of its arrays are kept.
        new: reason by parameter ('module/name') that is initialised.
        left_out: parameters of the source that have no place in the model.
        changed: [in the source, here] by key of the model's config.
    """

    source: str = ''
    step: int | None = None
    kept: int = 0
    new: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)
    changed: dict[str, list[Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def plan(cls, experiment: Experiment, source: Checkpoint, classes: Sequence[str]) -> Self:
        """What `parameters` will do.

        The label head is new also if it has the right shape but the classes have other names.

        Raises:
            UsageError: `optimizer.head_first` is set, and nothing is new.
        """
        model = experiment.model
        own = _shapes(jax.eval_shape(Autoencoder(model).init, jax.random.key(0)))
        theirs = _shapes(source.params)
        new = {
            name: f'{list(theirs[name])} in the source' if name in theirs else 'not in the source'
            for name, shape in own.items()
            if theirs.get(name) != shape
        }
        if tuple(classes) != source.classes:
            head = f'{Readout.NAMES["label"]}/'
            new |= {
                name: 'its classes are others in the source'
                for name in own
                if name.startswith(head) and name not in new
            }
        if experiment.optimizer.head_first and not new:
            raise UsageError(
                'optimizer.head_first is for parameters that the source lacks, and '
                'it has them all: set head_first to 0'
            )
        return cls(
            source=experiment.init_from,
            step=source.step,
            kept=len(own) - len(new),
            new=new,
            left_out=sorted(theirs.keys() - own.keys()),
            changed={
                key: [getattr(source.config, key), value]
                for key, value in vars(model).items()
                if value != getattr(source.config, key)
            },
        )

    def parameters(self, fresh: hk.Params, source: hk.Params) -> hk.Params:
        """The source's parameters, placed as the fresh ones are; the fresh ones if new."""
        return {
            module: {
                name: leaf
                if f'{module}/{name}' in self.new
                else put_like(np.asarray(source[module][name]), leaf)
                for name, leaf in leaves.items()
            }
            for module, leaves in fresh.items()
        }

    def lines(self) -> list[str]:
        """For the user: what is new, left out and changed."""
        step = '' if self.step is None else f', step {self.step}'
        lines = [f'{self.source}{step}: {self.kept} arrays kept, {len(self.new)} new']
        lines += [f'  new: {name} ({reason})' for name, reason in self.new.items()]
        lines += [f'  left out: {name}' for name in self.left_out]
        return lines + [
            f'  changed: model.{key} is {here}, in the source {there}'
            for key, (there, here) in self.changed.items()
        ]


def _shapes(params: hk.Params) -> dict[str, tuple[int, ...]]:
    return {
        f'{module}/{name}': tuple(leaf.shape)
        for module, leaves in params.items()
        for name, leaf in leaves.items()
    }
