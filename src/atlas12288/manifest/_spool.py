# SPDX-License-Identifier: Apache-2.0
"""Keep records in the order in which they come: in memory if they are few, else in a file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Generic, TypeVar

from .._files import FileError

_Record = TypeVar("_Record", bound="tuple[bytes, ...]")

_MEMORY_BYTES: Final = 1 << 23
_TUPLE_BYTES: Final = 256  # about what a record takes beside the bytes in it
_COUNT: Final = struct.Struct("=B")  # of fields
_LENGTH: Final = struct.Struct("=I")  # of a field


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

    def close(self) -> None:
        """Drop all records."""
        self._waiting.clear()
        if self._file is not None:
            self._file.close()

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._file is not None

    def add(self, record: _Record) -> None:
        """Add a record, whose fields are bytes."""
        self._waiting.append(record)
        self._bytes += _TUPLE_BYTES + sum(map(len, record))
        if self._bytes > _MEMORY_BYTES:
            self._flush()

    def _flush(self) -> None:
        import tempfile  # here: it takes as long as a hundred files

        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
            self._file.seek(0, 2)
            for record in self._waiting:
                self._file.write(_COUNT.pack(len(record)))
                for field in record:
                    self._file.write(_LENGTH.pack(len(field)))
                    self._file.write(field)
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
            while count := file.read(_COUNT.size):
                fields = []
                for _ in range(_COUNT.unpack(count)[0]):
                    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
                    fields.append(file.read(length))
                    if len(fields[-1]) < length:
                        raise FileError("the temporary file is damaged")
                yield self._make(*fields)
        except (OSError, struct.error) as error:
            raise FileError(f"the temporary file cannot be used: {error}") from error
