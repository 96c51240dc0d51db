# SPDX-License-Identifier: Apache-2.0
"""Finds where files differ from their manifest: compares their leaves with its sidecar."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import Final

from .._files import FileError, RegularFile
from .._sidecars import LeafComparison, TreeLeaves, WindowRange, first_without_leaves, require_size
from .._witness import TREE_ALGORITHM
from ._differences import Difference
from ._lined import Lined
from ._listener import Listener
from ._paths import quoted
from ._sources.source import Found

RANGES_MOST: Final = 1000


class ManifestLeaves:
    """The leaves of each entry in the sidecar of a manifest.

    Args:
        lined: the manifest, which has trees.
        sidecar: the open file.

    Raises:
        FileError: not readable, or not the leaves of its entries.
    """

    def __init__(self, lined: Lined, sidecar: RegularFile) -> None:
        self._lined = lined
        self._sidecar = sidecar
        self._firsts = lined.leaf_places()
        require_size(sidecar, self._firsts[-1], "manifest")
        self._check()

    def _check(self) -> None:
        """Check all leaves against the roots, so that they can be trusted later."""
        wrong = first_without_leaves(self._sidecar, self._lined.trees())
        if wrong is not None:
            sizes = zip(self._lined.paths, self._lined.sizes(), strict=True)
            files = [path for path, size in sizes if size is not None]
            raise FileError(
                f"does not have the leaves of {quoted(files[wrong])}: they are damaged, or "
                "belong to another manifest"
            )

    def leaves(self, path: bytes) -> TreeLeaves:
        """Return the leaves of the file at a path of the manifest."""
        index = bisect_left(self._lined.paths, path)
        entry = self._lined.entry(index)
        assert entry.path == path
        assert entry.root is not None
        return TreeLeaves(self._sidecar, self._firsts[index], entry.size, entry.root)


class FirstDifferenceError(Exception):
    """Raised at the first leaf that differs, if nothing after it is wanted."""

    def __init__(self, difference: Difference) -> None:
        super().__init__()
        self.difference = difference


class LeafJudge:
    """Finds where a file differs from the manifest, while its leaves are computed.

    Args:
        known: leaves of the file in the sidecar of the manifest.
        found: the file.
        listener: called with the windows that differ.
        fail_fast: raise FirstDifferenceError at the first window that differs.

    Attributes:
        error: why the leaves could no longer be compared after they had been checked; or None.
    """

    def __init__(
        self,
        known: TreeLeaves,
        found: Found,
        listener: Listener,
        fail_fast: bool,
    ) -> None:
        self._known = known
        self._found = found
        self._listener = listener
        self._fail_fast = fail_fast
        self._comparison = LeafComparison(known.chunks(), self._add)
        self._first_ranges: list[WindowRange] = []
        self._run_count = 0
        self._windows = 0
        self.error: FileError | None = None

    def write(self, leaves: bytes) -> None:
        """Take the next leaf hashes of the file, joined."""
        if self.error is not None:
            return
        try:
            self._comparison.write(leaves)
        except FileError as error:
            self.error = error
            return
        if self._fail_fast and (self._comparison.differs or self._run_count > 0):
            self._comparison.stop(self._longer)
            start = self._first_ranges[0].start
            reason = f"differs from byte {start} on; the rest was not compared"
            sizes = self._known.length, self._found.size
            difference = Difference(self._found.path, "changed", (TREE_ALGORITHM,), reason, *sizes)
            raise FirstDifferenceError(self._ranged(difference))

    def with_ranges(self, difference: Difference) -> Difference:
        """Return the difference with its ranges, or without them after an error.

        Call it after all leaves of the file were written.
        """
        try:
            if self.error is None:
                self._comparison.finish(self._longer)
        except FileError as error:
            self.error = error
        return difference if self.error is not None else self._ranged(difference)

    def _ranged(self, difference: Difference) -> Difference:
        return replace(
            difference,
            ranges=tuple(self._first_ranges),
            range_count=self._run_count,
            windows=self._windows,
        )

    def _add(self, changed: WindowRange) -> None:
        self._run_count += 1
        self._windows += changed.stop - changed.first
        if self._run_count <= RANGES_MOST:
            self._first_ranges.append(changed)
        self._listener.differing(self._found.path, changed)

    @property
    def _longer(self) -> int:
        return max(self._found.size, self._known.length)
