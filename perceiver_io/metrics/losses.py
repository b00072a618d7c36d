"""The training loss (paper, section 4.3): L1 of video, L1 of audio, cross-entropy of the class."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from perceiver_io.core.clip import Clip, Output
from perceiver_io.core.errors import UserError
from perceiver_io.metrics.quality import mean_of_each


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weight of each term (paper: 0.03, 1, 0.0001; for accuracy, a label weight of 1)."""

    video: float = 0.03
    audio: float = 1.0
    label: float = 0.0001

    def __post_init__(self) -> None:
        for name, weight in dataclasses.asdict(self).items():
            if weight < 0:
                raise UserError(f'loss weight {name}={weight} must not be negative')


def loss_terms(output: Output, target: Output) -> dict[str, jax.Array]:
    """The unweighted term of every modality that the output has, float32 scalars.

    Args:
        output: video [b, q, c], audio [b, q, patch], label logits [b, k].
        target: the same for video and audio; label is int [b], -1 where unknown (not counted).
    """
    terms = {}
    if output.video is not None:
        terms['video'] = jnp.abs(output.video - target.video).mean()
    if output.audio is not None:
        terms['audio'] = jnp.abs(output.audio - target.audio).mean()
    if output.label is not None:
        known = target.label >= 0
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(
            output.label, jnp.maximum(target.label, 0)
        )
        terms['label'] = jnp.sum(cross_entropy * known) / jnp.maximum(known.sum(), 1)
    return terms


def weighted_total(terms: dict[str, jax.Array], weights: LossWeights) -> jax.Array:
    """The sum that is trained on."""
    return sum(getattr(weights, name) * term for name, term in terms.items())


def example_losses(output: Output, target: Clip, weights: LossWeights) -> jax.Array:
    """The weighted loss of each example, [b]; the label term is 0 where the label is unknown.

    Args:
        output: video [b, ...], audio [b, ...], label logits [b, k].
        target: video and audio of the same shapes; label int [b], -1 where unknown.
        weights: of the terms.
    """
    terms = {}
    if output.video is not None:
        terms['video'] = mean_of_each(jnp.abs(output.video - target.video))
    if output.audio is not None:
        terms['audio'] = mean_of_each(jnp.abs(output.audio - target.audio))
    if output.label is not None:
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(
            output.label, jnp.maximum(target.label, 0)
        )
        terms['label'] = jnp.where(target.label >= 0, cross_entropy, 0.0)
    return weighted_total(terms, weights)
