# SPDX-License-Identifier: Apache-2.0
"""Where the files of a manifest are: a folder, or any storage that lists and reads in ranges.

A source is listed once; what is read later are the files of that list and nothing else, so that no
path of a manifest, and no symbolic link, leads out of the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from .rules import Rules


class Found(NamedTuple):
    """A file or symbolic link of a source.

    Attributes:
        path: relative to the source, as in `Entry`.
        size: of a file, in bytes, when it was listed.
        identity: differs when the file was replaced or changed: for a local file its modification
            time and inode, for an object its ETag or version.
        target: what a symbolic link holds; None for a file.
        modified_ns: where the identity comes from a clock, the time of it in nanoseconds since
            1970: what is written soon after may have the same identity. 0 where it does not.
    """

    path: bytes
    size: int
    identity: str
    target: bytes | None = None
    modified_ns: int = 0


# Takes the path of what is listed but cannot be part of a manifest, and the reason.
Problem = Callable[[bytes, str], object]


class Reader(Protocol):
    """An open file of a source. Several threads may read at once.

    One that is a stream has a method `begin(offset)` too, which says where its first read will be
    before there is one; and its source one `is_stream(found)`: all of it is one task.
    """

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills the buffer from `offset` on; fewer bytes than it has only at the end of the file.

        Raises:
            FileError: not readable.
        """

    def finish(self) -> None:
        """The file was read to its listed end.

        Raises:
            FileError: it is longer than listed, or no longer what was listed.
        """


class Source(Protocol):
    """A folder or its like. It can be pickled, for other processes and machines."""

    @property
    def name(self) -> str:
        """What people call it: the path of the folder, the URL."""

    def list(self, rules: Rules, problem: Problem) -> Iterator[Found]:
        """Its files and symbolic links, each path once, in any order.

        Args:
            rules: what is excluded, and what is done with symbolic links.
            problem: is told of what cannot be listed or witnessed; the listing goes on.

        Raises:
            FileError: it cannot be listed at all.
        """

    def open(self, found: Found) -> AbstractContextManager[Reader]:
        """A file that `list` gave.

        Raises:
            FileError: not readable, or no longer what was listed.
        """

    def read_small(self, path: bytes) -> bytes | None:
        """The bytes of a small file that need not be listed; None where there is none.

        Raises:
            FileError: it is there and not readable, or is no regular file.
        """
