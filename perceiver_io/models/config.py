"""The autoencoder's configuration."""

import dataclasses
import math

import jax

from perceiver_io.core.errors import UserError
from perceiver_io.models.modalities import PARAMETER_NAMES
from perceiver_io.network.attention import ACTIVATIONS
from perceiver_io.network.position_encoding import LINSPACES, FourierPositionEncoding


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
        position_rounding: 'xla' (the original) or 'torch' (the transformers library): whose
            rounding of the Fourier features, which differ by up to 1e-2 in the highest bands.
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
        dtype: 'float32' or 'bfloat16' for activations; parameters, softmax, statistics are float32,
            and so is the encoder of a reconstruction.
        attention: 'exact' or 'plain': the same function of the same parameters. 'plain' makes every
            token, query, key and value, as the original; 'exact' needs a fifth of the arithmetic.
        remat: make each self-attend's activations again in the backward pass: a third of the memory
            of these layers for a third more of their arithmetic.
        decode_memory: bytes that the queries decoded at a time may take; the result is the same.
            0 for 16 MiB on a CPU, whose caches that suits (256 MiB took 1.2 times as long on 2
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
    position_rounding: str = 'xla'
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
    decode_memory: int = 0

    def __post_init__(self):
        unknown = set(self.modalities) - set(PARAMETER_NAMES)
        if unknown or not {'video', 'audio'} & set(self.modalities):
            raise UserError(
                f'modalities={self.modalities} must be some of {tuple(PARAMETER_NAMES)}, with '
                'video or audio'
            )
        may_be_zero = ('input_padding', 'query_padding', 'decode_memory')
        counts = [
            field.name
            for field in dataclasses.fields(self)
            if field.type is int and field.name not in may_be_zero
        ]
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f'{name}={getattr(self, name)} must be at least 1')
        for name in may_be_zero:
            if getattr(self, name) < 0:
                raise UserError(f'{name}={getattr(self, name)} must not be negative')
        if self.frames * self.height * self.width >= 2**31 or self.samples >= 2**31:
            raise UserError(
                f'frames={self.frames}, height={self.height}, width={self.width} and '
                f'samples_per_frame={self.samples_per_frame} must make fewer than 2**31 pixels '
                'and audio samples'
            )
        if self.blocks * self.self_attends > 1000:
            raise UserError(
                f'blocks={self.blocks} times self_attends={self.self_attends} must be at most 1000'
            )
        for axis, patch in zip(('frames', 'height', 'width'), self.video_patch, strict=True):
            if patch < 1 or getattr(self, axis) % patch:
                raise UserError(f'{axis}={getattr(self, axis)} must be divisible by {patch=}')
        if self.samples % self.audio_patch:
            raise UserError(
                f'samples={self.samples} (frames * samples_per_frame) must be divisible by '
                f'audio_patch={self.audio_patch}'
            )
        for heads, width in (
            ('self_attention_heads', 'latent_channels'),
            ('decoder_heads', 'latent_channels'),
            ('cross_attention_heads', 'token_channels'),
        ):
            if getattr(self, width) % getattr(self, heads):
                raise UserError(
                    f'{width}={getattr(self, width)} must be divisible by '
                    f'{heads}={getattr(self, heads)}'
                )
        for name in ('dropout', 'attention_dropout'):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f'{name}={getattr(self, name)} must be in [0, 1)')
        if self.attention not in ('exact', 'plain'):
            raise UserError(f"attention={self.attention!r} must be 'exact' or 'plain'")
        if self.attention == 'exact' and self.attention_dropout:
            raise UserError(
                f"attention_dropout={self.attention_dropout} needs attention='plain': 'exact' has "
                'no array of attention weights to drop from'
            )
        if self.position_rounding not in LINSPACES:
            raise UserError(
                f'position_rounding={self.position_rounding!r} must be one of {tuple(LINSPACES)}'
            )
        if self.gelu not in ACTIVATIONS:
            raise UserError(f'gelu={self.gelu!r} must be one of {tuple(ACTIVATIONS)}')
        if self.dtype not in ('float32', 'bfloat16'):
            raise UserError(f"dtype={self.dtype!r} must be 'float32' or 'bfloat16'")

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
            'video': (
                math.prod(self.video_patch) * self.channels + self.video_tokens_position.channels
            ),
            'audio': self.audio_patch + self.audio_position.channels,
            'label': self.classes,
        }
        return max(widths[modality] for modality in self.modalities) + self.input_padding

    @property
    def query_channels(self) -> int:
        """Width of a query: 1,026."""
        widths = {
            'video': self.video_query_position.channels,
            'audio': self.audio_position.channels,
            'label': self.label_query_channels,
        }
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
        return FourierPositionEncoding(
            (self.audio_patches,), self.audio_bands, (resolution,), self.position_rounding
        )

    def _video_position(self, shape: tuple[int, int, int]) -> FourierPositionEncoding:
        resolution = self.video_max_resolution or self.video_token_shape
        return FourierPositionEncoding(
            shape, self.video_bands, tuple(resolution), self.position_rounding
        )
