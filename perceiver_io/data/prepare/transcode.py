"""Turns a file into what a prepared dataset stores of it, or says why it cannot be used."""

import dataclasses
import os
import pathlib
import uuid
from typing import NamedTuple

from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data.records import MissingAudio, check_missing_audio
from perceiver_io.media import reader
from perceiver_io.media.containers import open_media, seeks_exactly
from perceiver_io.media.writer import H264, MediaWriter, Mpeg2

FRAME_RATE = 25  # the paper's; at 48 kHz one frame is 1,920 samples
SAMPLE_RATE = 48_000
SHORT_SIDE = 256  # pixels, for random or centre crops of 224

# Not in the paper. Windows are cheap to reach, frames do not refer to later ones and are cheap to
# decode (no CABAC, no deblocking), and bytes do not depend on the machine.
_H264 = H264(crf=20, preset='veryfast', tune='fastdecode', key_interval=12, b_frames=0, threads=1)
_AUDIO_BIT_RATE = 96_000
# Of `decoded`: docs/input_pipeline.md compares it with other codecs.
DECODED_SIDE = 224  # pixels, the paper's
_MPEG2 = Mpeg2(quantizer=3, key_interval=12)
_CUT_OFF = 1.0  # seconds that may be missing at the end of a file, by its header


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is stored and what is rejected.

    Attributes:
        keep_original: whether files are stored as they are, instead of transcoded.
        decoded: whether frames are stored cropped and resized, as a model with windows of 224 x 224
            reads them, in a form that takes less time to read and more bytes.
        min_seconds: shorter clips are rejected. The default is a window of the paper, 16 frames
            at 25 frames/s; more would change which clips are evaluated.
        missing_audio: what happens to a clip without audio: 'silence', or 'skip' to reject it.
    """

    keep_original: bool = False
    decoded: bool = False
    min_seconds: float = 0.64
    missing_audio: MissingAudio = 'silence'

    def __post_init__(self) -> None:
        if not self.min_seconds >= 1 / FRAME_RATE:
            raise UserError(f'min_seconds={self.min_seconds} must be at least 1/{FRAME_RATE}')
        check_missing_audio(self.missing_audio)
        if self.keep_original and self.decoded:
            raise UserError('keep_original and decoded exclude each other: choose one of them')


class Stored(NamedTuple):
    """A clip as it is stored.

    Attributes:
        media: the bytes of a media file.
        seconds: length of the video.
        has_audio: whether it has audio.
    """

    media: bytes
    seconds: float
    has_audio: bool


class Rejected(Exception):
    """A file that cannot be used.

    Attributes:
        reason: one of 'missing', 'empty', 'not media', 'damaged', 'no video', 'no audio',
            'short', 'unreadable'. These words are in `rejects.csv`.
        detail: more about it; may be empty.
    """

    def __init__(self, reason: str, detail: str = '') -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def store(path: str | os.PathLike[str], settings: Settings, scratch: pathlib.Path) -> Stored:
    """Checks a file from its first to its last frame, and converts it to the form that is stored.

    Unless the original is kept, this is an MP4 file with H.264 at 25 frames/s, at most 256 pixels
    along the short side, a key frame every 12 frames and no frame that refers to a later one, and
    AAC in mono at 48 kHz for the same time span. Pixels are square, and the video is upright.
    Decoded, it is the centred square of the video, of at most 224 x 224 pixels, as MPEG-2 with a
    key frame every 12 frames, and the samples of the audio as FLAC.

    Args:
        path: the file.
        settings: what is stored and what is rejected.
        scratch: a folder for a temporary file.

    Raises:
        Rejected: it cannot be used.
    """
    path = pathlib.Path(path)
    try:
        _check_bytes(path)
        info = reader.probe(path)
        _check_end(path)
        if not info.has_video:
            raise Rejected('no video')
        if not info.has_audio and settings.missing_audio == 'skip':
            raise Rejected('no audio')
        if info.seconds < settings.min_seconds - 0.5 / FRAME_RATE:
            raise Rejected('short', f'{info.seconds:.2f} s')
        if settings.keep_original:
            for _ in reader.read_windows(path, _spec(16, 16)):
                pass
            return Stored(path.read_bytes(), info.seconds, info.has_audio)
        return _transcode(path, info, settings.decoded, scratch)
    except reader.UnreadableMedia as error:
        raise Rejected('damaged', str(error)) from error


def _check_bytes(path: pathlib.Path) -> None:
    if not path.is_file():
        raise Rejected('missing')
    try:
        with open(path, 'rb') as file:
            head = file.read(1024)
    except OSError as error:  # later errors, such as a full disk, are not about the clip
        raise Rejected('unreadable', error.strerror or str(error)) from error
    if not head:
        raise Rejected('empty')
    if head.startswith(b'version https://git-lfs'):
        raise Rejected('not media', 'a Git LFS pointer: fetch the file itself')
    if head.isascii() and b'\0' not in head:
        raise Rejected('not media', 'it is text')


def _check_end(path: pathlib.Path) -> None:
    """Rejects a file that is cut off between two packets, which decodes without an error."""
    with open_media(path) as container:
        if not seeks_exactly(container):
            return  # its length is not stored reliably
        if container.format.name.startswith('mov'):
            ends = [
                entry.pos + entry.size
                for stream in container.streams
                for entry in stream.index_entries
            ]
            if max(ends, default=0) > path.stat().st_size:
                raise Rejected('damaged', 'it is cut off')
        elif container.duration:
            end = max(
                float((packet.pts + (packet.duration or 0)) * packet.time_base)
                for packet in container.demux()
                if packet.pts is not None
            )
            if end < container.duration / 1e6 - _CUT_OFF:
                raise Rejected('damaged', f'it is cut off at {end:.2f} s')


def _transcode(
    path: pathlib.Path, info: reader.MediaInfo, decoded: bool, scratch: pathlib.Path
) -> Stored:
    short_side = min(info.width, info.height)
    scale = min(1, (DECODED_SIDE if decoded else SHORT_SIDE) / short_side)
    sides = (short_side, short_side) if decoded else (info.width, info.height)
    width, height = (max(2, 2 * round(scale * side / 2)) for side in sides)
    target = scratch / f'{uuid.uuid4().hex}.mp4'  # unique on all machines that share the folder
    frames = 0
    with MediaWriter(
        target,
        width=width,
        height=height,
        frame_rate=FRAME_RATE,
        sample_rate=SAMPLE_RATE if info.has_audio else None,
        codec=_MPEG2 if decoded else _H264,
        audio_bit_rate=None if decoded else _AUDIO_BIT_RATE,
    ) as writer:
        for clip, valid in reader.read_windows(path, _spec(width, height)):
            audio = clip.audio[: valid * SAMPLE_RATE // FRAME_RATE] if info.has_audio else None
            writer.write(clip.video[:valid], audio)
            frames += valid
    try:
        return Stored(target.read_bytes(), frames / FRAME_RATE, info.has_audio)
    finally:
        target.unlink()


def _spec(width: int, height: int) -> ClipSpec:
    return ClipSpec(
        frames=FRAME_RATE,
        width=width,
        height=height,
        frame_rate=FRAME_RATE,
        sample_rate=SAMPLE_RATE,
    )
