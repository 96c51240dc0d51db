# SPDX-License-Identifier: Apache-2.0
"""Arrays of an .npz file: a ZIP archive of .npy members, each read as it passes by."""

from __future__ import annotations

import errno
import io
import lzma
import math
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, Any, Final

from ._content import CHUNK_BYTES, Chunks, How, content_of, require_numpy, witness_of
from ._dtypes import Form, form_of
from ._source import Source, TensorFile, opened_regular
from ._witness import ArrayWitness

if TYPE_CHECKING:
    import numpy

    from .._types import Readable

_SUFFIX: Final = ".npy"
_LENGTH_BYTES: Final = 4  # of a header of version 3.0
_HEADER_MOST: Final = 10_000  # bytes; NumPy refuses more for the other versions
# What zipfile, its decompressors and NumPy's reader of headers raise where bytes are wrong.
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, RuntimeError, SyntaxError, TypeError, ValueError, TokenError),
)


@contextmanager
def opened(name: str) -> Iterator[TensorFile]:
    """The arrays of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: not a regular file, no ZIP archive of differently named .npy members, or it
            changed until it was closed.
        ImportError: NumPy is not installed.
    """
    require_numpy(".npz files")
    with opened_regular(name) as file:
        try:
            archive = zipfile.ZipFile(_EachThreads(file))
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error
        with archive:
            yield TensorFile(name, _sources_of(name, archive), None, [])


def _sources_of(file_name: str, archive: zipfile.ZipFile) -> list[Source]:
    found: dict[str, Source] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(_SUFFIX)
        if name == member.filename:
            raise ValueError(f"{file_name}: member {name!r} must end in {_SUFFIX}")
        if name in found:
            raise ValueError(f"{file_name}: member {member.filename!r} is there twice")
        found[name] = _source_of(archive, member, name)
    return list(found.values())


def _source_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Source:
    def witness(how: How) -> ArrayWitness:
        try:
            with archive.open(member) as file:
                return _witness_of(file, member.file_size, how)
        except _DAMAGE as error:
            raise ValueError(str(error)) from error

    return Source(name, witness)


def _witness_of(file: IO[bytes], size: int, how: How) -> ArrayWitness:
    import numpy

    shape, fortran, dtype = _read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, must hold values")
    form = form_of(dtype, "it")
    count = math.prod(shape)
    length = count * dtype.itemsize
    if length > size:  # before it is allocated
        raise ValueError(f"it has {size} bytes, must have {length} for its shape")
    member = _Member(file, length)
    if fortran and len(shape) > 1:
        elements = numpy.empty(count, dtype)
        member.fill(elements.view(numpy.uint8).data if elements.nbytes else memoryview(b""))
        content: memoryview | Readable = content_of(elements.reshape(shape[::-1]).T, form)
    elif form.layout == form.canonical:
        content = member
    else:
        content = Chunks(_converted(member, form))
    found = witness_of(content, how)
    member.require_end()
    return ArrayWitness._made(form.name, shape, found)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, numpy.dtype[Any]]:
    """Shape, Fortran order, and type of the elements."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(file)
    elif version == (3, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(_in_ascii(file))
    else:
        major, minor = version
        raise ValueError(f"version of its form is {major}.{minor}, must be 1.0, 2.0 or 3.0")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape is {shape}, must have no negative size")
    return shape, fortran, dtype


def _in_ascii(file: IO[bytes]) -> IO[bytes]:
    """A header of version 3.0, which NumPy reads in private only, as one of 2.0: that is Latin-1
    in place of UTF-8, and both are a Python literal, which can be written in ASCII."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > _HEADER_MOST:
        raise ValueError(f"length of its header is {length}, must be at most {_HEADER_MOST}")
    header = file.read(length)
    if len(header) != length:
        raise ValueError(f"its header ended after {len(header)} bytes, must have {length}")
    escaped = header.decode().encode("ascii", "backslashreplace")
    return io.BytesIO(len(escaped).to_bytes(_LENGTH_BYTES, "little") + escaped)


class _EachThreads:
    """A file with a position for each thread.

    Members of a `zipfile.ZipFile` are read by several threads at once. That of CPython 3.12 and
    3.13 before the fix of CPython's issue 127847 moves on from where the file is, even if another
    thread read last, and calls an intact member damaged.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._descriptor = file.fileno()
        self._here = threading.local()

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        place: int = getattr(self._here, "place", 0)
        return place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_CUR:
            offset += self.tell()
        elif whence == os.SEEK_END:
            offset += os.fstat(self._descriptor).st_size
        if offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._here.place = offset
        return offset

    def read(self, count: int | None = -1, /) -> bytes:
        if count is None or count < 0:
            count = max(os.fstat(self._descriptor).st_size - self.tell(), 0)
        data = os.pread(self._descriptor, count, self.tell())
        self._here.place = self.tell() + len(data)
        return data


class _Member:
    """A binary file over the elements of a member, which must end with them."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file = file
        self._length = length
        self._left = length

    def readinto(self, buffer: memoryview, /) -> int:
        wanted = buffer[: self._left]
        data = self._file.read(len(wanted))
        if wanted and not data:
            done = self._length - self._left
            raise ValueError(f"it ended after {done} bytes, must have {self._length}")
        wanted[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def fill(self, buffer: memoryview) -> None:
        filled = 0
        while filled < len(buffer):
            filled += self.readinto(buffer[filled : filled + CHUNK_BYTES])

    def require_end(self) -> None:
        """Also has zipfile compare the checksum, which it does when it sees the end."""
        if self._file.read(1):
            raise ValueError(f"it has more than {self._length} bytes, must end with them")


def _converted(member: _Member, form: Form) -> Iterator[memoryview]:
    import numpy

    size = form.layout.itemsize
    if size == 0:
        return
    buffer = memoryview(bytearray(max(1, CHUNK_BYTES // size) * size))
    while True:
        filled = 0
        while filled < len(buffer) and (count := member.readinto(buffer[filled:])):
            filled += count
        if filled == 0:
            return
        elements = numpy.frombuffer(buffer[:filled], form.layout).astype(form.canonical)
        yield elements.view(numpy.uint8).data
