# SPDX-License-Identifier: Apache-2.0
"""Files as a source of chunks in constant memory.

Files are read, not mapped: a mapped file that another process shortens kills the reader.
"""

import errno
import io
import os
import stat
import sys
import typing
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Self
from unicodedata import category, is_normalized

from ._native import WINDOW_BYTES
from ._parallel import ring
from ._types import Readable

STDIN = "-"
# 64 windows: small enough for a second-level cache, large enough to make system calls negligible.
# A whole number of windows, so that a window never spans two chunks.
CHUNK_BYTES = 64 * WINDOW_BYTES

_KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISCHR, "is a character device"),
    (stat.S_ISBLK, "is a block device"),
    (stat.S_ISSOCK, "is a socket"),
)
CHANGED = "changed while it was read"


def shown(name: str) -> str:
    r"""Return a file name for people: one line, and no two names look the same.

    Args:
        name: a name as Python represents it, with lone surrogates for bytes that are not UTF-8.

    Returns:
        The name, with a backslash as `\\`, a byte that is not UTF-8 as `\xNN`, and other characters
        that cannot be printed as in Python's string literals. If the name is not in Unicode's form
        NFC, the characters that make it differ are escaped too: a letter and a separate accent
        look like the accented letter.
    """
    composed = is_normalized("NFC", name)

    def escape(character: str) -> str:
        if character == "\\":
            return "\\\\"
        if character.isprintable() and (composed or _stands_alone(character)):
            return character
        if 0xDC80 <= ord(character) <= 0xDCFF:  # PEP 383
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character.encode("unicode_escape").decode("ascii")

    return "".join(map(escape, name))


def _stands_alone(character: str) -> bool:
    """Return whether NFC neither replaces the character nor joins it to the one before."""
    # NFC only joins marks and Hangul vowels and finals with the character before them.
    joins = category(character).startswith("M") or "\u1160" <= character <= "\u11ff"
    return not joins and is_normalized("NFC", character)


class FileError(Exception):
    """A file could not be read or written as a whole.

    It has no code in the contract, so it is not an `AtlasError`.

    Attributes:
        reason: the reason, without the name of the file.
        name: the file; None if the caller adds the name.
        argument: the argument that named the file; None if none did.
    """

    def __init__(self, reason: str, name: str | None = None, argument: str | None = None) -> None:
        super().__init__(reason, name, argument)
        self.reason = reason
        self.name = name
        self.argument = argument

    def __str__(self) -> str:
        if self.name is None:
            return self.reason
        name = shown(self.name)
        if self.argument is not None:
            name = f"{self.argument} is '{name}'"
        return f"{name}: {self.reason}"


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn operating system errors about a file into FileError."""
    try:
        yield
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error
    except (ValueError, RuntimeError) as error:  # a name with a NUL, a loop of links
        raise FileError(str(error)) from error


@contextmanager
def naming(argument: str, value: str | os.PathLike[str]) -> Iterator[None]:
    """Prefix each FileError with the argument and its value."""
    try:
        yield
    except FileError as error:
        raise FileError(str(error), os.fspath(value), argument) from error


def require_regular(mode: int) -> None:
    """Raise FileError unless `mode`, an st_mode, says that the file is regular."""
    if stat.S_ISREG(mode):  # by far the most common
        return
    for is_kind, text in _KINDS:
        if is_kind(mode):
            raise FileError(f"{text}, must be a regular file")


def require_unchanged(file: io.FileIO, before: os.stat_result) -> None:
    """Raise FileError if an open file has changed since its status was `before`."""
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileError(CHANGED)


def read_at(descriptor: int, offset: int, buffer: memoryview) -> int:
    """Fill the buffer from `offset` on, and return the number of bytes read.

    They are fewer than the buffer holds only at the end of the file. Several threads may read at
    once.

    Raises:
        OSError: it cannot be read.
    """
    filled = 0
    while filled < len(buffer):
        count = os.preadv(descriptor, (buffer[filled:],), offset + filled)
        if count == 0:
            break
        filled += count
    return filled


def grown(size: int) -> FileError:
    """Return the error for a file that holds more than the `size` bytes that it had."""
    return FileError(f"{CHANGED}: it had {size} bytes, and there are more")


def shortened(size: int, end: int) -> FileError:
    """Return the error for a file that ends before the `size` bytes that it had."""
    return FileError(f"{CHANGED}: it had {size} bytes, and ended after {end}")


def is_pipe(status: os.stat_result) -> bool:
    """Return whether a file is a process's pipe, such as `<(command)` and `/dev/stdin` in a shell.

    A named FIFO in a folder is not: anybody may have created it, and opening it may hang.
    """
    if not stat.S_ISFIFO(status.st_mode):
        return False
    ends = os.pipe()
    try:
        return os.fstat(ends[0]).st_dev == status.st_dev
    finally:
        for end in ends:
            os.close(end)


def open_regular(
    name: str | bytes, *, folder: int | None = None, follow: bool = True, or_pipe: bool = False
) -> io.FileIO:
    """Return a regular file, open for reading.

    Args:
        name: its path.
        folder: the descriptor of the folder that the path is relative to; None for the current one.
        follow: follow a symbolic link.
        or_pipe: also accept a pipe.

    Raises:
        OSError: it cannot be opened.
        FileError: it is not a regular file.
    """
    # O_NONBLOCK: to open a FIFO without a writer would hang.
    more = os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    # Judged before it is opened, because opening a device can act on it, and again after, because
    # the name may by then be another file.
    status = os.stat(name, dir_fd=folder, follow_symlinks=follow)
    if stat.S_ISLNK(status.st_mode):
        raise FileError("is a symbolic link, which is not followed")
    _require_readable(status, or_pipe)
    file = io.FileIO(
        name, "rb", opener=lambda path, flags: os.open(path, flags | more, dir_fd=folder)
    )
    try:
        _require_readable(os.fstat(file.fileno()), or_pipe)
        os.set_blocking(file.fileno(), True)
    except BaseException:
        file.close()
        raise
    return file


def _require_readable(status: os.stat_result, or_pipe: bool) -> None:
    if not (or_pipe and is_pipe(status)):
        require_regular(status.st_mode)


def _open_stdin() -> io.FileIO:
    if sys.stdin is None:
        raise FileError("standard input is closed")
    return io.FileIO(sys.stdin.fileno(), "rb", closefd=False)


def _fill(file: io.FileIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends; a pipe returns a few KiB at a time."""
    filled = 0
    while filled < len(buffer):
        # None: a pipe that another process made non-blocking, and that has nothing to read now.
        count = file.readinto(buffer[filled:])
        if count is None:
            raise FileError(os.strerror(errno.EAGAIN))
        if count == 0:
            break
        filled += count
    return filled


def read_chunks(
    name: str,
    advance: Callable[[int], None] | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    buffers: int = 1,
    or_pipe: bool = False,
    opened: Callable[[os.stat_result], object] | None = None,
) -> Generator[memoryview, None, None]:
    """Yield the bytes of a file, chunk by chunk, in constant memory.

    Args:
        name: a path, or `-` for standard input. A path must be a regular file.
        advance: called with the number of bytes after each chunk.
        chunk_bytes: the size of each chunk except the last one, which may be shorter.
        buffers: a chunk is valid until this many later ones are taken.
        or_pipe: also accept the path of a pipe, for lists and other files that are read once. A
            witnessed file must be readable again.
        opened: called with the status of the open file, before the first chunk.

    Yields:
        The chunks, in order.

    Raises:
        FileError: not a regular file, not readable, or changed while it was read.
    """
    with (
        file_errors(),
        _open_stdin() if name == STDIN else open_regular(name, or_pipe=or_pipe) as file,
    ):
        before = os.fstat(file.fileno())
        if opened is not None:
            opened(before)
        # Standard input may start anywhere in its file, or be a pipe: its size says nothing.
        is_whole = name != STDIN and stat.S_ISREG(before.st_mode)
        size = before.st_size if is_whole else None
        total = 0
        if size is not None:
            chunk_bytes = min(chunk_bytes, size + 1)  # one more, to see that it has grown
        for buffer in ring(chunk_bytes, buffers):
            count = _fill(file, buffer)
            if count == 0:
                break
            total += count
            if size is not None and total > size:
                raise grown(size)
            yield buffer[:count]
            if advance is not None:
                advance(count)
            if count < len(buffer):
                break  # the end; a second buffer to confirm it would cost more than the read
        if size is not None and total < size:
            raise shortened(size, total)
        if stat.S_ISREG(before.st_mode):
            require_unchanged(file, before)


def source_chunks(
    source: str | os.PathLike[str] | Readable, *, chunk_bytes: int = CHUNK_BYTES, buffers: int = 1
) -> Generator[memoryview, None, None]:
    """Return the bytes of a path or binary file, chunk by chunk, in constant memory.

    Args:
        source: the path of a regular file, or a binary file, which is read from its current
            position to its end and stays open.
        chunk_bytes, buffers: as for `read_chunks`.

    Returns:
        The chunks, in order. Taking one raises FileError with the path, as `read_chunks` does; the
        binary file's own errors; BlockingIOError if it does not block and had no bytes.

    Raises:
        TypeError: `source` is neither a path nor a binary file.
        ValueError: `source` is a URL, or a closed file.
    """
    name = named_path(source)
    if name is None:
        return _file_chunks(typing.cast(Readable, source), chunk_bytes, buffers)
    return _path_chunks(name, chunk_bytes, buffers)


def named_path(source: object) -> str | None:
    """Return the path that a source is; None for a binary file.

    Raises:
        TypeError, ValueError: as `source_chunks`.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if isinstance(name, str):
            if "://" in name and not os.path.lexists(name):
                raise ValueError(
                    f"source is {name!r}, must be a path or a binary file; Manifest.generate() "
                    "takes URLs"
                )
            return name
    elif isinstance(source, io.TextIOBase):
        raise TypeError(f"source is {source!r}, a text file, must be binary, opened with mode 'rb'")
    elif hasattr(source, "readinto"):
        if getattr(source, "closed", False):
            raise ValueError(f"source is {source!r}, a closed file, must be open")
        return None
    raise TypeError(
        f"source is of type {type(source).__name__}, must be a path (str or os.PathLike[str]) or a "
        "binary file; generate() takes buffers"
    )


def _path_chunks(name: str, chunk_bytes: int, buffers: int) -> Generator[memoryview, None, None]:
    path = name if name != STDIN else f"./{name}"  # for Python a file like others
    with naming("source", name):
        yield from read_chunks(path, chunk_bytes=chunk_bytes, buffers=buffers)


def _file_chunks(
    file: Readable, chunk_bytes: int, buffers: int
) -> Generator[memoryview, None, None]:
    for buffer in ring(chunk_bytes, buffers):
        filled = 0
        while filled < chunk_bytes:
            count = file.readinto(buffer[filled:])
            if count is None:
                raise BlockingIOError(errno.EAGAIN, "the file had no bytes, must block")
            if count == 0:
                break
            filled += count
        if filled > 0:
            yield buffer[:filled]
        if filled < chunk_bytes:
            return


class RegularFile:
    """A regular file, read at any offset; a context manager that closes it.

    Args:
        name: its path.
        folder, follow: as for `open_regular`.

    Attributes:
        name: as above.
        status: its status when it was opened.
        size: its size then, in bytes.

    Raises:
        FileError: not a regular file, or not readable; also from `read`.
    """

    def __init__(self, name: str, *, folder: int | None = None, follow: bool = True) -> None:
        self.name = name
        with file_errors():
            self._file = open_regular(name, folder=folder, follow=follow)
            self.status = os.fstat(self._file.fileno())
            self.size = self.status.st_size

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes of the file in order, in chunks."""
        offset = 0
        while part := self.read(offset, CHUNK_BYTES):
            yield part
            offset += len(part)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer from `start` on. Several threads may read at once.

        Raises:
            FileError: it cannot be read, or ends before.
        """
        with file_errors():
            filled = read_at(self._file.fileno(), start, buffer)
        if filled < len(buffer):
            raise shortened(self.size, start + filled)

    def finish(self) -> None:
        """Raise FileError if the file is not as it was when it was opened."""
        with file_errors():
            if os.pread(self._file.fileno(), 1, self.size):
                raise grown(self.size)
            end = os.fstat(self._file.fileno()).st_size
            if end < self.size:
                raise shortened(self.size, end)
            require_unchanged(self._file, self.status)

    def read(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start`, or fewer at the end of the file."""
        data = bytearray()
        with file_errors():
            while part := os.pread(self._file.fileno(), count - len(data), start + len(data)):
                data += part
        return bytes(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def expected_bytes(names: list[str]) -> int | None:
    """Return the total size of the files in bytes; None if it cannot be known beforehand."""
    total = 0
    for name in names:
        if name == STDIN:
            return None
        with suppress(OSError, ValueError):  # reading it will report it
            status = os.stat(name)  # noqa: PTH116 - pathlib takes 4 ms to import
            if stat.S_ISREG(status.st_mode):
                total += status.st_size
    return total


def require_writable(name: str, inputs: list[str]) -> None:
    """Refuse an output file that could not be written, before any work is done.

    Args:
        name: the file to be written.
        inputs: files that are read; none of them may be replaced.

    Raises:
        FileError: not a regular file, one of the inputs, or in a folder that cannot be written.
    """
    from pathlib import Path  # here: many runs write no file

    with file_errors():
        target = Path(name).resolve()
        if not target.parent.is_dir():
            raise FileError(f"the folder {shown(str(target.parent))} does not exist")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise FileError(f"the folder {shown(str(target.parent))} is not writable")
        if target.is_symlink():  # from Python 3.13 on, resolve() does not report a loop
            raise FileError(os.strerror(errno.ELOOP))
        if not target.exists():
            return
        if not target.is_file():
            raise FileError("is not a regular file, and is not replaced")
        for source in map(Path, inputs):
            if str(source) != STDIN and source.exists() and source.samefile(target):
                raise FileError("is also read, and is not replaced")
