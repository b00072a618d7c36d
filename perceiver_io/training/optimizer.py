"""The optimizer. The paper leaves it open for this task: see `configs/kinetics700.py`."""

import dataclasses
from collections.abc import Collection
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax
import optax.contrib

from perceiver_io.core.errors import UserError
from perceiver_io.models.modalities import Readout


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated.

    Attributes:
        name: 'lamb', 'adamw' or 'muon': Muon for the matrices of linear layers, AdamW for all other
            parameters and for the readouts.
        learning_rate: the peak rate.
        adam_learning_rate: with 'muon', the peak rate of AdamW; 0 for `learning_rate`.
        warmup: fraction of the steps with a rate that rises linearly from 0.
        flat: fraction of the steps at the peak; what is left decays with a cosine to 0.
        b1, b2: decay of the moments. With 'muon', b1 is the momentum of Muon (0.95 is usual), and
            AdamW has 0.9 and b2.
        weight_decay: applied to the matrices of linear layers, and to nothing else.
        clip_norm: gradients are scaled down to this global norm; 0 for no clipping.
        head_first: steps in which only the new parameters of a run with `init_from` are updated
            (not in the paper); 0 to update all from the start.
    """

    name: str = 'lamb'
    learning_rate: float = 1e-3
    adam_learning_rate: float = 0.0
    warmup: float = 0.0
    flat: float = 0.5
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip_norm: float = 10.0
    head_first: int = 0

    def __post_init__(self) -> None:
        if self.name not in ('lamb', 'adamw', 'muon'):
            raise UserError(f"optimizer name={self.name!r} must be 'lamb', 'adamw' or 'muon'")
        if self.learning_rate <= 0:
            raise UserError(f'learning_rate={self.learning_rate} must be positive')
        if min(self.warmup, self.flat) < 0 or self.warmup + self.flat > 1:
            raise UserError(
                f'warmup={self.warmup} and flat={self.flat} are fractions of the training: '
                'neither may be negative, and together they may not pass 1'
            )
        for name in ('adam_learning_rate', 'weight_decay', 'clip_norm', 'head_first'):
            if getattr(self, name) < 0:
                raise UserError(f'{name}={getattr(self, name)} must not be negative')


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, flat, cosine to 0 (shape as the paper's ImageNet)."""
    warmup, flat = round(config.warmup * steps), round(config.flat * steps)
    decay = max(steps - warmup - flat, 1)
    rate = config.learning_rate
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, rate, max(warmup, 1)),
            optax.constant_schedule(rate),
            optax.cosine_decay_schedule(rate, decay),
        ],
        boundaries=[warmup, warmup + flat],
    )


def make_optimizer(
    config: OptimizerConfig, steps: int, new: Collection[str] = ()
) -> optax.GradientTransformation:
    """Clipping, then LAMB, AdamW or Muon on the schedule of `steps` steps.

    Args:
        config: of the optimizer.
        steps: of the training.
        new: parameters ('module/name') that are updated in the first `config.head_first` steps.
    """
    make = {'lamb': _lamb, 'adamw': _adamw, 'muon': _muon}[config.name]
    optimizer = make(config, steps)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    if not config.head_first:
        return optax.chain(clip, optimizer)

    def is_old(params: hk.Params) -> dict[str, dict[str, bool]]:
        return {
            module: {name: f'{module}/{name}' not in new for name in leaves}
            for module, leaves in params.items()
        }

    # After the optimizer, so that the moments of all parameters follow their gradients meanwhile.
    hold = optax.scale_by_schedule(lambda step: jnp.where(step < config.head_first, 0.0, 1.0))
    return optax.chain(clip, optimizer, optax.masked(hold, is_old))


def _lamb(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.lamb(
        make_schedule(config, steps),
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        mask=_is_matrix,
    )


def _adamw(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.adamw(
        make_schedule(config, steps),
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        mask=_is_matrix,
    )


def _muon(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    adam = dataclasses.replace(
        config, learning_rate=config.adam_learning_rate or config.learning_rate
    )
    return optax.partition(
        {
            'muon': optax.contrib.muon(
                make_schedule(config, steps), beta=config.b1, weight_decay=config.weight_decay
            ),
            'adamw': optax.adamw(
                make_schedule(adam, steps),
                b2=config.b2,
                weight_decay=config.weight_decay,
                mask=_is_matrix,
                nesterov=True,  # as in optax.contrib.muon
            ),
        },
        muon_or_adamw,
    )


def muon_or_adamw(params: hk.Params) -> dict[str, dict[str, str]]:
    """'muon' or 'adamw' for each parameter of a model.

    The readouts are matrices of linear layers too, but their outputs are pixel values, samples and
    logits instead of a hidden space: orthogonalized updates do not suit them.
    """
    readouts = {f'{name}/linear' for name in Readout.NAMES.values()}
    return {
        module: {
            name: 'muon' if name == 'w' and module not in readouts else 'adamw' for name in leaves
        }
        for module, leaves in params.items()
    }


def _is_matrix(params: hk.Params) -> Any:
    """True for the matrices of linear layers: what weight decay is for."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'w', params)
