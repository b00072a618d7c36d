"""Reads the event files of TensorBoard."""

import pathlib
import struct
from typing import Any

from tensorboardX.proto.event_pb2 import Event


def events(folder: pathlib.Path) -> dict[str, list[tuple[int, Any]]]:
    """The values in the event files of a folder: {tag: [(step, value)]}."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted(folder.glob('events.*')):
        data, place = path.read_bytes(), 0
        while place < len(data):  # a record: length, its checksum, content, its checksum
            (length,) = struct.unpack_from('<Q', data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found
