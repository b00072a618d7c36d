"""Media files as containers of packets, over PyAV: opening, seeking and times.

Times are seconds as stored in the file, whose zero has no meaning.
"""

import contextlib
import io
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from perceiver_io.core.errors import UserError

# Demuxers that read one local file. Others read playlists, and open the addresses in them.
_FORMATS = 'mov,matroska,avi,mpeg,mpegts,asf,flv,ogg,wav,mp3,flac,aac'
_EXACT_SEEKS = ('mov,mp4,m4a,3gp,3g2,mj2', 'matroska,webm')
_FAR = 1e9  # seconds: after the end of any file

Media: TypeAlias = str | os.PathLike[str] | bytes  # the path of a local file, or its content
Kind: TypeAlias = Literal['video', 'audio']


class UnreadableMedia(UserError):
    """A file or a part of it cannot be read. The message is the reason, without the path."""


@contextlib.contextmanager
def open_media(media: Media) -> Iterator[InputContainer]:
    """Opens a container and closes it at the end; FFmpeg's errors become UnreadableMedia.

    Only the local file of exactly this name is opened, or these bytes, whatever is in them.
    """
    file: str | io.BytesIO
    if isinstance(media, bytes):
        size, file, protocol = len(media), io.BytesIO(media), 'none'
    else:
        if not os.path.isfile(media):
            raise UnreadableMedia('there is no such file')
        # Without `file:`, a name could be taken for an address or an option.
        size, file, protocol = os.path.getsize(media), f'file:{os.fspath(media)}', 'file'
    if not size:
        raise UnreadableMedia('the file is empty')
    options = {'format_whitelist': _FORMATS, 'protocol_whitelist': protocol}
    try:
        # Texts in AVI files may be in any encoding.
        with av.open(file, 'r', options=options, metadata_errors='replace') as container:
            yield container
    except av.FFmpegError as error:
        raise UnreadableMedia(
            f'it is damaged, or its format is not supported: {error.strerror}'
        ) from error


def has_stream(container: InputContainer, kind: Kind) -> bool:
    """Whether the container has a stream of the kind that can be decoded."""
    return _main_stream(container, kind) is not None


def video_stream(container: InputContainer) -> VideoStream:
    """The main video stream; UnreadableMedia if there is none."""
    stream = _main_stream(container, 'video')
    if not isinstance(stream, VideoStream):
        raise UnreadableMedia('it has no video')
    return stream


def audio_stream(container: InputContainer) -> AudioStream:
    """The main audio stream; UnreadableMedia if there is none."""
    stream = _main_stream(container, 'audio')
    if not isinstance(stream, AudioStream):
        raise UnreadableMedia('it has no audio')
    return stream


def _main_stream(container: InputContainer, kind: Kind) -> Stream | None:
    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None:
        return None
    if stream.disposition & Disposition.attached_pic:
        return None  # the cover image of a song
    return stream


def stream_end(container: InputContainer, kind: Kind) -> float:
    """When the main stream of the kind ends, from its last packets: headers are often wrong."""
    stream: VideoStream | AudioStream
    stream = video_stream(container) if kind == 'video' else audio_stream(container)
    end, count = -math.inf, 0
    for packet in packets_from(container, stream, _FAR):
        # AVI stores a packet of at most one byte where its encoder held a frame back.
        if packet.size > 1 and packet.pts is not None and not packet.is_discard:
            count += 1
            end = max(end, float(packet.pts * unit_of(stream)) + duration(stream, packet))
    if not count:
        raise UnreadableMedia(f'its {kind} stream is empty')
    if times_are_scrambled(container, stream):
        return float(count / (stream.average_rate or 1))
    return end


def packets_from(
    container: InputContainer, stream: VideoStream | AudioStream, time: float
) -> Iterator[Packet]:
    """The stream's packets from a key frame at or before `time` on.

    All of them, in a format that does not seek exactly. The container's other streams are skipped
    from now on.
    """
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    if not seeks_exactly(container):
        yield from container.demux(stream)
        return
    unit = float(unit_of(stream))
    back = 0.0
    while True:
        container.seek(math.floor((time - back) / unit), stream=stream)
        packets = container.demux(stream)
        first = next(packets)
        # Containers list packets in decoding order: a key frame may be shown only after `time`.
        reached = first.pts is not None and first.pts * unit <= time
        if reached or time - back <= stream_start(stream):
            break
        back = 2 * back + 1
    yield first
    yield from packets


def seeks_exactly(container: InputContainer) -> bool:
    """Whether the format can be entered at a key frame of known time."""
    return container.format.name in _EXACT_SEEKS


def stream_start(stream: Stream) -> float:
    """When the stream starts, by its header."""
    return float((stream.start_time or 0) * unit_of(stream))


def times_are_scrambled(container: InputContainer, stream: Stream) -> bool:
    """Whether frames must be counted: AVI does not store their order, and FFmpeg guesses it."""
    return (
        container.format.name == 'avi'
        and isinstance(stream, VideoStream)
        and bool(stream.codec_context.has_b_frames and stream.average_rate)
    )


def duration(stream: Stream, item: Packet | av.VideoFrame) -> float:
    """Seconds that it lasts; where that is not stored, a video frame lasts the average."""
    if item.duration:
        return float(item.duration * unit_of(stream))
    rate = stream.average_rate if isinstance(stream, VideoStream) else None
    return float(1 / rate) if rate else 0.0


def unit_of(stream: Stream) -> Fraction:
    """Seconds that the stream's times count."""
    if stream.time_base is None:
        raise UnreadableMedia('one of its streams has no unit of time')
    return stream.time_base
