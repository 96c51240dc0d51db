# SPDX-License-Identifier: Apache-2.0
"""Arrays of an .npz file: a ZIP archive of .npy members, each read as a stream.

Only stored and deflated members are read, as NumPy writes them. `zipfile` reads nothing but the
directory of the archive: it bounds neither its other decompressors nor overlapping members, and it
has one file position for all threads.
"""

from __future__ import annotations

import errno
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ._content import CHUNK_BYTES, Chunks, How, Whole, content_of, require_numpy, witness_of
from ._dtypes import SHAPE_MOST, Form, form_of
from ._tensor_file import TensorFile, opened_regular
from ._witness import ArrayWitness

if TYPE_CHECKING:
    import numpy

    from .._types import Readable

_SUFFIX: Final = ".npy"
_MAGIC: Final = b"\x93NUMPY"
# For each version: the size of the header length field in bytes, and the encoding of the header.
_VERSIONS: Final = {(1, 0): (2, "latin-1"), (2, 0): (4, "latin-1"), (3, 0): (4, "utf-8")}
HEADER_MOST: Final = 65_536  # bytes: to parse a literal, Python takes some 200 times its size
_SIZE_MOST: Final = 2**63 - 1  # of a dimension in NumPy
DIRECTORY_MOST: Final = 2**24  # bytes, of some 100,000 members
_LOCAL_BYTES: Final = 30  # before the name of a member
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_NAME_IS_UTF8: Final = 0x800
_FLAGS_REFUSED: Final = 0x1 | 0x20 | 0x40 | 0x2000  # encrypted or patch data
_PIECE_BYTES: Final = 16_384  # of compressed data, which zlib copies each time that it stops early
# Two bits repeat the last byte 258 times: deflate cannot compress better.
DEFLATED_MOST: Final = 1032


@contextmanager
def opened(name: str) -> Iterator[TensorFile]:
    """Open an .npz file and yield its arrays.

    Raises:
        OSError: the file cannot be read.
        ValueError: not a regular file, not a ZIP archive of .npy members with distinct names, or
            the file changed before it was closed.
        ImportError: NumPy is not installed.
    """
    require_numpy(".npz files")
    with opened_regular(name) as file:
        try:
            with zipfile.ZipFile(_ForDirectory(file)) as archive:
                tensors = _unread_of(file, archive)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ValueError(f"{name}: a place in its directory is out of the file") from error
        except Exception as error:  # there is no list of what zipfile raises
            raise ValueError(f"{name}: {error}") from error
        yield TensorFile(name, tensors, None, [])


def _unread_of(file: io.FileIO, archive: zipfile.ZipFile) -> list[_Array]:
    found: dict[str, _Array] = {}
    for member in archive.infolist():
        shown = member.orig_filename
        name = shown.removesuffix(_SUFFIX)
        if member.filename != shown:
            raise ValueError(f"member {shown!r} must have no NUL in its name")
        if name == shown:
            raise ValueError(f"member {shown!r} must end in {_SUFFIX}")
        if name in found:
            raise ValueError(f"member {shown!r} is there twice")
        found[name] = _Array(file.fileno(), name, member)
    places = sorted(found.values(), key=lambda array: array.member.header_offset)
    for first, second in pairwise(places):
        first.limit = second.member.header_offset
    if places:
        places[-1].limit = archive.start_dir
    return list(found.values())


class _Array:
    """An array of an open file.

    Attributes:
        member: its entry in the directory.
        limit: where the next member begins.
    """

    __slots__ = ("_descriptor", "limit", "member", "name")

    def __init__(self, descriptor: int, name: str, member: zipfile.ZipInfo) -> None:
        self._descriptor = descriptor
        self.name = name
        self.member = member
        self.limit = 0

    @property
    def size(self) -> int:
        return self.member.file_size

    def whole(self) -> Whole | None:
        if self.size > CHUNK_BYTES:
            return None
        member = _Member(self._descriptor, self.member, self.limit)
        dtype, shape, content = _content_of(member)
        if not isinstance(content, memoryview):
            return None
        member.require_end()
        return Whole(dtype, shape, content)

    def witness(self, how: How) -> ArrayWitness:
        member = _Member(self._descriptor, self.member, self.limit)
        try:
            dtype, shape, content = _content_of(member)
        except TypeError as error:  # raised for its type; in a file this is a fault of the file
            raise ValueError(str(error)) from error
        found = witness_of(content, how)
        member.require_end()
        return ArrayWitness._made(dtype, shape, found, how)


def _content_of(member: _Member) -> tuple[str, tuple[int, ...], memoryview | Readable]:
    """Return element type and shape, and the content, which is read here if it is small."""
    import numpy

    shape, fortran, dtype = _read_header(member)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, must hold values")
    if dtype.subdtype is not None:
        raise ValueError(f"its type is {dtype}, must not have a shape of its own")
    form = form_of(dtype, "it")
    count = math.prod(shape)
    length = count * dtype.itemsize
    if length != member.left:  # before it is allocated
        raise ValueError(
            f"its elements have {member.left} bytes, must have {length} as its shape and type say"
        )
    content: memoryview | Readable
    by_columns = fortran and len(shape) > 1
    if by_columns or length <= CHUNK_BYTES:
        elements = numpy.empty(count, dtype)
        member.fill(elements.view(numpy.uint8).data if elements.nbytes else memoryview(b""))
        content = content_of(elements.reshape(shape[::-1]).T if by_columns else elements, form)
    elif form.layout == form.canonical:
        content = member
    else:
        content = Chunks(_converted(member, form))
    return form.name, shape, content


def _read_header(member: _Member) -> tuple[tuple[int, ...], bool, numpy.dtype[Any]]:
    """Read shape, Fortran order and element type."""
    start = member.read(len(_MAGIC) + 2, "the start of its form")
    version = start[-2], start[-1]
    if start[:-2] != _MAGIC:
        raise ValueError(f"it begins with {start[:-2]!r}, must begin with {_MAGIC!r}")
    if version not in _VERSIONS:
        major, minor = version
        raise ValueError(f"version of its form is {major}.{minor}, must be 1.0, 2.0 or 3.0")
    width, encoding = _VERSIONS[version]
    length = int.from_bytes(member.read(width, "the length of its header"), "little")
    if length > HEADER_MOST:
        raise ValueError(f"length of its header is {length}, must be at most {HEADER_MOST}")
    return _parsed(member.read(length, "its header"), encoding)


# Most arrays of a file share a few headers, and to parse one takes longer than to hash its array.
@lru_cache(maxsize=64)
def _parsed(header: bytes, encoding: str) -> tuple[tuple[int, ...], bool, numpy.dtype[Any]]:
    from numpy.lib import format as npy

    try:
        # NumPy has no public reader for version 3.0. The header of every version is a Python
        # literal: rewritten in ASCII, it is valid as version 2.0.
        escaped = header.decode(encoding).encode("ascii", "backslashreplace")
        file = io.BytesIO(len(escaped).to_bytes(4, "little") + escaped)
        shape, fortran, dtype = npy.read_array_header_2_0(file, max_header_size=len(escaped))
    except Exception as error:  # a literal nested too deeply raises MemoryError
        raise ValueError(f"its header is not as NumPy writes it: {error}") from error
    if len(shape) > SHAPE_MOST or not all(
        type(size) is int and 0 <= size <= _SIZE_MOST for size in shape
    ):
        text = str(shape)
        text = text if len(text) <= 80 else f"{text[:77]}..."
        rule = f"at most {SHAPE_MOST} integers in 0..{_SIZE_MOST}"
        raise ValueError(f"shape is {text}, must be {rule}")
    return shape, fortran, dtype


class _ForDirectory:
    """A file from which `zipfile` reads the directory, with a bound on the bytes read."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def read(self, count: int = -1, /) -> bytes:
        most = os.fstat(self._file.fileno()).st_size - self.tell()
        count = most if count < 0 else min(count, most)
        if count > DIRECTORY_MOST:
            raise ValueError(f"its directory has {count} bytes, must have at most {DIRECTORY_MOST}")
        return self._file.read(max(count, 0))


class _Member:
    """A member as a binary file, for any thread. Its length and checksum must agree with the
    directory.

    Attributes:
        left: number of bytes that were not read yet.
    """

    def __init__(self, descriptor: int, member: zipfile.ZipInfo, limit: int) -> None:
        self._descriptor = descriptor
        self._member = member
        self.left = member.file_size
        self._sum = zlib.crc32(b"")
        self._decompressor: zlib._Decompress | None = None
        self._input = b""
        if member.flag_bits & _FLAGS_REFUSED:
            raise ValueError(
                f"its flags are {member.flag_bits:#x}, must not mark it as encrypted or a patch"
            )
        method, packed = member.compress_type, member.compress_size
        if method == zipfile.ZIP_DEFLATED:
            self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
            most = DEFLATED_MOST * packed
        elif method == zipfile.ZIP_STORED:
            most = packed
        else:
            name = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA"}.get(method, "a method")
            raise ValueError(f"it is compressed by {name} ({method}), must be stored or deflated")
        if self.left > most:
            raise ValueError(
                f"it says that it has {self.left} bytes, must have at most {most}, "
                f"which its {packed} in the archive can be"
            )
        self._position = self._begin(limit)
        self._end = self._position + packed
        if self._end > limit:
            raise ValueError(f"it ends at byte {self._end} of the archive, must end before {limit}")

    def _begin(self, limit: int) -> int:
        """Return the offset of its data."""
        start = self._member.header_offset
        if not 0 <= start <= limit - _LOCAL_BYTES:
            raise ValueError(f"it begins at byte {start} of the archive, must begin before {limit}")
        local = os.pread(self._descriptor, _LOCAL_BYTES, start)
        if len(local) < _LOCAL_BYTES or not local.startswith(_LOCAL_MAGIC):
            raise ValueError(f"there is no member at byte {start} of the archive")
        name_bytes, extra = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
        name = os.pread(self._descriptor, name_bytes, start + _LOCAL_BYTES)
        encoding = "utf-8" if self._member.flag_bits & _NAME_IS_UTF8 else "cp437"
        found = name.decode(encoding, "replace")
        if found != self._member.orig_filename:
            raise ValueError(
                f"its own header has the name {found!r}, must be the name in the directory"
            )
        return start + _LOCAL_BYTES + name_bytes + extra

    def readinto(self, buffer: memoryview, /) -> int:
        wanted = min(len(buffer), self.left)
        if wanted == 0:
            return 0
        data = self._some(min(wanted, CHUNK_BYTES))
        if not data:
            raise ValueError(f"it ended {self.left} bytes before its end")
        buffer[: len(data)] = data
        self.left -= len(data)
        self._sum = zlib.crc32(data, self._sum)
        return len(data)

    def _some(self, most: int) -> bytes:
        """Return some bytes of the member, none at its end."""
        if self._decompressor is None:
            return self._packed(most)
        while not self._decompressor.eof:
            self._input = self._input or self._packed(_PIECE_BYTES)
            is_last = not self._input
            try:
                data = self._decompressor.decompress(self._input, most)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            self._input = self._decompressor.unconsumed_tail
            if data or is_last:
                return data
        return b""

    def _packed(self, most: int) -> bytes:
        data = os.pread(self._descriptor, min(most, self._end - self._position), self._position)
        self._position += len(data)
        return data

    def fill(self, buffer: memoryview) -> None:
        """Fill a buffer completely."""
        filled = 0
        while filled < len(buffer):
            count = self.readinto(buffer[filled : filled + CHUNK_BYTES])
            if count == 0:
                raise ValueError(f"it ended after {filled} bytes, must have {len(buffer)}")
            filled += count

    def read(self, count: int, what: str) -> bytes:
        """Return the next `count` bytes, which must be few; the message calls them `what`."""
        if count > self.left:
            raise ValueError(f"{what} ended after {self.left} bytes, must have {count}")
        data = bytearray(count)
        self.fill(memoryview(data))
        return bytes(data)

    def require_end(self) -> None:
        """Raise ValueError if the member is longer than stated or its checksum differs."""
        if self.left > 0 or self._some(1) or self._position < self._end:
            raise ValueError(f"it continues after its {self._member.file_size} bytes")
        if self._sum != self._member.CRC:
            raise ValueError(f"its CRC-32 is {self._sum:08x}, must be {self._member.CRC:08x}")


def _converted(member: _Member, form: Form) -> Iterator[memoryview]:
    import numpy

    size = form.layout.itemsize
    if form.canonical.itemsize == 0:
        while member.left:  # only padding, which the checksum covers
            member.fill(memoryview(bytearray(min(member.left, CHUNK_BYTES))))
        return
    if size > CHUNK_BYTES:
        raise ValueError(
            f"an element has {size} bytes, must have at most {CHUNK_BYTES} if it is big-endian "
            "or padded"
        )
    buffer = memoryview(bytearray(min(CHUNK_BYTES // size * size, member.left)))
    while member.left:
        part = buffer[: min(len(buffer), member.left)]
        member.fill(part)
        elements = numpy.frombuffer(part, form.layout).astype(form.canonical)
        yield elements.view(numpy.uint8).data
