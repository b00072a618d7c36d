"""The autoencoder's config, of three parts: network, modalities and computation."""

import dataclasses
import math
from typing import Literal

from perceiver_io.core.config_values import as_type, check_fields
from perceiver_io.core.errors import UserError
from perceiver_io.network.config import ComputeConfig, NetworkConfig
from perceiver_io.network.position_encoding import FourierPositionEncoding

MODALITIES = ('video', 'audio', 'label')
Initialization = Literal['original', 'placed']


@dataclasses.dataclass(frozen=True)
class ModalitiesConfig:
    """What a clip consists of; the defaults are the released model's (original code, paper 4.3).

    Attributes:
        modalities: any of 'video', 'audio' and 'label', at least one of the first two.
        frames: t of the video.
        height: h of the video.
        width: w of the video.
        channels: c of the video.
        samples_per_frame: audio samples for each video frame; s = frames * samples_per_frame.
        classes: k.
        video_patch: (t, y, x) size of the patch in a video token.
        audio_patch: audio samples in a token, and in the output of an audio query.
        video_bands: Fourier bands for each video axis (the paper says 64, the weights have 32).
        audio_bands: Fourier bands of the audio.
        video_max_resolution: twice the highest frequency for each axis; None for the token grid.
        audio_max_resolution: the same for the audio; None for the number of samples.
        position_rounding: whose float32 rounding of the Fourier features is reproduced: 'xla' for
            the original code, 'torch' for the transformers library. They differ by up to 1e-2 in
            the highest bands.
        label_query_channels: width of the learned query of the label.
        input_padding: smallest width of the learned padding of tokens.
        query_padding: smallest width of the learned padding of queries.
    """

    modalities: tuple[str, ...] = MODALITIES
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
    position_rounding: Literal['xla', 'torch'] = 'xla'
    label_query_channels: int = 1024
    input_padding: int = 4
    query_padding: int = 2

    def __post_init__(self) -> None:
        check_fields(self, ModalitiesConfig, at_least={'input_padding': 0, 'query_padding': 0})
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown or not {'video', 'audio'} & set(self.modalities):
            raise UserError(
                f'modalities={self.modalities} must be some of {MODALITIES}, with video or audio'
            )
        if self.frames * self.height * self.width >= 2**31 or self.samples >= 2**31:
            raise UserError(
                f'frames={self.frames}, height={self.height}, width={self.width} and '
                f'samples_per_frame={self.samples_per_frame} must make fewer than 2**31 pixels '
                'and audio samples'
            )
        for axis, patch in zip(('frames', 'height', 'width'), self.video_patch, strict=True):
            if patch < 1 or getattr(self, axis) % patch:
                raise UserError(f'{axis}={getattr(self, axis)} must be divisible by {patch=}')
        if self.samples % self.audio_patch:
            raise UserError(
                f'samples={self.samples} (frames * samples_per_frame) must be divisible by '
                f'audio_patch={self.audio_patch}'
            )

    @property
    def samples(self) -> int:
        """s, the audio samples of a clip."""
        return self.frames * self.samples_per_frame

    @property
    def video_shape(self) -> tuple[int, int, int]:
        """(t, h, w), the grid of the video queries: one for each pixel."""
        return self.frames, self.height, self.width

    @property
    def video_token_shape(self) -> tuple[int, int, int]:
        """The grid of the video tokens, one for each patch: (16, 56, 56) in the released model."""
        patch_t, patch_y, patch_x = self.video_patch
        return self.frames // patch_t, self.height // patch_y, self.width // patch_x

    @property
    def audio_patches(self) -> int:
        """Audio tokens, and audio queries: 1,920 in the released model."""
        return self.samples // self.audio_patch

    @property
    def token_channels(self) -> int:
        """Width of an input token: 704 in the released model."""
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
        """Width of a query: 1,026 in the released model."""
        widths = {
            'video': self.video_query_position.channels,
            'audio': self.audio_position.channels,
            'label': self.label_query_channels,
        }
        return max(widths[modality] for modality in self.modalities) + self.query_padding

    @property
    def video_tokens_position(self) -> FourierPositionEncoding:
        """Positions of the video tokens."""
        return self._video_position(self.video_token_shape)

    @property
    def video_query_position(self) -> FourierPositionEncoding:
        """Positions of the video queries."""
        return self._video_position(self.video_shape)

    @property
    def audio_position(self) -> FourierPositionEncoding:
        """Positions of the audio tokens, and of the audio queries."""
        resolution = self.audio_max_resolution or self.samples
        return FourierPositionEncoding(
            (self.audio_patches,), self.audio_bands, (resolution,), self.position_rounding
        )

    def _video_position(self, shape: tuple[int, int, int]) -> FourierPositionEncoding:
        resolution = self.video_max_resolution or self.video_token_shape
        return FourierPositionEncoding(shape, self.video_bands, resolution, self.position_rounding)


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(ComputeConfig, NetworkConfig, ModalitiesConfig):
    """Everything that the autoencoder depends on: the fields of the three parts, in one level.

    The defaults are the released model with a compression of 88x. An instance can be passed to
    whatever expects one of the parts.

    Attributes:
        initialization: the initial values of a training from scratch: the original code's, or those
            of `perceiver_io.training.initialization` (not in the paper). Nothing else depends on
            it: a trained model only says how it began.
    """

    initialization: Initialization = 'original'

    def __post_init__(self) -> None:
        as_type(self.initialization, Initialization, 'initialization')
        ModalitiesConfig.__post_init__(self)
        NetworkConfig.__post_init__(self)
        ComputeConfig.__post_init__(self)
        if self.token_channels % self.cross_attention_heads:
            raise UserError(
                f'token_channels={self.token_channels} must be divisible by '
                f'cross_attention_heads={self.cross_attention_heads}'
            )
        if self.attention == 'exact' and self.attention_dropout:
            raise UserError(
                f"attention_dropout={self.attention_dropout} needs attention='plain': 'exact' has "
                'no array of attention weights to drop from'
            )

    @property
    def compression(self) -> float:
        """As the paper counts it: video tokens times their padded width, over the latents' values.

        88.0 at the defaults. For a model without video, audio tokens instead (not in the paper).
        """
        has_video = 'video' in self.modalities
        tokens = math.prod(self.video_token_shape) if has_video else self.audio_patches
        return tokens * self.token_channels / (self.latents * self.latent_channels)
