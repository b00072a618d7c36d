"""What a clip is: the one type that the network and the data both know.

Axis letters, used for every shape in this project:

    b batch          t frames         h height         w width         c colour channels
    s audio samples  m input tokens   n latents        q queries       d channels
    k classes
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.core.errors import UserError

Array = Any  # numpy or JAX, or None: data workers use this module, so it must not import JAX


class Clip(NamedTuple):
    """Video, audio and class of a clip or of a batch of clips; a pytree.

    Stored and moved as integers, computed with as floats (see `to_float`). A modality that is
    absent is None.

    Attributes:
        video: [..., t, h, w, 3]; uint8, or float in [0, 1].
        audio: [..., s, 1]; int16, or float in [-1, 1].
        label: [...] int32 class index; -1 where the class is unknown.
    """

    video: Array = None
    audio: Array = None
    label: Array = None


class Output(NamedTuple):
    """What the model says; a pytree. None for a modality that the model does not have.

    Attributes:
        video: [b, q, c], or [b, t, h, w, c] from `reconstruct`; nominally in [0, 1], not clipped.
        audio: [b, q, patch], or [b, s, 1] from `reconstruct`; nominally in [-1, 1], not clipped.
        label: [b, k] logits.
    """

    video: Array = None
    audio: Array = None
    label: Array = None


def to_float(clip: Clip) -> Clip:
    """The clip with uint8 video in [0, 1] and int16 audio in [-1, 1), as float32.

    Works on numpy and on JAX arrays, so that the integers can cross the bus and the floats be made
    on the device. Floats pass unchanged. The scales, 1/255 and 1/32768, are not in the paper.
    """
    video, audio = clip.video, clip.audio
    if video is not None and video.dtype == np.uint8:
        video = video.astype(np.float32) / np.float32(255)
    if audio is not None and audio.dtype == np.int16:
        audio = audio.astype(np.float32) / np.float32(32768)
    return clip._replace(video=video, audio=audio)


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """The sizes and rates to which files are read (paper, section 4.3 and the released code).

    Attributes:
        frames: video frames in a window, t.
        height: h, in pixels, after crop and resize.
        width: w, in pixels, after crop and resize.
        frame_rate: video frames per second.
        sample_rate: audio samples per second; a multiple of `frame_rate`.
        video: whether video is read.
        audio: whether audio is read.
    """

    frames: int = 16
    height: int = 224
    width: int = 224
    frame_rate: int = 25
    sample_rate: int = 48_000
    video: bool = True
    audio: bool = True

    def __post_init__(self) -> None:
        for name in ('frames', 'height', 'width', 'frame_rate', 'sample_rate'):
            if getattr(self, name) < 1:
                raise UserError(f'{name}={getattr(self, name)} must be at least 1')
        if self.sample_rate % self.frame_rate:
            raise UserError(
                f'sample_rate={self.sample_rate} must be a multiple of '
                f'frame_rate={self.frame_rate}, so that a frame is a whole number of samples'
            )
        if not (self.video or self.audio):
            raise UserError('a clip needs video or audio: set one of them to True')

    @property
    def samples_per_frame(self) -> int:
        return self.sample_rate // self.frame_rate

    @property
    def samples(self) -> int:
        """s, the audio samples of a window."""
        return self.frames * self.samples_per_frame

    @property
    def seconds(self) -> float:
        return self.frames / self.frame_rate
