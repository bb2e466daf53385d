"""TensorBoard's event files, of which a checkpoint can say whether they are as it left them."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

__all__ = ["EventFile", "as_left", "event_files", "picture"]

PREFIX = "events.out.tfevents."


class EventFile:
    """The event file of one session of a run: `events.out.tfevents.<number>`.

    Numbers and times grow from session to session even if the clock was set back, as `clock`, the time of the last
    event so far, shows: TensorBoard reads files in the order of their names.
    (`SummaryWriter` names its files by the clock, and does not say what is on disk.)
    """

    def __init__(self, directory: Path, clock: float = 0.0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.name.removeprefix(PREFIX).split(".")[0]) for path in event_files(directory)]
        self.path = directory / f"{PREFIX}{max(numbers, default=0) + 1:010d}"
        self.clock = clock
        self._checksum, self._length = 0, 0
        self._file = self.path.open("wb")
        self._records = RecordWriter(self)
        self._add(Event(file_version="brain.Event:2"))

    def summary(self, summary: Any, step: int | None = None) -> None:
        """Append a summary protocol buffer."""
        self._add(Event(summary=summary, step=step))

    def _add(self, event: Any) -> None:
        self.clock = event.wall_time = max(time.time(), self.clock)
        self._records.write(event.SerializeToString())

    def write(self, data: bytes) -> None:
        """For RecordWriter."""
        self._file.write(data)
        self._checksum, self._length = zlib.crc32(data, self._checksum), self._length + len(data)

    def flush(self) -> None:
        """Let TensorBoard see what was logged."""
        self._file.flush()

    def on_disk(self) -> tuple[int, int]:
        """Length and checksum, all of it on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._length, self._checksum

    def close(self) -> None:
        self._file.close()


def event_files(directory: Path) -> list[Path]:
    """In the order in which they were written."""
    return sorted(path for path in directory.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX)[:1].isdigit())


def as_left(files: Mapping[str, tuple[int, int]], directory: Path) -> bool:
    """Whether each file begins with what it held, {name: (length, checksum)}; anything after that is cut off."""
    for name, (length, found) in files.items():
        try:
            content = (directory / name).read_bytes()
        except OSError:
            return False
        if len(content) < length or zlib.crc32(content[:length]) != found:
            return False
        if len(content) > length:
            os.truncate(directory / name, length)
    return True


def picture(tag: str, png: bytes) -> Any:
    """A summary with a PNG."""
    width, height = struct.unpack(">II", png[16:24])  # where every PNG states its size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=image)])
