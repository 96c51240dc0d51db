# SPDX-License-Identifier: Apache-2.0
"""Keep records in the order in which they come: in memory if they are few, else in a file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import BinaryIO, Final, Generic, TypeVar

from .._files import FileError

_Record = TypeVar("_Record", bound="tuple[bytes, ...]")

_MEMORY_BYTES: Final = 1 << 23
_TUPLE_BYTES: Final = 256  # about what a record takes beside the bytes in it


class Spool(Generic[_Record]):
    """Records in order, in little memory.

    The file has no name, so that nobody else can write to it, and is gone with the spool.

    Args:
        make: makes a record from its fields.

    Raises:
        FileError: the file cannot be used; also from all methods.
    """

    def __init__(self, make: Callable[..., _Record]) -> None:
        self._make = make
        self._waiting: list[_Record] = []  # not in the file
        self._bytes = 0  # of these
        self._file: BinaryIO | None = None
        self._lengths = struct.Struct("")  # of the fields of each record

    def close(self) -> None:
        """Drop all records."""
        self._waiting.clear()
        if self._file is not None:
            self._file.close()

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._file is not None

    def add(self, record: _Record) -> None:
        """Add a record, whose fields are bytes, as many in each."""
        self._waiting.append(record)
        self._bytes += _TUPLE_BYTES + sum(map(len, record))
        if self._bytes > _MEMORY_BYTES:
            self._flush()

    def _flush(self) -> None:
        import tempfile  # here: it takes as long as a hundred files

        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
                self._lengths = struct.Struct(f"={len(self._waiting[0])}I")
            self._file.seek(0, 2)
            for record in self._waiting:
                self._file.write(b"".join((self._lengths.pack(*map(len, record)), *record)))
            self._file.flush()
        except OSError as error:
            raise FileError(f"the temporary file cannot be used: {error.strerror}") from error
        self._waiting.clear()
        self._bytes = 0

    def __iter__(self) -> Iterator[_Record]:
        """Yield the records; none is added during the iteration."""
        if self._file is not None:
            yield from self._in_file(self._file)
        yield from self._waiting

    def _in_file(self, file: BinaryIO) -> Iterator[_Record]:
        try:
            file.seek(0)
            while head := file.read(self._lengths.size):
                lengths = self._lengths.unpack(head)
                text = file.read(sum(lengths))
                if len(text) < sum(lengths):
                    raise FileError("the temporary file is damaged")
                ends = list(accumulate(lengths, initial=0))
                yield self._make(*(text[start:end] for start, end in pairwise(ends)))
        except (OSError, struct.error) as error:
            raise FileError(f"the temporary file cannot be used: {error}") from error
