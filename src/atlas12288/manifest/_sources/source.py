# SPDX-License-Identifier: Apache-2.0
"""Sources of the files of a manifest: a folder, or any storage that lists and reads in ranges.

A source is listed once; later only the files of that list are read, so that no path of a manifest,
and no symbolic link, leads out of the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..._files import FileError
from ..._native import DIGEST_BYTES, RESULT_BYTES
from ..._subtree import window_count
from .selection import RULES_BYTES_MOST, Selection

if TYPE_CHECKING:
    from .siblings import Siblings, Wanted


class NoFileError(FileError):
    """There is nothing to witness: the source has no file, or is not a folder."""


# Before an identity in a text: a write soon after may leave the same one.
UNTRUSTED: Final = "\0"


class Found(NamedTuple):
    """A file or symbolic link of a source.

    Attributes:
        path: relative to the source, as in `Entry`.
        size: listed size of a file, in bytes.
        identity: differs when the file was replaced or changed: for a local file its modification
            time and ctime, with a space between, for an object its ETag or version.
        target: target text of a symbolic link; None for a file.
        written_ns: where the identity comes from a clock, the latest time of it in nanoseconds
            since 1970: a write soon after may leave the same identity. For a local file this may be
            its ctime, since its modification time can be set. 0 if it comes from no clock.
        exact: a part of it is read, or was, by another opening of the file: what is opened must
            have the same identity in all, so that no digest is of two contents. Otherwise what
            changes no content may change between the listing and the opening: a local file's ctime.
    """

    path: bytes
    size: int
    identity: str
    target: bytes | None = None
    written_ns: int = 0
    exact: bool = False


def same_but_ctime(before: str, now: str) -> bool:
    """Return whether two identities of a local file differ in nothing but the ctime."""
    first, second = before.split(" "), now.split(" ")
    del first[1:2], second[1:2]
    return before != now and first == second


# Of a file that is read whole although nobody has judged it: a list of rules has some lines.
SMALL_MOST_BYTES: Final = RULES_BYTES_MOST
# Of a page of a web server whose links are the files of a folder.
PAGE_MOST_BYTES: Final = 16 << 20


def require_small(content: bytes) -> bytes:
    """Return the content of a small file; at most one byte too many was read of it.

    Raises:
        FileError: it has more than `SMALL_MOST_BYTES`.
    """
    if len(content) > SMALL_MOST_BYTES:
        raise FileError(f"has more than {SMALL_MOST_BYTES:,} bytes")
    return content


# Called with a listed path that cannot be part of a manifest, and the reason.
Problem = Callable[[bytes, str], object]


class Reader(Protocol):
    """An open file of a source. Several threads may read at once.

    Subclasses have the default of `begin`.
    """

    __slots__ = ()

    def begin(self, offset: int) -> None:
        """Set where the first read will be, before there is one, if not at the beginning.

        The default does nothing: any part can be read first. A stream opens there.
        """
        return  # without it a checker takes the method for an abstract one

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer from `offset` on, and return the number of bytes read.

        They are fewer than the buffer holds only at the end of the file.

        Raises:
            FileError: not readable.
        """

    def finish(self) -> None:
        """Check the file after it was read to its listed end: the listed size is only a hint. This
        method asks for one byte more, or knows from the reads that there is none.

        Raises:
            FileError: it holds more than was listed, or is no longer what was opened.
        """


class Source(Protocol):
    """A folder or other storage. It can be pickled, for other processes and machines.

    Subclasses have the defaults of `readers`, `in_turns`, `is_stream`, `walk`, `witness_siblings`
    and `read_files`.
    """

    @property
    def readers(self) -> int | None:
        """Number of concurrent readers that pays off; None, the default, for one for each core."""
        return None

    @property
    def in_turns(self) -> bool:
        """Whether one thread reads several large files in turns, in small pieces.

        The default is False: where a request takes long, it asks for many bytes of one file.
        """
        return False

    def is_stream(self, found: Found) -> bool:
        """Return whether a file is read from beginning to end by one reader, in one task.

        The default is False: its parts can be read by several.
        """
        return False

    @property
    def name(self) -> str:
        """Name for messages: the path of the folder, or the URL."""

    def list(self, selection: Selection, problem: Problem) -> Iterator[Found]:
        """Yield its files and symbolic links, each path once, in any order.

        Args:
            selection: the choice of files to list.
            problem: called for each path that cannot be listed or witnessed; the listing goes on.

        Raises:
            FileError: it cannot be listed at all.
        """

    def walk(self, selection: Selection, problem: Problem) -> Iterator[Found | Siblings] | None:
        """Yield the same as `list`, where small files that follow one another in the order of paths
        come as siblings. Siblings, but not what comes one by one, are in this order.

        Returns:
            None, as the default does, where only `list` works.
        """
        return None

    def witness_siblings(
        self, groups: Sequence[Siblings], first: int, buffer: memoryview, wanted: Wanted
    ) -> tuple[bytes, bytes]:
        """Read and hash files that `walk` yielded.

        Args:
            groups: some siblings.
            first: number of files, of all groups, to pass over.
            buffer: one block, to be written to.
            wanted: what to compute.

        Returns:
            As `_native.witness_files`, for some of the files from `first` on, at least one: a file
            that was not read is left to `open`, which says what is wrong with it. The default
            leaves all files to it.
        """
        sizes = [size for group in groups for size in group.sizes][first:]
        windows = sum(map(window_count, sizes)) if wanted.leaves else 0
        return bytes(RESULT_BYTES * len(sizes)), bytes(DIGEST_BYTES * windows)

    def open(self, found: Found) -> AbstractContextManager[Reader]:
        """Open a file that `list` yielded.

        Raises:
            FileError: not readable, or no longer what was listed.
        """

    def read_files(self, founds: Sequence[Found], buffer: memoryview) -> bytes:
        """Read small files that `list` yielded, all of them at once if that pays off here.

        Args:
            founds: the files.
            buffer: takes their bytes, one file after another, each in the room of its listed size.

        Returns:
            A byte for each file: 1 if it was read, and checked as `open`, `read_into` and `finish`
            check it; 0 if it is left to them, which also say what is wrong with it. The default
            leaves all files to them.
        """
        return bytes(len(founds))

    def read_small(self, path: bytes) -> bytes | None:
        """Return the bytes of a small file that need not be listed; None if it does not exist.

        Raises:
            FileError: the file is not readable, not a regular file, or has more than
                `SMALL_MOST_BYTES`; no more are read.
        """
