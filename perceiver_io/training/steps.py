"""The training step: a pure function, made by a factory, compiled for a mesh."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

import haiku as hk
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from perceiver_io.core.clip import Clip, Output, to_float
from perceiver_io.core.errors import UserError
from perceiver_io.distributed.processes import arrays_from_first
from perceiver_io.distributed.sharding import (
    clip_sharding,
    put_like,
    replicated,
    split_batch,
    state_sharding,
)
from perceiver_io.metrics import quality
from perceiver_io.metrics.losses import LossWeights, loss_terms, weighted_total
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.modalities import patch_audio
from perceiver_io.training.gradient_norms import norms_by_group
from perceiver_io.training.initialization.placed import placed_parameters
from perceiver_io.training.initialization.placement import Placement

Metrics = dict[str, jax.Array]  # scalars by name
Sums = tuple[hk.Params, Metrics]  # gradients and metrics


class TrainState(NamedTuple):
    """All that training needs to go on, bit for bit; a pytree. The data's position is the step."""

    step: jax.Array  # int32, the updates done
    params: hk.Params
    optimizer: optax.OptState


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """What a step looks at (paper, section 4.3).

    Attributes:
        video_queries: pixels decoded for each example.
        audio_queries: audio patches decoded. The paper says 512 audio samples, which may mean 512
            patches, as here, or 32 patches of 16.
        label_masked: share of the examples whose label is hidden from the encoder.
        video_masked, audio_masked: the same for video and audio (not in the paper); never both of
            an example.
        latents_kept: numbers of latents of which one is drawn for each step: so many are decoded
            from, the first ones (not in the paper). (): all, always.
    """

    video_queries: int = 512
    audio_queries: int = 512
    label_masked: float = 0.5
    video_masked: float = 0.0
    audio_masked: float = 0.0
    latents_kept: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if min(self.video_queries, self.audio_queries) < 1:
            raise UserError(
                f'video_queries={self.video_queries} and audio_queries='
                f'{self.audio_queries} must be at least 1'
            )
        for name in ('label_masked', 'video_masked', 'audio_masked'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{name}={getattr(self, name)} must be in [0, 1]')
        if self.video_masked + self.audio_masked > 1:
            raise UserError(
                f'video_masked={self.video_masked} and audio_masked={self.audio_masked} must add '
                'up to at most 1: one of them is left to each example'
            )
        if len(set(self.latents_kept)) < len(self.latents_kept) or 0 in self.latents_kept:
            raise UserError(f'latents_kept={self.latents_kept} must be different numbers from 1 up')

    def hidden(self, seed: int, step: jax.Array, batch: int) -> dict[str, jax.Array]:
        """Which examples have their video, and which their audio hidden, bool [b] each.

        Only of the modalities that are ever hidden.
        """
        if not self.video_masked + self.audio_masked:
            return {}
        drawn = jax.random.uniform(stream(seed, 'hidden', step), (batch,))
        return {
            'video_masked': drawn < self.video_masked,
            'audio_masked': drawn >= 1 - self.audio_masked,
        }


class LossFunction(Protocol):
    """The total loss of a batch of clips, and the metrics, with 'loss' among them."""

    def __call__(
        self, params: hk.Params, clip: Clip, seed: int, step: jax.Array
    ) -> tuple[jax.Array, Metrics]: ...


class TrainStep(Protocol):
    """One update from a batch of clips on the mesh. The state that is passed is overwritten.

    If the loss or the gradient is not finite, only the step is counted: parameters and optimizer
    state stay, and the metric 'bad_step' is 1 instead of 0.
    """

    def __call__(self, state: TrainState, clip: Clip) -> tuple[TrainState, Metrics]: ...


def stream(seed: int, name: str, step: jax.Array | int) -> jax.Array:
    """The random key of a named stream at a step: the same in every process and after a resume.

    What is drawn from it is drawn for the whole batch, by an example's place in the global batch:
    neither the mesh nor the number of processes changes it.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)


def init_state(
    model: Autoencoder,
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: Mesh,
    placement: Placement | None = None,
) -> TrainState:
    """A fresh state, computed where it will be placed.

    Args:
        model: the model.
        optimizer: its optimizer.
        seed: of the parameters.
        mesh: of the devices.
        placement: of the placed start (not in the paper), which replaces some of the parameters;
            None for the original's initial values.
    """

    def init() -> TrainState:
        params = model.init(stream(seed, 'init', 0))
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    state = jax.jit(init, out_shardings=state_sharding(mesh))()
    if placement is None:
        return state
    placed = placed_parameters(jax.device_get(state.params), model.config, placement, seed)
    params = jax.tree.map(put_like, arrays_from_first(placed), state.params)
    moments = jax.jit(optimizer.init, out_shardings=state_sharding(mesh))(params)
    return TrainState(state.step, params, moments)


def make_loss(model: Autoencoder, weights: LossWeights, sampling: SamplingConfig) -> LossFunction:
    """The loss of a model.

    Every example's label is hidden with probability `label_masked`; the same random pixels and
    audio patches are decoded for all examples of the batch.
    """
    config = model.config

    def decode(
        params: hk.Params,
        latents: jax.Array,
        stream_key: jax.Array,
        video_index: jax.Array | None,
        audio_index: jax.Array | None,
    ) -> Output:
        """From all latents, or from the first ones, as many as are drawn."""

        def from_first(count: int) -> Callable[[jax.Array], Output]:
            part = dataclasses.replace(model, kept=count)
            return lambda latents: part.decode(
                params, latents[:, :count], video_index=video_index, audio_index=audio_index
            )

        counts = sampling.latents_kept
        if not counts:
            return model.decode(params, latents, video_index=video_index, audio_index=audio_index)
        drawn = jax.random.randint(stream_key, (), 0, len(counts))
        return jax.lax.switch(drawn, [from_first(count) for count in counts], latents)

    def pick(stream_key: jax.Array, points: int, count: int) -> jax.Array:
        return jax.random.choice(stream_key, points, (min(count, points),), replace=False)

    def loss(
        params: hk.Params, clip: Clip, seed: int, step: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        batch = len(next(leaf for leaf in (clip.video, clip.audio) if leaf is not None))
        video_index = audio_index = masked = None
        asked = Clip()
        if 'video' in config.modalities:
            points = clip.video[0, ..., 0].size
            video_index = pick(stream(seed, 'video', step), points, sampling.video_queries)
            pixels = clip.video.reshape(-1, points, config.channels)
            asked = asked._replace(video=pixels[:, video_index])
        if 'audio' in config.modalities:
            audio_index = pick(
                stream(seed, 'audio', step), config.audio_patches, sampling.audio_queries
            )
            asked = asked._replace(
                audio=patch_audio(clip.audio, config.audio_patch)[:, audio_index]
            )
        if 'label' in config.modalities:
            hidden = jax.random.uniform(stream(seed, 'label', step), clip.label.shape)
            masked = (hidden < sampling.label_masked) | (clip.label < 0)
            asked = asked._replace(label=clip.label)

        rng = stream(seed, 'dropout', step) if config.dropout or config.attention_dropout else None
        latents = model.encode(
            params,
            video=clip.video,
            audio=clip.audio,
            label=clip.label,
            label_masked=masked,
            **sampling.hidden(seed, step, batch),
            rng=rng,
        )
        kept = stream(seed, 'latents', step)
        output = decode(params, latents, kept, video_index, audio_index)
        target = Output(*to_float(asked))
        with jax.named_scope('loss'):
            terms = loss_terms(output, target)
            total = weighted_total(terms, weights)
        return total, {'loss': total} | {f'loss/{name}': term for name, term in terms.items()} | (
            quality.batch_metrics(output, target)
        )

    return loss


def make_train_step(
    model: Autoencoder,
    optimizer: optax.GradientTransformation,
    weights: LossWeights,
    sampling: SamplingConfig,
    *,
    seed: int,
    mesh: Mesh,
    accumulate: int = 1,
    group_norms: bool = False,
) -> TrainStep:
    """The step, jitted for a mesh.

    With `group_norms` the metrics have the norms of `gradient_norms` besides.

    With `accumulate` > 1 the batch is split into that many parts, one after the other, whose
    gradients are averaged: it needs the memory of a part, and makes the update of the whole.
    """
    value_and_grad = jax.value_and_grad(make_loss(model, weights, sampling), has_aux=True)

    def gradients(params: hk.Params, clip: Clip, step: jax.Array) -> Sums:
        """The gradients and the metrics of one part of a batch."""
        (_, scalars), grads = value_and_grad(params, clip, seed, step)
        return grads, scalars

    def mean_gradients(params: hk.Params, clip: Clip, step: jax.Array) -> Sums:
        if accumulate == 1:
            return gradients(params, clip, step)
        parts = split_batch(clip, accumulate, mesh)
        first = jax.tree.map(lambda x: x[0], parts)
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(gradients, params, first, step)
        )

        def add(total: Sums, part: tuple[jax.Array, Clip]) -> tuple[Sums, None]:
            index, clip = part
            return jax.tree.map(
                jnp.add, total, gradients(params, clip, step * accumulate + index)
            ), None

        total, _ = jax.lax.scan(add, zeros, (jnp.arange(accumulate), parts))
        return jax.tree.map(lambda x: x / accumulate, total)

    def train_step(state: TrainState, clip: Clip) -> tuple[TrainState, Metrics]:
        grads, scalars = mean_gradients(state.params, clip, state.step)
        with jax.named_scope('optimizer'):
            updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(grads)
        good = jnp.isfinite(scalars['loss']) & jnp.isfinite(norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (params, opt_state),
            (state.params, state.optimizer),
        )
        scalars |= {
            'gradient_norm': norm,
            'parameter_norm': optax.tree.norm(params),
            'bad_step': 1.0 - good,
        }
        if group_norms:
            scalars |= norms_by_group(grads)
        return TrainState(state.step + 1, params, opt_state), scalars

    return jax.jit(
        train_step,
        in_shardings=(state_sharding(mesh), clip_sharding(mesh)),
        out_shardings=(state_sharding(mesh), replicated(mesh)),
        donate_argnums=0,
    )
