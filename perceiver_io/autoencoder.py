"""The multimodal autoencoder: its configuration and its Python interface.

    model = Autoencoder(AutoencoderConfig())
    params = model.init(jax.random.key(0))
    latents = model.encode(params, video=video, audio=audio)    # [b, n, d]
    output = model.decode(params, latents, video_index=i, audio_index=j)
    output = model.reconstruct(params, video=video, audio=audio)
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver_io import io_processors
from perceiver_io.attention import ACTIVATIONS
from perceiver_io.exact_decoder import ExactDecoder
from perceiver_io.io_processors import PARAMETER_NAMES
from perceiver_io.perceiver import BasicDecoder, PerceiverEncoder
from perceiver_io.position_encoding import LINSPACE, SUBSAMPLED, FourierPositionEncoding
from perceiver_io.tokens import Tokens


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the model; the defaults are the released 88x model (original code, paper 4.3).

    Attributes:
        modalities: any of 'video', 'audio' and 'label', at least one of the first two.
        frames, height, width, channels: t, h, w, c of the video.
        samples_per_frame: audio samples for each video frame; s = frames * samples_per_frame.
        classes: k.
        video_patch: (t, y, x) size of a video token's patch.
        audio_patch: audio samples in a token, and in a query's answer.
        video_bands: Fourier bands for each video axis (the paper says 64, the weights have 32).
        audio_bands: Fourier bands of the audio.
        video_max_resolution: twice the highest frequency for each axis; None for the token grid.
        audio_max_resolution: the same for the audio; None for the number of samples.
        latents, latent_channels: n and d of the bottleneck.
        blocks: times that the self-attends are applied, with shared weights.
        self_attends: self-attention layers in a block.
        self_attention_heads, cross_attention_heads, decoder_heads: heads of each.
        self_attention_widening, cross_attention_widening: hidden over outer width of the MLPs.
        decoder_channels: width of the decoder's output, before the heads of the modalities.
        label_query_channels: width of the learned query of the label.
        input_padding, query_padding: the least learned padding of tokens and of queries.
        gelu: 'tanh' (the original) or 'exact' (the transformers library's default).
        dropout, attention_dropout: rates in the encoder while training (0 in the release).
        dtype: 'float32' or 'bfloat16' for activations; parameters, softmax, statistics are float32.
        attention: 'exact' or 'plain': the same function of the same parameters. 'plain' makes every
            token, query, key and value, as the original; 'exact' needs a fifth of the arithmetic.
        remat: make each self-attend's activations again in the backward pass: a third of the memory
            of these layers for a third more of their arithmetic.
        decode_memory: bytes that the queries decoded at a time may take; it does not change the result.
            None for 16 MiB on a CPU, whose caches that fits (256 MiB took 1.2 times as long on 2
            cores), and 1 GiB on an accelerator.
    """

    modalities: tuple[str, ...] = ('video', 'audio', 'label')
    frames: int = 16
    height: int = 224
    width: int = 224
    channels: int = 3
    samples_per_frame: int = 1920
    classes: int = 700
    video_patch: tuple[int, int, int] = (1, 4, 4)
    audio_patch: int = 16
    video_bands: int = 32
    audio_bands: int = 192
    video_max_resolution: tuple[int, int, int] | None = None
    audio_max_resolution: int | None = None
    latents: int = 784
    latent_channels: int = 512
    blocks: int = 1
    self_attends: int = 8
    self_attention_heads: int = 8
    cross_attention_heads: int = 1
    decoder_heads: int = 1
    self_attention_widening: int = 1
    cross_attention_widening: int = 1
    decoder_channels: int = 512
    label_query_channels: int = 1024
    input_padding: int = 4
    query_padding: int = 2
    gelu: str = 'tanh'
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: str = 'float32'
    attention: str = 'exact'
    remat: bool = False
    decode_memory: int | None = None

    def __post_init__(self):
        unknown = set(self.modalities) - set(PARAMETER_NAMES)
        if unknown or not {'video', 'audio'} & set(self.modalities):
            raise ValueError(
                f'modalities={self.modalities} must be some of {tuple(PARAMETER_NAMES)}, with video or audio')
        counts = [
            field.name for field in dataclasses.fields(self)
            if field.type is int and field.name not in ('input_padding', 'query_padding')]
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f'{name}={getattr(self, name)} must be at least 1')
        if self.decode_memory is not None and self.decode_memory < 1:
            raise ValueError(f'decode_memory={self.decode_memory} must be at least 1, or None')
        for name in ('input_padding', 'query_padding'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name}={getattr(self, name)} must not be negative')
        for axis, patch in zip(('frames', 'height', 'width'), self.video_patch, strict=True):
            if patch < 1 or getattr(self, axis) % patch:
                raise ValueError(f'{axis}={getattr(self, axis)} must be divisible by {patch=}')
        if self.samples % self.audio_patch:
            raise ValueError(
                f'samples={self.samples} (frames * samples_per_frame) must be divisible by '
                f'audio_patch={self.audio_patch}')
        for heads, width in (('self_attention_heads', 'latent_channels'),
                             ('decoder_heads', 'latent_channels'),
                             ('cross_attention_heads', 'token_channels')):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f'{width}={getattr(self, width)} must be divisible by '
                    f'{heads}={getattr(self, heads)}')
        for name in ('dropout', 'attention_dropout'):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f'{name}={getattr(self, name)} must be in [0, 1)')
        if self.attention not in ('exact', 'plain'):
            raise ValueError(f"attention={self.attention!r} must be 'exact' or 'plain'")
        if self.attention == 'exact' and self.attention_dropout:
            raise ValueError(
                f"attention_dropout={self.attention_dropout} needs attention='plain': 'exact' has "
                'no array of attention weights to drop from')
        if self.gelu not in ACTIVATIONS:
            raise ValueError(f'gelu={self.gelu!r} must be one of {tuple(ACTIVATIONS)}')
        if self.dtype not in ('float32', 'bfloat16'):
            raise ValueError(f"dtype={self.dtype!r} must be 'float32' or 'bfloat16'")

    @property
    def samples(self) -> int:
        """s, the audio samples of a clip."""
        return self.frames * self.samples_per_frame

    @property
    def video_shape(self) -> tuple[int, int, int]:
        """(t, h, w), the grid of the video's queries: one for each pixel."""
        return self.frames, self.height, self.width

    @property
    def video_token_shape(self) -> tuple[int, int, int]:
        """The grid of the video's tokens, one for each patch: (16, 56, 56)."""
        return tuple(size // patch for size, patch in zip(self.video_shape, self.video_patch))

    @property
    def audio_patches(self) -> int:
        """Audio tokens, and audio queries: 1,920."""
        return self.samples // self.audio_patch

    @property
    def token_channels(self) -> int:
        """Width of an input token: 704."""
        widths = {
            'video': math.prod(self.video_patch) * self.channels + self.video_tokens_position.channels,
            'audio': self.audio_patch + self.audio_position.channels,
            'label': self.classes}
        return max(widths[modality] for modality in self.modalities) + self.input_padding

    @property
    def query_channels(self) -> int:
        """Width of a query: 1,026."""
        widths = {
            'video': self.video_query_position.channels, 'audio': self.audio_position.channels,
            'label': self.label_query_channels}
        return max(widths[modality] for modality in self.modalities) + self.query_padding

    @property
    def decode_bytes(self) -> int:
        """`decode_memory`, or what suits the backend."""
        return self.decode_memory or (2**24 if jax.default_backend() == 'cpu' else 2**30)

    @property
    def video_tokens_position(self) -> FourierPositionEncoding:
        return self._video_position(self.video_token_shape)

    @property
    def video_query_position(self) -> FourierPositionEncoding:
        return self._video_position(self.video_shape)

    @property
    def audio_position(self) -> FourierPositionEncoding:
        resolution = self.audio_max_resolution or self.samples
        return FourierPositionEncoding((self.audio_patches,), self.audio_bands, (resolution,))

    def _video_position(self, shape: tuple[int, int, int]) -> FourierPositionEncoding:
        resolution = self.video_max_resolution or self.video_token_shape
        return FourierPositionEncoding(shape, self.video_bands, tuple(resolution))


class Output(NamedTuple):
    """What the model says; a pytree. None for a modality that the model does not have.

    Attributes:
        video: [b, q, c], or [b, t, h, w, c] from `reconstruct`; nominally in [0, 1], not clipped.
        audio: [b, q, patch], or [b, s, 1] from `reconstruct`; nominally in [-1, 1], not clipped.
        label: [b, k] logits.
    """

    video: jax.Array | None = None
    audio: jax.Array | None = None
    label: jax.Array | None = None


class Autoencoder:
    """The model as pure functions of its parameters, a Haiku tree with the original's names.

    Every method can be jitted, differentiated and sharded. `params` is {module: {name: float32}}.
    """

    def __init__(self, config: AutoencoderConfig):
        self.config = config
        self._encoder = hk.transform(functools.partial(_encode, config))
        self._decoder = hk.transform(functools.partial(_decode, config))

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
                encoder_rng, video, audio, label, jnp.zeros((1,), bool), False)
            decoder = hk.transform(functools.partial(_decode, plain)).init(
                decoder_rng, latents, one, one, SUBSAMPLED)
            return encoder | decoder

        return init()

    def encode(self, params: hk.Params, *, video: jax.Array | None = None,
               audio: jax.Array | None = None, label: jax.Array | None = None,
               label_masked: jax.Array | None = None, rng: jax.Array | None = None) -> jax.Array:
        """Clips to latents.

        Args:
            params: the model's parameters.
            video: [b, t, h, w, c] in [0, 1].
            audio: [b, s, 1] in [-1, 1].
            label: int [b]; None hides the label of every clip (how the model is evaluated).
            label_masked: bool [b], clips whose label is hidden all the same; None for none.
            rng: a key turns dropout on, where the config has any.

        Returns:
            latents [b, n, d].

        Raises:
            ValueError: a modality is missing or has another shape than the config says.
        """
        batch = self._check_clip(video, audio, label)
        if label is None:
            label = jnp.zeros((batch,), jnp.int32)
            label_masked = jnp.ones((batch,), bool)
        elif label_masked is None:
            label_masked = jnp.zeros((batch,), bool)
        return self._encoder.apply(
            params, rng, video, audio, label, label_masked, rng is not None)

    def decode(self, params: hk.Params, latents: jax.Array, *,
               video_index: jax.Array | None = None, audio_index: jax.Array | None = None,
               grid: str | None = None) -> Output:
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
            raise ValueError(f'latents {latents.shape} must be [b, n, d] with (n, d)={expected}')
        return self._decoder.apply(params, None, latents, video_index, audio_index, grid)

    def reconstruct(self, params: hk.Params, *, video: jax.Array | None = None,
                    audio: jax.Array | None = None, label: jax.Array | None = None,
                    grid: str = SUBSAMPLED) -> Output:
        """Clips to whole clips: encoded once, decoded in chunks within `decode_memory`.

        The queries lie on the `subsampled` grid, the one with which the released weights are
        shown, unless `grid` says 'linspace'.

        Returns:
            Output with video [b, t, h, w, c], audio [b, s, 1], label [b, k].
        """
        self._check_clip(video, audio, label)
        return self._reconstruct(params, video, audio, label, grid)

    @functools.partial(jax.jit, static_argnums=(0, 5))
    def _reconstruct(self, params, video, audio, label, grid):
        config = self.config
        latents = self.encode(params, video=video, audio=audio, label=label)
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
        points = {'video': math.prod(config.video_shape) if 'video' in config.modalities else 0,
                  'audio': config.audio_patches if 'audio' in config.modalities else 0}
        floats = 6 * config.query_channels + 2 * config.decoder_heads * config.latents
        at_once = max(1, config.decode_bytes // (4 * len(latents) * floats))
        chunks = math.ceil(sum(points.values()) / at_once)

        # Every chunk takes the same share of each modality; the last ones repeat the final point.
        def indices(modality, chunk):
            if not points[modality]:
                return None
            share = math.ceil(points[modality] / chunks)
            return jnp.minimum(chunk * share + jnp.arange(share), points[modality] - 1)

        def decode_chunk(chunk):
            return self.decode(
                params, latents, video_index=indices('video', chunk),
                audio_index=indices('audio', chunk), grid=grid)

        output = jax.lax.map(decode_chunk, jnp.arange(chunks))

        def whole(x, modality):
            return jnp.moveaxis(x, 0, 1).reshape(len(latents), -1, x.shape[-1])[:, :points[modality]]

        return Output(
            video=None if output.video is None else whole(output.video, 'video'),
            audio=None if output.audio is None else whole(output.audio, 'audio'),
            label=None if output.label is None else output.label[0])

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
                raise ValueError(f'{modality}=None: this model has {modality}, give [b, *{shape}]')
            if value.shape[1:] != shape:
                raise ValueError(f'{modality} {value.shape} must be [b, *{shape}], as the config says')
            batches.add(value.shape[0])
        if len(batches) > 1:
            raise ValueError(f'video, audio and label have different batch sizes: {batches}')
        return batches.pop()


def _encode(config: AutoencoderConfig, video, audio, label, label_masked, is_training) -> jax.Array:
    """Preprocess, then encode: [b, n, d]. Runs inside `hk.transform`."""
    make = {
        'audio': lambda: io_processors.audio_tokens(
            audio, config.audio_patch, config.audio_position),
        'video': lambda: io_processors.video_tokens(
            video, config.video_patch, config.video_tokens_position),
        'label': lambda: io_processors.label_tokens(label, config.classes, label_masked)}
    tokens = {modality: make[modality]() for modality in PARAMETER_NAMES
              if modality in config.modalities}
    padded = io_processors.MultimodalPreprocessor(config.input_padding)(tokens)
    encoder = PerceiverEncoder(
        latents=config.latents, latent_channels=config.latent_channels, blocks=config.blocks,
        self_attends=config.self_attends, cross_heads=config.cross_attention_heads,
        self_heads=config.self_attention_heads, cross_widening=config.cross_attention_widening,
        self_widening=config.self_attention_widening, gelu=config.gelu,
        dropout=config.dropout if is_training else 0.0,
        attention_dropout=config.attention_dropout if is_training else 0.0,
        dtype=jnp.dtype(config.dtype), exact=config.attention == 'exact', remat=config.remat)
    return encoder(list(padded.values()), label.shape[0])


def _decode(config: AutoencoderConfig, latents, video_index, audio_index, grid) -> Output:
    """Build the queries, decode them, read them out. Runs inside `hk.transform`."""
    def query(position, index):
        usual = LINSPACE if index is None else SUBSAMPLED
        return Tokens(position=position, grid=grid or usual, index=index)

    make = {
        'audio': lambda: query(config.audio_position, audio_index),
        'video': lambda: query(config.video_query_position, video_index),
        'label': io_processors.ClassificationDecoder(config.label_query_channels)}
    queries = {modality: make[modality]() for modality in PARAMETER_NAMES
               if modality in config.modalities}
    readouts = {
        modality: io_processors.Readout(modality, values) for modality, values in (
            ('audio', config.audio_patch), ('video', config.channels), ('label', config.classes))
        if modality in config.modalities}
    core = dict(channels=config.decoder_channels, heads=config.decoder_heads, gelu=config.gelu)
    make_decoder = functools.partial(BasicDecoder, **core)
    if config.attention == 'exact':
        make_decoder = functools.partial(ExactDecoder, **core, memory=config.decode_bytes)
    decoder = io_processors.MultimodalDecoder(
        min_padding=config.query_padding, make_decoder=make_decoder)
    answers = decoder(queries, latents, readouts)
    if 'label' in answers:
        answers['label'] = answers['label'][:, 0]
    return Output(**answers)
