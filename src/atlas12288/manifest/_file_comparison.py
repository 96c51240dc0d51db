# SPDX-License-Identifier: Apache-2.0
"""How a file is compared with what a manifest or a signature says of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from .._files import FileError
from .._witness import ALGORITHM, TREE_ALGORITHM
from ._entries import Entry
from ._hashing.engine import hash_files
from ._hashing.file_hash import Digests, LeafSink
from ._sources.source import Found, Source


class FileComparison:
    """The way of manifests. A signature has another one."""

    # Whether the lines of files that were hashed are those of the manifest, where none differs.
    has_lines = True

    def hash_files(
        self,
        source: Source,
        founds: Sequence[Found],
        digests: tuple[str, ...],
        *,
        threads: int | None,
        leaves: Callable[[Found], LeafSink | None] | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Generator[tuple[Found, Digests | FileError], None, None]:
        """Yield the digests of files; arguments as for `engine.hash_files`."""
        return hash_files(source, founds, digests, threads=threads, leaves=leaves, advance=advance)

    def differing(
        self, entry: Entry, found: Found, digests: Digests
    ) -> tuple[tuple[str, ...], str]:
        """Return the names of what differs in a file, and words for it; "" for the names."""
        what = tuple(
            name
            for name, expected, now in (
                ("size", entry.size, found.size),
                ("residue", entry.residue, digests.residue),
                (ALGORITHM, entry.sha256, digests.sha256),
                (TREE_ALGORITHM, entry.root, digests.root),
            )
            if expected != now
        )
        return what, ""

    def unlisted(self, found: Found) -> Entry | None:
        """Return what is expected of a file that no entry names; None if it was added."""
        return None
