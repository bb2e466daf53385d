"""Whether a TensorBoard event file is whole, without decoding its pictures.

A record is its length (8 bytes, little endian), the length's masked CRC-32C (4), the data, and the data's (4).
"""

from __future__ import annotations

import struct
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

__all__ = ["damage"]

SMALL = (
    1024  # bytes of data up to which a record is read: scalars. Pictures are larger, and checked by their framing.
)


def damage(path: Path) -> tuple[str, int | None]:
    """What is wrong with an event file, or "", and the step of the last scalar before that."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error}", None
    position, last = 0, None
    while position < len(content):
        header = content[position : position + 8]
        start = position + 12
        if len(content) < start:
            return f"is cut off after {len(content)} bytes", last
        if _crc(content, position + 8) != masked_crc32c(header):
            return f"has a damaged record at byte {position}", last
        (length,) = struct.unpack("<Q", header)
        if len(content) < start + length + 4:
            return f"is cut off after {len(content)} bytes", last
        if length <= SMALL:
            data = content[start : start + length]
            if _crc(content, start + length) != masked_crc32c(data):
                return f"has a damaged record at byte {position}", last
            event = Event.FromString(data)
            if event.HasField("summary") and any(value.HasField("simple_value") for value in event.summary.value):
                last = event.step
        position = start + length + 4
    return "", last


def _crc(content: bytes, position: int) -> int:
    return struct.unpack_from("<I", content, position)[0]
