"""From a media file to the arrays that a model takes, and from its output to a media file.

checkpoint = perceiver_io.load_checkpoint('runs/demo')
model, spec = perceiver_io.Autoencoder(checkpoint.config), checkpoint.clip_spec
clips = perceiver_io.read_clips('in.mp4', spec)
output = model.reconstruct(checkpoint.params, video=clips.video, audio=clips.audio)
perceiver_io.write_clips('out.mp4', output, spec)
"""

import itertools
import os

import numpy as np

from perceiver_io.core.clip import Array, Clip, ClipSpec, Output, to_float
from perceiver_io.core.errors import UserError

# PyAV is imported in the functions: these are public names, which must not load it.


def read_clips(path: str | os.PathLike, spec: ClipSpec, windows: int | None = None) -> Clip:
    """A media file as a batch of consecutive windows.

    Args:
        path: of the file.
        spec: the sizes and rates, such as `Checkpoint.clip_spec`.
        windows: at most how many windows, from the start; None for all. All are in memory at once:
            `perceiver_io.media.reader.read_windows` yields them one by one.

    Returns:
        video float32 [b, t, h, w, 3] in [0, 1] and audio float32 [b, s, 1] in [-1, 1]; None for
        what the spec does not have. Audio is 0 if the file has none. The last window is padded: its
        last frame is repeated, and its audio ends in silence.

    Raises:
        UserError: the file cannot be read; says why.
    """
    from perceiver_io.media import reader

    if windows is not None and windows < 1:
        raise UserError(f'{windows=} must be at least 1')
    clips = [clip for clip, _ in itertools.islice(reader.read_windows(path, spec), windows)]
    return to_float(
        Clip(
            np.stack([clip.video for clip in clips]) if spec.video else None,
            np.stack([clip.audio for clip in clips]) if spec.audio else None,
        )
    )


def write_clips(path: str | os.PathLike, clips: Clip | Output, spec: ClipSpec) -> None:
    """Writes a batch of consecutive windows as one MP4 file (H.264 and AAC).

    Args:
        path: the target, which is replaced if it exists.
        clips: what `Autoencoder.reconstruct` returns, or a batch of clips: video [b, t, h, w, 3] as
            uint8, or as floats of which those outside [0, 1] are clipped; audio [b, s, 1] as int16,
            or as floats of which those outside [-1, 1] are clipped. Labels are not written.
        spec: the rates.
    """
    from perceiver_io.media import writer

    if clips.video is None and clips.audio is None:
        raise UserError('these clips have neither video nor audio')
    video = None if clips.video is None else _joined(_integers(clips.video, 0, 255, np.uint8))
    audio = None if clips.audio is None else _joined(_integers(clips.audio, -1, 32768, np.int16))
    writer.write_media(path, video, audio, frame_rate=spec.frame_rate, sample_rate=spec.sample_rate)


def _integers(values: Array, low: float, scale: float, dtype: type[np.integer]) -> np.ndarray:
    """Floats in [low, 1] as integers of `dtype`; integers of this type pass unchanged."""
    array = np.asarray(values)
    if array.dtype == dtype:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f'clips must be floats or {np.dtype(dtype)}, not {array.dtype}')
    scaled = np.rint(np.clip(array.astype(np.float32), low, 1) * scale)
    return np.clip(scaled, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def _joined(windows: np.ndarray) -> np.ndarray:
    """[b, t, ...] to [b t, ...]."""
    return windows.reshape(-1, *windows.shape[2:])
