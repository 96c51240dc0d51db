# SPDX-License-Identifier: Apache-2.0
"""Find the windows in which a file differs between two manifests, from the leaves of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .._files import FileError, RegularFile
from .._sidecars import TreeLeaves, require_size
from ._differences import Difference
from ._entries import read_line
from ._listener import SILENT
from ._ranges import LeafJudge
from ._sources.source import Found
from ._statement import Options


class Pair(NamedTuple):
    """An entry that differs, or that only one manifest has.

    Attributes:
        path: its path.
        before, after: its lines; b"" where it is not there.
        fact_before, fact_after: what else is known of the two, as the records gave it.
    """

    path: bytes
    before: bytes
    after: bytes
    fact_before: bytes
    fact_after: bytes


class Windows:
    """Finds the windows that differ in changed files, from the leaves of both manifests.

    Attributes:
        error: why leaves could not be used; or None.
    """

    def __init__(
        self,
        options: tuple[Options, Options],
        sidecars: tuple[RegularFile, RegularFile],
    ) -> None:
        self._options = options
        self._sidecars = sidecars
        self.error: FileError | None = None

    def require_size(self, sidecar: RegularFile, leaves: int) -> None:
        """Use no leaves if a sidecar does not have as many as its manifest."""
        try:
            require_size(sidecar, leaves, "manifest")
        except FileError as error:
            self.error = FileError(str(error), sidecar.name)

    def judge(self, difference: Difference, pair: Pair) -> Difference:
        """Return the difference with its ranges."""
        if difference.size is None or difference.found_size is None:
            return difference
        before, after = (
            self._leaves(sidecar, line, options, fact)
            for sidecar, line, options, fact in zip(
                self._sidecars,
                (pair.before, pair.after),
                self._options,
                (pair.fact_before, pair.fact_after),
                strict=True,
            )
        )
        try:
            return ranged(difference, before, named(after.chunks(), self._sidecars[1].name))
        except FileError as error:
            named_error = error.name is not None
            self.error = error if named_error else FileError(str(error), self._sidecars[0].name)
            return difference

    def _leaves(
        self, sidecar: RegularFile, line: bytes, options: Options, fact: bytes
    ) -> TreeLeaves:
        entry = read_line(line, options.digests)
        assert entry.root is not None
        return TreeLeaves(sidecar, int(fact), entry.size, entry.root)


def named(leaves: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield leaves unchanged, and add the name of their sidecar to errors."""
    try:
        yield from leaves
    except FileError as error:
        raise FileError(str(error), name) from error


def ranged(difference: Difference, before: TreeLeaves, after: Iterable[bytes]) -> Difference:
    """Return the difference of a changed file with its ranges.

    Args:
        difference: of the file.
        before: the leaves that it had.
        after: the leaves that it has, joined, in batches.

    Raises:
        FileError: leaves are missing or wrong.
    """
    found = Found(difference.path, difference.found_size or 0, "")
    judge = LeafJudge(before, found, SILENT, fail_fast=False)
    for hashes in after:
        judge.write(hashes)
    difference = judge.with_ranges(difference)
    if judge.error is not None:
        raise judge.error
    return difference
