"""The multimodal autoencoder: its Python interface.

model = Autoencoder(AutoencoderConfig())
params = model.init(jax.random.key(0))
latents = model.encode(params, video=video, audio=audio)    # [b, n, d]
output = model.decode(params, latents, video_index=i, audio_index=j)
output = model.decode_clip(params, latents)                 # everything
output = model.reconstruct(params, video=video, audio=audio)
"""

import dataclasses
import functools
import math

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver_io.core.clip import Output
from perceiver_io.core.errors import UserError
from perceiver_io.models import modalities
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.models.modalities import PARAMETER_NAMES
from perceiver_io.network.factored.decoder import ExactDecoder
from perceiver_io.network.perceiver import BasicDecoder, PerceiverEncoder
from perceiver_io.network.position_encoding import LINSPACE, SUBSAMPLED
from perceiver_io.network.tokens import Tokens


class Autoencoder:
    """The model as pure functions of its parameters, a Haiku tree with the original's names.

    Every method can be jitted, differentiated and sharded. `params` is {module: {name: float32}}.
    """

    def __init__(self, config: AutoencoderConfig):
        self.config = config
        self._encode = jax.jit(
            hk.transform(functools.partial(_encode, config)).apply, static_argnums=6
        )
        self._decode = jax.jit(
            hk.transform(functools.partial(_decode, config)).apply, static_argnums=5
        )

    def init(self, rng: jax.Array) -> hk.Params:
        """Fresh parameters, drawn as the original draws them."""
        config = self.config
        encoder_rng, decoder_rng = jax.random.split(rng)
        video = jnp.zeros((1, *config.video_shape, config.channels))
        audio = jnp.zeros((1, config.samples, 1))
        label = jnp.zeros((1,), jnp.int32)
        latents = jnp.zeros((1, config.latents, config.latent_channels))
        one = jnp.zeros((1,), jnp.int32)

        # By the plain path, so that a key draws the same parameters for both.
        plain = dataclasses.replace(config, attention='plain')

        @jax.jit
        def init():
            encoder = hk.transform(functools.partial(_encode, plain)).init(
                encoder_rng, video, audio, label, jnp.zeros((1,), bool), False
            )
            decoder = hk.transform(functools.partial(_decode, plain)).init(
                decoder_rng, latents, one, one, SUBSAMPLED
            )
            return encoder | decoder

        return init()

    def in_float32(self) -> 'Autoencoder':
        """The same model with all activations in float32."""
        return Autoencoder(dataclasses.replace(self.config, dtype='float32'))

    def encode(
        self,
        params: hk.Params,
        *,
        video: jax.Array | None = None,
        audio: jax.Array | None = None,
        label: jax.Array | None = None,
        label_masked: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        """Clips to latents.

        Args:
            params: the model's parameters.
            video: [b, t, h, w, c] in [0, 1].
            audio: [b, s, 1] in [-1, 1].
            label: int [b]; None hides the label of every clip (how the model is evaluated).
            label_masked: bool [b], clips whose label is hidden all the same; None for none.
            rng: a key turns dropout on, where the config has any.

        Returns:
            latents [b, n, d], float32.

        Raises:
            UserError: a modality is missing or has another shape than the config says.
        """
        batch = self._check_clip(video, audio, label)
        if label is None:
            label = jnp.zeros((batch,), jnp.int32)
            label_masked = jnp.ones((batch,), bool)
        elif label_masked is None:
            label_masked = jnp.zeros((batch,), bool)
        return self._encode(params, rng, video, audio, label, label_masked, rng is not None)

    def decode(
        self,
        params: hk.Params,
        latents: jax.Array,
        *,
        video_index: jax.Array | None = None,
        audio_index: jax.Array | None = None,
        grid: str | None = None,
    ) -> Output:
        """Latents to the pixels, audio patches and class logits asked for.

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
        """
        config = self.config
        expected = (config.latents, config.latent_channels)
        if latents.ndim != 3 or latents.shape[1:] != expected:
            raise UserError(f'latents {latents.shape} must be [b, n, d] with (n, d)={expected}')
        return self._decode(params, None, latents, video_index, audio_index, grid)

    def reconstruct(
        self,
        params: hk.Params,
        *,
        video: jax.Array | None = None,
        audio: jax.Array | None = None,
        label: jax.Array | None = None,
        grid: str = SUBSAMPLED,
    ) -> Output:
        """Clips to whole clips: `encode`, in float32 whatever `dtype` is, then `decode_clip`.

        Of a reconstruction's error in bfloat16 most was the encoder's, and of its time a tenth.
        """
        self._check_clip(video, audio, label)
        return self._reconstruct(params, video, audio, label, grid)

    @functools.partial(jax.jit, static_argnums=(0, 5))
    def _reconstruct(self, params, video, audio, label, grid):
        latents = self.in_float32().encode(params, video=video, audio=audio, label=label)
        return self.decode_clip(params, latents, grid=grid)

    @functools.partial(jax.jit, static_argnums=0, static_argnames='grid')
    def decode_clip(
        self, params: hk.Params, latents: jax.Array, *, grid: str = SUBSAMPLED
    ) -> Output:
        """Latents [b, n, d] to whole clips, decoded in chunks within `decode_memory`.

        The queries lie on the `subsampled` grid, the one with which the released weights are
        shown, unless `grid` says 'linspace'.

        Returns:
            Output with video [b, t, h, w, c], audio [b, s, 1], label [b, k].
        """
        config = self.config
        decode = self.decode if config.attention == 'exact' else self._decode_in_chunks
        video, audio, label = decode(params, latents, grid=grid)
        batch = len(latents)
        if video is not None:
            video = video.reshape(batch, *config.video_shape, config.channels)
        if audio is not None:
            audio = audio.reshape(batch, config.samples, 1)
        return Output(video, audio, label)

    def _decode_in_chunks(self, params: hk.Params, latents: jax.Array, *, grid: str) -> Output:
        """`decode` of everything for the plain path, which makes an array of all its queries."""
        config = self.config
        points = {
            'video': math.prod(config.video_shape) if 'video' in config.modalities else 0,
            'audio': config.audio_patches if 'audio' in config.modalities else 0,
        }
        floats = 6 * config.query_channels + 2 * config.decoder_heads * config.latents
        at_once = max(1, _decode_memory(config) // (4 * len(latents) * floats))
        chunks = math.ceil(sum(points.values()) / at_once)

        # Every chunk takes the same share of each modality; the last ones repeat the final point.
        def indices(modality, chunk):
            if not points[modality]:
                return None
            share = math.ceil(points[modality] / chunks)
            return jnp.minimum(chunk * share + jnp.arange(share), points[modality] - 1)

        def decode_chunk(chunk):
            return self.decode(
                params,
                latents,
                video_index=indices('video', chunk),
                audio_index=indices('audio', chunk),
                grid=grid,
            )

        output = jax.lax.map(decode_chunk, jnp.arange(chunks))

        def whole(x, modality):
            x = jnp.moveaxis(x, 0, 1).reshape(len(latents), -1, x.shape[-1])
            return x[:, : points[modality]]

        return Output(
            video=None if output.video is None else whole(output.video, 'video'),
            audio=None if output.audio is None else whole(output.audio, 'audio'),
            label=None if output.label is None else output.label[0],
        )

    def _check_clip(self, video, audio, label) -> int:
        """Raises where a clip is not of the config's size; returns b."""
        config = self.config
        expected = {'video': (*config.video_shape, config.channels), 'audio': (config.samples, 1)}
        batches = set() if label is None else {label.shape[0]}
        for modality, value in (('video', video), ('audio', audio)):
            if modality not in config.modalities:
                continue
            shape = expected[modality]
            if value is None:
                raise UserError(f'{modality}=None: this model has {modality}, give [b, *{shape}]')
            if value.shape[1:] != shape:
                raise UserError(
                    f'{modality} {value.shape} must be [b, *{shape}], as the config says'
                )
            batches.add(value.shape[0])
        if len(batches) > 1:
            raise UserError(f'video, audio and label have different batch sizes: {batches}')
        return batches.pop()


def _decode_memory(config: AutoencoderConfig) -> int:
    return config.for_platform(jax.default_backend()).decode_memory


def _encode(config: AutoencoderConfig, video, audio, label, label_masked, is_training) -> jax.Array:
    """Preprocess, then encode: [b, n, d]. Runs inside `hk.transform`."""
    make = {
        'audio': lambda: modalities.audio_tokens(audio, config.audio_patch, config.audio_position),
        'video': lambda: modalities.video_tokens(
            video, config.video_patch, config.video_tokens_position
        ),
        'label': lambda: modalities.label_tokens(label, config.classes, label_masked),
    }
    tokens = {
        modality: make[modality]() for modality in PARAMETER_NAMES if modality in config.modalities
    }
    padded = modalities.MultimodalPreprocessor(config.input_padding)(tokens)
    encoder = PerceiverEncoder(
        latents=config.latents,
        latent_channels=config.latent_channels,
        blocks=config.blocks,
        self_attends=config.self_attends,
        cross_heads=config.cross_attention_heads,
        self_heads=config.self_attention_heads,
        cross_widening=config.cross_attention_widening,
        self_widening=config.self_attention_widening,
        gelu=config.gelu,
        dropout=config.dropout if is_training else 0.0,
        attention_dropout=config.attention_dropout if is_training else 0.0,
        dtype=jnp.dtype(config.dtype),
        exact=config.attention == 'exact',
        remat=config.remat,
    )
    return encoder(list(padded.values()), label.shape[0])


def _decode(config: AutoencoderConfig, latents, video_index, audio_index, grid) -> Output:
    """Build the queries, decode them, read them out. Runs inside `hk.transform`."""

    def query(position, index):
        usual = LINSPACE if index is None else SUBSAMPLED
        return Tokens(position=position, grid=grid or usual, index=index)

    make = {
        'audio': lambda: query(config.audio_position, audio_index),
        'video': lambda: query(config.video_query_position, video_index),
        'label': modalities.ClassificationDecoder(config.label_query_channels),
    }
    queries = {
        modality: make[modality]() for modality in PARAMETER_NAMES if modality in config.modalities
    }
    readouts = {
        modality: modalities.Readout(modality, values)
        for modality, values in (
            ('audio', config.audio_patch),
            ('video', config.channels),
            ('label', config.classes),
        )
        if modality in config.modalities
    }
    core = dict(
        channels=config.decoder_channels,
        heads=config.decoder_heads,
        gelu=config.gelu,
        dtype=jnp.dtype(config.dtype),
    )
    make_decoder = functools.partial(BasicDecoder, **core)
    if config.attention == 'exact':
        make_decoder = functools.partial(ExactDecoder, **core, memory=_decode_memory(config))
    decoder = modalities.MultimodalDecoder(
        min_padding=config.query_padding, make_decoder=make_decoder
    )
    answers = decoder(queries, latents, readouts)
    if 'label' in answers:
        answers['label'] = answers['label'][:, 0]
    return Output(**answers)
