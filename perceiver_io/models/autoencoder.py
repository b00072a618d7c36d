"""The multimodal autoencoder: its Python interface.

model = Autoencoder(AutoencoderConfig())
params = model.init(jax.random.key(0))
latents = model.encode(params, video=video, audio=audio)    # [b, n, d]
output = model.decode(params, latents, video_index=i, audio_index=j)
output = model.decode_clip(params, latents)                 # every pixel and sample
output = model.reconstruct(params, video=video, audio=audio)
"""

import dataclasses
import functools
from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver_io.core.clip import Clip, Output
from perceiver_io.core.errors import UserError
from perceiver_io.models import forward
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.models.inputs import check_clip, check_label, check_masked, check_queries
from perceiver_io.network.config import ComputeConfig, NetworkConfig
from perceiver_io.network.position_encoding import SUBSAMPLED, Grid


@dataclasses.dataclass(frozen=True, repr=False)
class Autoencoder:
    """The model as pure functions of its parameters, a Haiku tree with the original's names.

    Every method can be jitted, differentiated and sharded. `params` is {module: {name: float32}}.
    A model is nothing but its config: models with equal configs are equal, and share their compiled
    programs. Video is uint8 or floats in [0, 1], audio is int16 or floats in [-1, 1].

    Attributes:
        config: of the model.
        hidden: 'video' or 'audio', if `encode` replaces it by its mask token in all clips; it is
            decoded all the same. Of use if `sampling.video_masked` or `audio_masked` of the
            training was above 0 (not in the paper).
        kept: how many latents are kept, the first ones; 0 for all. Of use if this number was among
            `sampling.latents_kept` of the training (not in the paper).
    """

    config: AutoencoderConfig
    hidden: tuple[str, ...] = ()
    kept: int = 0

    def __post_init__(self) -> None:
        """UserError: nothing would be left to encode, or there are not as many latents."""
        seen = {'video', 'audio'} & set(self.config.modalities) - set(self.hidden)
        if not seen or not set(self.hidden) <= {'video', 'audio'} & set(self.config.modalities):
            raise UserError(
                f'{" and ".join(self.hidden)} cannot be hidden from a model of '
                f'{", ".join(self.config.modalities)}'
            )
        if not 0 <= self.kept <= self.config.latents:
            raise UserError(
                f'{self.kept} latents cannot be kept of the {self.config.latents} of the model'
            )

    def __repr__(self) -> str:
        """The sizes of the model."""
        config = self.config
        sizes = {
            'video': 'video {} x {} x {} x {}'.format(*config.video_shape, config.channels),
            'audio': f'audio {config.samples} samples',
            'label': f'label of {config.classes} classes',
        }
        shown = ', '.join(sizes[modality] for modality in config.modalities)
        return (
            f'Autoencoder({shown}; {config.latents} latents of {config.latent_channels} channels; '
            f'{_count_parameters(config):,} parameters; compression {config.compression:.3g}x)'
        )

    def init(self, rng: jax.Array) -> hk.Params:
        """Fresh parameters, drawn as the original draws them, whatever `initialization` says."""
        # Whatever does not change the parameters takes one value, so that compilations are shared.
        network = {name: getattr(NetworkConfig, name) for name in ('dropout', 'attention_dropout')}
        compute = dataclasses.asdict(ComputeConfig(attention='plain', decode_memory=2**30))
        config = dataclasses.replace(self.config, **network, **compute, initialization='original')
        return _init(config, rng)

    def in_float32(self) -> 'Autoencoder':
        """The same model with all activations in float32."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, dtype='float32'))

    def encode(
        self,
        params: hk.Params,
        *,
        video: jax.Array | None = None,
        audio: jax.Array | None = None,
        label: jax.Array | None = None,
        label_masked: jax.Array | None = None,
        video_masked: jax.Array | None = None,
        audio_masked: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes clips.

        Args:
            params: the model's parameters.
            video: [b, t, h, w, c], uint8 or floats in [0, 1].
            audio: [b, s, 1], int16 or floats in [-1, 1].
            label: int [b]; None hides the label of every clip, as in evaluation.
            label_masked: bool [b], clips whose label is hidden although given; None for none.
            video_masked, audio_masked: bool [b], the same for video and audio, which are given all
                the same (not in the paper); None for those of `hidden`.
            rng: a key turns dropout on, where the config has any.

        Returns:
            Latents [b, n, d], float32.

        Raises:
            UserError: a modality is missing, or has another type, shape or range (`inputs.py`).
        """
        clip = check_clip(self.config, video, audio, label)
        masked = {'video': video_masked, 'audio': audio_masked}
        masked = {name: value for name, value in masked.items() if value is not None}
        if clip.label is None:
            clip, hidden = self._label_hidden(clip)
            masked |= hidden
        elif 'label' in self.config.modalities:
            check_label(self.config, clip.label, label_masked)
            if label_masked is None:
                label_masked = jnp.zeros((len(clip.label),), bool)
            masked['label'] = label_masked
        batch = _batch(clip)
        for name, value in masked.items():
            check_masked(name, value, batch)
        masked |= {name: jnp.ones((batch,), bool) for name in self.hidden}
        config = self.config if rng is not None else self.config.without_dropout()
        latents = _encode(config, params, rng, clip, masked)
        return latents[:, : self.kept] if self.kept else latents

    def decode(
        self,
        params: hk.Params,
        latents: jax.Array,
        *,
        video_index: jax.Array | None = None,
        audio_index: jax.Array | None = None,
        grid: Grid | None = None,
    ) -> Output:
        """Decodes pixels, audio patches and class logits.

        Args:
            params: the model's parameters.
            latents: [b, n, d].
            video_index: int [q], flat indices into (t, h, w); None for every pixel.
            audio_index: int [q], which audio patches; None for all.
            grid: positions of the queries, 'subsampled' (-1 + 2 i / n) or 'linspace' (both ends
                included). None does as the original: 'subsampled' for a modality that is
                indexed, 'linspace' for one decoded undivided.

        Returns:
            Output with video [b, q, c], audio [b, q, patch], label [b, k].

        Raises:
            UserError: latents of another shape, or an index that is out of range.
        """
        check_queries(self.config, latents, video_index, audio_index, self.kept)
        config = self.config.for_platform(jax.default_backend())
        return _decode(config, params, latents, video_index, audio_index, grid)

    def reconstruct(
        self,
        params: hk.Params,
        *,
        video: jax.Array | None = None,
        audio: jax.Array | None = None,
        label: jax.Array | None = None,
        grid: Grid = SUBSAMPLED,
    ) -> Output:
        """Encodes clips, in float32 whatever `dtype` is, and decodes them whole.

        Most of a reconstruction's error in bfloat16 comes from the encoder, and little of its time.

        Returns:
            Output as of `decode_clip`.
        """
        clip = check_clip(self.config, video, audio, label)
        if clip.label is not None:
            check_label(self.config, clip.label, None)
        return _reconstruct(self, params, clip, grid)

    def decode_clip(
        self, params: hk.Params, latents: jax.Array, *, grid: Grid = SUBSAMPLED
    ) -> Output:
        """Decodes whole clips from latents [b, n, d], in chunks of about `decode_memory` bytes.

        The queries lie on the 'subsampled' grid, on which the released weights were trained and
        shown, unless `grid` says 'linspace'.

        Returns:
            Output with video [b, t, h, w, c], audio [b, s, 1], label [b, k].
        """
        check_queries(self.config, latents, None, None, self.kept)
        return _decode_clip(self, params, latents, grid)

    def encoder_attention(
        self,
        params: hk.Params,
        index: jax.Array,
        *,
        video: jax.Array | None = None,
        audio: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """What latents read, with the label hidden: attention weights, mean over the heads.

        Args:
            params: the model's parameters.
            index: int [r], which latents.
            video, audio: as of `encode`.

        Returns:
            Of each modality float32 [b, r, m], m tokens, row-major in (t, y, x) for video. For each
            latent they add up to 1 over all modalities.
        """
        clip, masked = self._label_hidden(check_clip(self.config, video, audio, None))
        masked |= {name: jnp.ones((_batch(clip),), bool) for name in self.hidden}
        return _encoder_attention(self.config.without_dropout(), params, clip, masked, index)

    def decoder_attention(
        self,
        params: hk.Params,
        latents: jax.Array,
        *,
        video_index: jax.Array,
        audio_index: jax.Array,
    ) -> dict[str, jax.Array]:
        """The attention weights of queries over the latents [b, n, d], mean over the heads.

        Arguments are as of `decode`.

        Returns:
            Of each modality float32 [b, q, n]; q is 1 for the label.
        """
        check_queries(self.config, latents, video_index, audio_index, self.kept)
        return _decoder_attention(self.config, params, latents, video_index, audio_index)

    def _label_hidden(self, clip: Clip) -> tuple[Clip, dict[str, jax.Array]]:
        """A clip without a label, as one with a label that is hidden; and what is hidden."""
        if 'label' not in self.config.modalities:
            return clip, {}
        batch = _batch(clip)
        label = jnp.zeros((batch,), jnp.int32)
        return clip._replace(label=label), {'label': jnp.ones((batch,), bool)}


def _batch(clip: Clip) -> int:
    return len(next(value for value in clip if value is not None))


@functools.partial(jax.jit, static_argnums=0)
def _init(config: AutoencoderConfig, rng: jax.Array) -> hk.Params:
    encoder_rng, decoder_rng = jax.random.split(rng)
    clip = Clip(
        video=jnp.zeros((1, *config.video_shape, config.channels)),
        audio=jnp.zeros((1, config.samples, 1)),
        label=jnp.zeros((1,), jnp.int32),
    )
    latents = jnp.zeros((1, config.latents, config.latent_channels))
    one = jnp.zeros((1,), jnp.int32)
    encoder = hk.transform(forward.encode).init(encoder_rng, config, clip, {})
    decoder = hk.transform(forward.decode).init(decoder_rng, config, latents, one, one, SUBSAMPLED)
    return {**encoder, **decoder}


@functools.partial(jax.jit, static_argnums=0)
def _encode(
    config: AutoencoderConfig,
    params: hk.Params,
    rng: jax.Array | None,
    clip: Clip,
    masked: Mapping[str, jax.Array],
) -> jax.Array:
    return hk.transform(forward.encode).apply(params, rng, config, clip, masked)


@functools.partial(jax.jit, static_argnums=0)
def _encoder_attention(
    config: AutoencoderConfig,
    params: hk.Params,
    clip: Clip,
    masked: Mapping[str, jax.Array],
    index: jax.Array,
) -> dict[str, jax.Array]:
    return hk.transform(forward.encoder_attention).apply(params, None, config, clip, masked, index)


@functools.partial(jax.jit, static_argnums=0)
def _decoder_attention(
    config: AutoencoderConfig,
    params: hk.Params,
    latents: jax.Array,
    video_index: jax.Array,
    audio_index: jax.Array,
) -> dict[str, jax.Array]:
    return hk.transform(forward.decoder_attention).apply(
        params, None, config, latents, video_index, audio_index
    )


@functools.partial(jax.jit, static_argnums=(0, 5))
def _decode(
    config: AutoencoderConfig,
    params: hk.Params,
    latents: jax.Array,
    video_index: jax.Array | None,
    audio_index: jax.Array | None,
    grid: Grid | None,
) -> Output:
    return hk.transform(forward.decode).apply(
        params, None, config, latents, video_index, audio_index, grid
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def _reconstruct(model: Autoencoder, params: hk.Params, clip: Clip, grid: Grid) -> Output:
    latents = model.in_float32().encode(
        params, video=clip.video, audio=clip.audio, label=clip.label
    )
    return model.decode_clip(params, latents, grid=grid)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _decode_clip(model: Autoencoder, params: hk.Params, latents: jax.Array, grid: Grid) -> Output:
    config, batch = model.config, len(latents)
    video, audio, label = model.decode(params, latents, grid=grid)
    if video is not None:
        video = video.reshape(batch, *config.video_shape, config.channels)
    if audio is not None:
        audio = audio.reshape(batch, config.samples, 1)
    return Output(video, audio, label)


@functools.lru_cache(maxsize=64)
def _count_parameters(config: AutoencoderConfig) -> int:
    shapes = jax.eval_shape(Autoencoder(config).init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))
