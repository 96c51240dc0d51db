# SPDX-License-Identifier: Apache-2.0
"""A source that is read no faster than a rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Final

from .selection import Selection
from .source import Found, Problem, Reader, Source

# Also where a signal does not interrupt a sleep, Ctrl-C has to wait no longer than this.
_STEP_S: Final = 0.1


class Pace:
    """Sleeps as long as bytes take at a rate.

    Args:
        rate: bytes in a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._until = monotonic()

    def read(self, size: int) -> None:
        """Return when so many bytes more, which were read, would have come at the rate."""
        self._until = max(self._until, monotonic()) + size / self._rate
        while (left := self._until - monotonic()) > 0:
            sleep(min(left, _STEP_S))


class RatedSource(Source):
    """Another source, read by one thread and no faster than a rate on average.

    Args:
        source: the source.
        rate: bytes in a second. A block of 3 MiB is read at once.
    """

    def __init__(self, source: Source, rate: float) -> None:
        self._source = source
        self._pace = Pace(rate)

    @property
    def readers(self) -> int:
        """One reader: several would not be faster."""
        return 1

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self._source.name

    def is_stream(self, found: Found) -> bool:
        """See `Source.is_stream`."""
        return self._source.is_stream(found)

    def list(self, selection: Selection, problem: Problem) -> Iterator[Found]:
        """List without a limit: the rate is of the bytes of files. See `Source.list`."""
        return self._source.list(selection, problem)

    @contextmanager
    def open(self, found: Found) -> Iterator[Reader]:
        """See `Source.open`."""
        with self._source.open(found) as reader:
            yield _RatedReader(reader, self._pace)

    def read_files(self, founds: Sequence[Found], buffer: memoryview) -> bytes:
        """See `Source.read_files`."""
        read = self._source.read_files(founds, buffer)
        self._pace.read(sum(found.size for found, done in zip(founds, read, strict=True) if done))
        return read

    def read_small(self, path: bytes) -> bytes | None:
        """See `Source.read_small`."""
        return self._source.read_small(path)


class _RatedReader(Reader):
    def __init__(self, reader: Reader, pace: Pace) -> None:
        self._reader = reader
        self._pace = pace

    def begin(self, offset: int) -> None:
        self._reader.begin(offset)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        count = self._reader.read_into(offset, buffer)
        self._pace.read(count)
        return count

    def finish(self) -> None:
        self._reader.finish()
