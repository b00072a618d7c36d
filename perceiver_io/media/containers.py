"""Media files as containers of packets, over PyAV: how they are opened, sought in and timed.

Times are seconds as stored in the file, whose zero means nothing.
"""

import contextlib
import io
import math
import os
from collections.abc import Iterator

import av
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream

from perceiver_io.core.errors import UserError

# Demuxers that read the one local file. Others include playlists, which open what they name.
_FORMATS = 'mov,matroska,avi,mpeg,mpegts,asf,flv,ogg,wav,mp3,flac,aac'
_EXACT_SEEKS = ('mov,mp4,m4a,3gp,3g2,mj2', 'matroska,webm')
_FAR = 1e9  # seconds: after the end of any file

Media = str | os.PathLike | bytes  # a local file's path, or all that is in a file


class UnreadableMedia(UserError):
    """A file or a part of it that cannot be read. The message is the reason, without the path."""


@contextlib.contextmanager
def open_media(media: Media) -> Iterator[InputContainer]:
    """The open container; it is closed at the end, and FFmpeg's errors become UnreadableMedia.

    Opens the local file of exactly this name, or these bytes, and, whatever is in it, nothing else.
    """
    if isinstance(media, bytes):
        size, file, protocol = len(media), io.BytesIO(media), 'none'
    else:
        if not os.path.isfile(media):
            raise UnreadableMedia('there is no such file')
        # Without `file:` a name can be an address or an option.
        size, file, protocol = os.path.getsize(media), f'file:{os.fspath(media)}', 'file'
    if not size:
        raise UnreadableMedia('the file is empty')
    options = {'format_whitelist': _FORMATS, 'protocol_whitelist': protocol}
    try:
        # Texts in AVI files are any bytes.
        with av.open(file, options=options, metadata_errors='replace') as container:
            yield container
    except av.FFmpegError as error:
        raise UnreadableMedia(
            f'it is damaged or of no media format read here: {error.strerror}'
        ) from error


def main_stream(container: InputContainer, kind: str) -> Stream | None:
    """The main stream of the kind, 'video' or 'audio', or None if none can be decoded."""
    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None:
        return None
    if stream.disposition & Disposition.attached_pic:
        return None  # the cover of a song
    return stream


def stream_end(container: InputContainer, kind: str) -> float:
    """When the main stream of the kind ends, from its last packets: no header can be trusted."""
    stream = main_stream(container, kind)
    end, count = -math.inf, 0
    for packet in packets_from(container, stream, _FAR):
        # AVI marks a frame that its encoder held back by a packet of at most one byte.
        if packet.size > 1 and packet.pts is not None and not packet.is_discard:
            count += 1
            end = max(end, float(packet.pts * stream.time_base) + duration(stream, packet))
    if not count:
        raise UnreadableMedia(f'its {kind} stream is empty')
    return float(count / stream.average_rate) if times_are_scrambled(container, stream) else end


def packets_from(container: InputContainer, stream: Stream, time: float) -> Iterator[av.Packet]:
    """The stream's packets from a key frame at or before `time` on; all of them in a format that
    does not seek exactly. The container's other streams are passed over from now on."""
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    if not seeks_exactly(container):
        yield from container.demux(stream)
        return
    unit = float(stream.time_base)
    back = 0.0
    while True:
        container.seek(math.floor((time - back) / unit), stream=stream)
        packets = container.demux(stream)
        first = next(packets)
        # The index is in the order of decoding: its key frame may be shown only after `time`.
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
    return float((stream.start_time or 0) * stream.time_base)


def times_are_scrambled(container: InputContainer, stream: Stream) -> bool:
    """Whether frames must be counted: AVI stores no order of showing, and FFmpeg guesses it."""
    return (
        container.format.name == 'avi'
        and stream.type == 'video'
        and bool(stream.codec_context.has_b_frames and stream.average_rate)
    )


def duration(stream: Stream, item: av.Packet | av.VideoFrame) -> float:
    """Seconds that it lasts; where that is not stored, a picture lasts as long as on average."""
    if item.duration:
        return float(item.duration * stream.time_base)
    rate = stream.average_rate if stream.type == 'video' else None
    return float(1 / rate) if rate else 0.0
