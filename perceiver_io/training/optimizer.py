"""The optimizer. The paper leaves it open for this task: see `configs/kinetics700.py`."""

import dataclasses
from collections.abc import Collection
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from perceiver_io.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated.

    Attributes:
        name: 'lamb' or 'adamw'.
        learning_rate: the peak rate.
        warmup: fraction of the steps with a rate that rises linearly from 0.
        flat: fraction of the steps at the peak; what is left decays with a cosine to 0.
        b1, b2: decay of the moments.
        weight_decay: applied to the matrices of linear layers, and to nothing else.
        clip_norm: gradients are scaled down to this global norm; 0 for no clipping.
        head_first: steps in which only the new parameters of a run with `init_from` are updated
            (not in the paper); 0 to update all from the start.
    """

    name: str = 'lamb'
    learning_rate: float = 1e-3
    warmup: float = 0.0
    flat: float = 0.5
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip_norm: float = 10.0
    head_first: int = 0

    def __post_init__(self) -> None:
        if self.name not in ('lamb', 'adamw'):
            raise UserError(f"optimizer name={self.name!r} must be 'lamb' or 'adamw'")
        if self.learning_rate <= 0:
            raise UserError(f'learning_rate={self.learning_rate} must be positive')
        if min(self.warmup, self.flat) < 0 or self.warmup + self.flat > 1:
            raise UserError(
                f'warmup={self.warmup} and flat={self.flat} are fractions of the training: '
                'neither may be negative, and together they may not pass 1'
            )
        for name in ('weight_decay', 'clip_norm', 'head_first'):
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
    """Clipping, then LAMB or AdamW on the schedule of `steps` steps.

    Args:
        config: of the optimizer.
        steps: of the training.
        new: parameters ('module/name') that are updated in the first `config.head_first` steps.
    """
    make = {'lamb': optax.lamb, 'adamw': optax.adamw}[config.name]
    optimizer = make(
        make_schedule(config, steps),
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        mask=_is_matrix,
    )
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


def _is_matrix(params: hk.Params) -> Any:
    """True for the matrices of linear layers: what weight decay is for."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'w', params)
