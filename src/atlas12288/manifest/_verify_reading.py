# SPDX-License-Identifier: Apache-2.0
"""Read the files of a folder and compare them with the entries of its manifest: what changed, and
where."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator
from contextlib import closing
from operator import attrgetter

from .._files import FileError
from .._native import DIGEST_BYTES
from .._sidecars import TreeLeaves
from .._subtree import BLOCK_BYTES, window_count
from ._differences import Difference
from ._entries import Entry, read_line
from ._file_comparison import FileComparison
from ._hashing.file_hash import Digests, LeafSink
from ._hashing.siblings import Hashed, hash_siblings
from ._ranges import FirstDifferenceError, LeafJudge, ManifestLeaves
from ._sources.siblings import Siblings
from ._sources.source import Found, Source
from ._tally import Tally, changed_file
from ._verify_listing import Listing


class Reading:
    """Compares the files that have to be read."""

    def __init__(
        self,
        tally: Tally,
        listing: Listing,
        known: ManifestLeaves | None,
        fail_fast: bool,
        comparison: FileComparison,
    ) -> None:
        self._tally = tally
        self._hash_files = comparison.hash_files
        self._differing = comparison.differing
        self._listing = listing
        self._known = known
        self._fail_fast = fail_fast
        self._listener = tally.listener
        self._judges: dict[bytes, LeafJudge] = {}  # of large files that are read now
        self._leaves: dict[bytes, bytearray] = {}  # of small ones

    def run(self, source: Source, threads: int | None) -> bool:
        """Read the files; return False if it ended with the first difference."""
        listing, tally = self._listing, self._tally
        entries = listing.entries
        done = bytearray(len(entries))
        waiting: dict[int, Difference] = {}  # until all before them are known
        first = 0  # of those that are not done

        def give() -> None:
            nonlocal first
            while True:
                for known in listing.known(entries[first].path if first < len(done) else None):
                    tally.add(known)
                if first == len(done) or not done[first]:
                    return
                if first in waiting:
                    tally.add(waiting.pop(first))
                self._listener.compared(entries[first].path)
                first += 1

        give()
        with closing(self._results(source, threads)) as results:
            try:
                for found, result in results:
                    index = self._index(found)
                    difference = self._judge(entries[index], found, result)
                    if difference is not None:
                        if self._fail_fast:
                            tally.add(difference)
                            return False
                        waiting[index] = difference
                    done[index] = 1
                    give()
            except FirstDifferenceError as error:
                tally.add(error.difference)
                return False
        return True

    def run_together(self, source: Source, threads: int | None) -> bool:
        """Read the files and the groups; return False if it ended with the first difference."""
        tally = self._tally
        waiting = list(self._listing.known(None))
        parts = [self._singles(source, threads), self._groups(source, threads)]
        if self._fail_fast:  # a single file may take hours
            parts.reverse()
        try:
            for part in parts:
                with closing(part):
                    for last, differences in part:
                        if differences and self._fail_fast:
                            tally.add(differences[0])
                            return False
                        waiting += differences
                        # Differences are few, and come nearly in order.
                        waiting.sort(key=attrgetter("path"), reverse=True)
                        while waiting and waiting[-1].path <= last:
                            tally.add(waiting.pop())
        except FirstDifferenceError as error:
            tally.add(error.difference)
            return False
        for difference in reversed(waiting):
            tally.add(difference)
        return True

    def _results(
        self, source: Source, threads: int | None
    ) -> Generator[tuple[Found, Digests | FileError], None, None]:
        """Yield the digests of the files that have to be read."""
        return self._hash_files(
            source,
            self._listing.to_read,
            self._listing.digests,
            threads=threads,
            leaves=self._sink if self._known is not None else None,
            advance=self._listener.advance,
        )

    def _singles(
        self, source: Source, threads: int | None
    ) -> Generator[tuple[bytes, list[Difference]], None, None]:
        """Yield the differences of the files that are in no group, as `_groups` does. No group is
        compared yet, and so none of their paths is the last one."""
        listing = self._listing
        if not listing.to_read:
            return
        with closing(self._results(source, threads)) as results:
            for found, result in results:
                difference = self._judge(listing.entries[self._index(found)], found, result)
                if difference is not None:
                    yield b"", [difference]

    def _groups(
        self, source: Source, threads: int | None
    ) -> Generator[tuple[bytes, list[Difference]], None, None]:
        """Yield the differences of each group, in order of path, after the last path up to which
        all is compared."""
        groups = self._listing.groups
        unreadable: dict[bytes, str] = {}
        results = hash_siblings(
            source,
            (siblings for _, siblings in groups),
            self._listing.digests,
            leaves=self._known is not None,
            threads=threads,
            since_ns=0,
            advance=self._listener.advance,
            problem=unreadable.__setitem__,
        )
        with closing(results):
            hashed = next(results, None)
            for index, siblings in groups:
                last = siblings.last
                part = None
                if hashed is not None and hashed.first <= last:
                    part, hashed = hashed, next(results, None)
                yield last, self._compared(index, siblings, part, unreadable)

    def _compared(
        self, index: int, siblings: Siblings, hashed: Hashed | None, unreadable: dict[bytes, str]
    ) -> list[Difference]:
        """Return the differences of a group.

        Args:
            index: of its first entry.
            siblings: its files.
            hashed: their lines, without the files that could not be read; None if there are none.
            unreadable: the reasons for these.
        """
        text, leaves = (b"", b"") if hashed is None else (hashed.text, hashed.leaves)
        lined, tally = self._listing.lined, self._tally
        if text == lined.text(index, index + siblings.files):
            tally.files += siblings.files
            tally.bytes += siblings.size
            return []
        now: dict[bytes, Digests] = {}
        end = 0
        for line in text.split(b"\n")[:-1]:
            entry = read_line(line, lined.options.digests)
            now[entry.path] = Digests(entry.residue, entry.sha256, entry.root)
            if self._known is not None:
                start, end = end, end + window_count(entry.size) * DIGEST_BYTES
                self._leaves[entry.path] = bytearray(leaves[start:end])
        differences = []
        for number, found in enumerate(siblings.founds(), index):
            reason = unreadable.pop(found.path, None)
            result = now[found.path] if reason is None else FileError(reason)
            difference = self._judge(lined.entry(number), found, result)
            if difference is not None:
                differences.append(difference)
        return differences

    def _index(self, found: Found) -> int:
        return bisect_left(self._listing.to_read, found.path, key=attrgetter("path"))

    def _sink(self, found: Found) -> LeafSink:
        if found.size <= BLOCK_BYTES:
            # Most files are small and did not change: their leaves wait for the digests.
            leaves = self._leaves[found.path] = bytearray()
            return leaves.extend
        judge = LeafJudge(self._known_leaves(found), found, self._listener, self._fail_fast)
        self._judges[found.path] = judge
        return judge.write

    def _known_leaves(self, found: Found) -> TreeLeaves:
        assert self._known is not None
        return self._known.leaves(found.path)

    def _judge_of(self, found: Found) -> LeafJudge | None:
        """Return the judge that finds where a file differs; None without leaves."""
        if self._known is None:
            return None
        if (judge := self._judges.pop(found.path, None)) is None:
            judge = LeafJudge(self._known_leaves(found), found, self._listener, fail_fast=False)
            judge.write(bytes(self._leaves.pop(found.path)))
        return judge

    def _judge(self, entry: Entry, found: Found, result: Digests | FileError) -> Difference | None:
        self._tally.files += 1
        difference = self._difference(entry, found, result)
        self._judges.pop(found.path, None)
        self._leaves.pop(found.path, None)
        return difference

    def _difference(
        self, entry: Entry, found: Found, result: Digests | FileError
    ) -> Difference | None:
        if isinstance(result, FileError):
            reason = str(result)
            return Difference(entry.path, "unreadable", (), reason, entry.size, found.size)
        self._tally.bytes += found.size
        what, reason = self._differing(entry, found, result)
        if not what:
            return None
        difference = changed_file(entry, found, what, reason)
        if (judge := self._judge_of(found)) is None:
            return difference
        difference = judge.with_ranges(difference)
        if judge.error is not None:
            self._tally.leaves_error = str(judge.error)
        return difference
