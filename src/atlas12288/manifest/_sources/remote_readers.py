# SPDX-License-Identifier: Apache-2.0
"""Open files of remote storage: by ranges, which several threads ask for at once, or as one stream.

Both ask for one byte after the last that was listed, with the request that is made anyway.
"""

from __future__ import annotations

from threading import Condition
from time import sleep, time_ns
from typing import Final

from ..._files import CHANGED, FileError
from .source import Found, Reader
from .storages import NO_PARTS, ByteStream, Storage

# Like `store.RACY_NS`, for times in seconds (the coarsest are on FAT), and for the longest clock
# tick of systems that give fractions of a second.
_TICK_NS: Final = 2 * 10**9
_FINE_TICK_NS: Final = 20 * 10**6
_NS_PER_S: Final = 10**9


class RangeReader(Reader):
    """An open file that is read in ranges; see `Reader`. Nothing is kept open for it."""

    def __init__(self, storage: Storage, name: str, found: Found) -> None:
        self._storage = storage
        self._name = name
        self._found = found
        self._settled = False

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset` on, by one request. See `Reader.read_into`."""
        size = self._found.size
        count = min(len(buffer), size - offset)
        if count <= 0 and (size or offset):
            return 0
        self._settle()
        more = offset + count == size
        try:
            if size == 0:
                data = self._storage.read_empty(self._name, self._found)
            else:
                data = self._storage.read(self._name, offset, offset + count + more, self._found)
        except FileError:
            self.finish()  # that the file changed says more than that a range is missing
            raise
        if len(data) != count:
            self.finish()
            if len(data) == count + 1 and more:
                raise FileError(_more(size))
            if len(data) > count:
                raise FileError(NO_PARTS)
            raise FileError(f"gave {len(data)} bytes of {count} from byte {offset} on")
        buffer[:count] = data
        return count

    def _settle(self) -> None:
        """Wait until the clock tick in which the file was written has ended: a second write in it
        would have the same time. Needed if several requests must see the same content."""
        written = None if self._settled else self._storage.written_ns(self._found)
        if written is not None:
            tick = _FINE_TICK_NS if written % _NS_PER_S else _TICK_NS
            left = written + tick - time_ns()
            if left > 0:
                sleep(min(left, tick) / _NS_PER_S)
        self._settled = True

    def finish(self) -> None:
        """Check the file after it was read to its listed end. See `Reader.finish`."""
        self._storage.check(self._name, self._found)


class StreamReader(Reader):
    """An open file that is read as one stream; see `Reader`. Threads that ask for later parts wait
    until those before are read."""

    def __init__(self, storage: Storage, name: str, found: Found) -> None:
        self._storage = storage
        self._name = name
        self._found = found
        self._turn = Condition()
        self._stream: ByteStream | None = None
        self._position = 0
        self._error: FileError | None = None

    def begin(self, offset: int) -> None:
        """Set where the first read will be, if not at the beginning. See `Reader`."""
        self._position = offset

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset` on. See `Reader.read_into`."""
        size = self._found.size
        count = min(len(buffer), size - offset)
        if count <= 0 and (size or offset):
            return 0
        with self._turn:
            self._turn.wait_for(lambda: self._position >= offset or self._error is not None)
            try:
                if self._error is not None:
                    raise self._error
                self._read(offset, buffer[:count])
            except FileError as error:
                self._error = error
                raise
            except BaseException:
                self._error = FileError("is not read: another part of it could not be")
                raise
            finally:
                self._turn.notify_all()
        return count

    def _read(self, offset: int, buffer: memoryview) -> None:
        if offset != self._position:
            raise ValueError(f"offset is {offset}, must be {self._position}: it is one stream")
        if self._stream is None:
            self._stream = self._storage.open_stream(self._name, offset, self._found)
        data = self._stream.read(len(buffer))
        if len(data) != len(buffer):
            raise FileError(CHANGED)
        buffer[:] = data
        self._position += len(data)
        if self._position == self._found.size:
            if self._stream.read(1):
                raise FileError(_more(self._found.size))
            self._end()

    def finish(self) -> None:
        """Check the file after it was read to its listed end. See `Reader.finish`."""
        with self._turn:
            self._end()  # the check of the file may need its connection
        self._storage.check(self._name, self._found)

    def close(self) -> None:
        """Close the stream if it was not read to its end."""
        with self._turn:
            self._error = self._error or FileError("is closed")
            self._end()
            self._turn.notify_all()

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _more(size: int) -> str:
    return f"{CHANGED}: it had {size} bytes, and there are more"
