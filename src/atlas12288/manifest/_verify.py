# SPDX-License-Identifier: Apache-2.0
"""Compare a folder with its manifest: find files that changed and where, and files that are
missing, added or unreadable."""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from operator import attrgetter
from typing import Final

from .._files import FileError, RegularFile
from .._native import DIGEST_BYTES
from .._sidecars import TreeLeaves
from .._subtree import BLOCK_BYTES, window_count
from .._witness import ALGORITHM, TREE_ALGORITHM
from ._beside import Outputs
from ._differences import Difference, ManifestReport
from ._entries import Entry, read_line
from ._hashing.engine import hash_files
from ._hashing.file_hash import Digests, LeafSink
from ._hashing.siblings import Hashed, hash_siblings
from ._lined import Lined
from ._listener import SILENT, Listener
from ._paths import quoted
from ._ranges import FirstDifferenceError, LeafJudge, ManifestLeaves
from ._sources.selection import Excluded, Selection, listed, walked
from ._sources.siblings import Siblings
from ._sources.source import Found, Source
from ._statement import Witnessed

# Reasons that mean a named path is simply gone: its files are missing, not unreadable.
_GONE: Final = tuple(map(os.strerror, (errno.ENOENT, errno.ENOTDIR)))


def verify_manifest(
    manifest: Witnessed,
    source: Source,
    *,
    leaves: RegularFile | None = None,
    threads: int | None = None,
    allow_extra: bool = False,
    fail_fast: bool = False,
    outputs: Outputs | None = None,
    listener: Listener = SILENT,
    done: bytes | None = None,
) -> ManifestReport:
    """Compare a folder or other source with a manifest.

    The folder is listed once, by the rules in the manifest and no others, because a rule that came
    with the files could hide them. Only listed files are opened. Several threads read files; memory
    grows with the entries and the differences, but not with the sizes of files. Any thread may call
    this, because it starts no process and touches no signal.

    Args:
        manifest: the content to expect.
        source: the folder.
        leaves: the sidecar of the manifest, to find the ranges that changed. If it is damaged or
            belongs to another manifest, it is not used, and the report says so.
        threads: number of threads; None for one per core that this process may use.
        allow_extra: only count files that are not in the manifest.
        fail_fast: stop at the first difference found, which may not be the first by path.
        outputs: files that are not part of the folder, unless the manifest has them. The sidecar is
            added to them if it has the leaves of the manifest.
        listener: called with the progress and each difference.
        done: files up to this path are listed, but not read: they were compared before. b"" for
            none; None if the listener need not hear what was compared, which is quicker.

    Raises:
        FileError: the source cannot be listed at all.
        ValueError: `threads` is less than 1, or a rule of the manifest is not valid.
        TypeError: `threads` is not an int.
    """
    outputs = Outputs(source.name) if outputs is None else outputs
    lined = Lined.of(manifest)
    tally = _Tally(allow_extra, listener, outputs)
    known: ManifestLeaves | None = None
    if leaves is not None and TREE_ALGORITHM not in manifest.options.digests:
        tally.leaves_error = "is of no use: the manifest has no tree roots"
    elif leaves is not None:
        try:
            known = ManifestLeaves(lined, leaves)
            outputs.add(leaves.name, leaves.status)
        except FileError as error:
            tally.leaves_error = str(error)
    listing = _Listing(lined, source, outputs, tally, together=done is None)
    listing.judge(unread=known is None, done=done)
    if fail_fast and (first := next(listing.known(None), None)) is not None:
        tally.add(first)
        return tally.report(complete=False)
    listener.expect(
        sum(found.size for found in listing.to_read)
        + sum(siblings.size for _, siblings in listing.groups)
    )
    reading = _Reading(tally, listing, known, fail_fast)
    run = reading.run_together if listing.groups else reading.run
    complete = run(source, threads)
    return tally.report(complete=complete)


class _Tally:
    """Counts the differences, and tells the listener."""

    def __init__(self, allow_extra: bool, listener: Listener, outputs: Outputs) -> None:
        self.listener = listener
        self.allow_extra = allow_extra
        self.files = 0
        self.links = 0
        self.bytes = 0
        self.leaves_error: str | None = None
        self.excluded: tuple[Excluded, ...] = ()
        self.allowed = 0
        self._differences: list[Difference] = []
        self._outputs = outputs

    def add(self, difference: Difference) -> None:
        self._differences.append(difference)
        self.listener.difference(difference)

    def report(self, complete: bool) -> ManifestReport:
        return ManifestReport(
            differences=tuple(self._differences),
            files=self.files,
            bytes=self.bytes,
            complete=complete,
            leaves_error=self.leaves_error,
            links=self.links,
            left_out=tuple(sorted(self._outputs.left_out)),
            excluded=self.excluded,
            allowed=self.allowed,
        )


class _Listing:
    """Compares the listing of a source with the entries, and finds the files to read.

    Attributes:
        to_read: the files, in order of path.
        entries: their entries, in the same order.
        groups: siblings to read whose entries have their paths and sizes, with the index of the
            first entry, in order of path. They are not among the files above.
        lined: the manifest.
        digests: the algorithms of their digests.
    """

    def __init__(
        self, lined: Lined, source: Source, outputs: Outputs, tally: _Tally, together: bool
    ) -> None:
        self.to_read: list[Found] = []
        self.entries: list[Entry] = []
        self.groups: list[tuple[int, Siblings]] = []
        self.lined = lined
        self.digests = lined.options.digests
        self._tally = tally
        self._known: list[Difference] = []
        self._problems: dict[bytes, str] = {}
        self._told: set[bytes] = set()  # problems already reported through an entry
        options = lined.options
        named = {path.encode() for path in options.paths}

        def problem(path: bytes, reason: str) -> None:
            # A named path that is gone is not a problem: its files are missing.
            if path not in named or reason not in _GONE:
                self._problems[path] = reason

        outputs.kept = frozenset(lined.paths)
        selection = Selection(
            options.exclude,
            options.symlinks,
            outputs,
            options.links_below,
            [path.encode() for path in options.paths],
        )
        self._found: dict[bytes, Found] = {}
        count = 0
        for found in (walked if together else listed)(source, selection, problem):
            if isinstance(found, Siblings):
                self._take(found)
                count += found.files
            else:
                self._found[found.path] = found
                count += 1
            tally.listener.listed(count)
        self._all_entries = self._others()
        tally.excluded = selection.excluded_by
        # A path may have thousands of folders around it, and few of them have a problem.
        self._problem_lengths = sorted(set(map(len, self._problems)))

    def _take(self, siblings: Siblings) -> None:
        index = self.lined.index(siblings)
        if index is None:
            self._found.update((found.path, found) for found in siblings.founds())
        else:
            self.groups.append((index, siblings))

    def _others(self) -> Sequence[Entry]:
        """Return the entries that are not of `groups`."""
        if not self.groups:
            return self.lined.entries
        others: list[Entry] = []
        end = 0
        for index, siblings in self.groups:
            others += map(self.lined.entry, range(end, index))
            end = index + siblings.files
        others += map(self.lined.entry, range(end, len(self.lined.paths)))
        return others

    def judge(self, unread: bool, done: bytes | None) -> None:
        """Separate the files to be read from the known differences; called once.

        Args:
            unread: do not read a file whose size differs.
            done: do not read the files up to this path.
        """
        found_at = self._found
        for entry in self._all_entries:
            found = found_at.pop(entry.path, None)
            if found is None:
                self._known.append(self._not_found(entry))
            elif entry.target is not None or found.target is not None:
                if entry.target != found.target:
                    reason = f"is {_described(found.target)}, must be {_described(entry.target)}"
                    self._known.append(_changed(entry, found, ("symlink",), reason))
            elif unread and entry.size != found.size:
                self._known.append(_changed(entry, found, ("size",)))
            elif done is None or entry.path > done:
                self.to_read.append(found)
                self.entries.append(entry)
        links = sum(entry.target is not None for entry in self._all_entries)
        self._tally.links += links
        self._tally.files += len(self._all_entries) - links - len(self.to_read)
        extra = [
            Difference(path, "unreadable", reason=reason)
            for path, reason in self._problems.items()
            if path not in self._told
        ]
        for path, found in found_at.items():
            extra.append(Difference(path, "added", found_size=_size(found)))
        if self._tally.allow_extra:
            self._tally.allowed += len(extra)
        else:
            self._known += extra
        found_at.clear()
        self._known.sort(key=attrgetter("path"), reverse=True)

    def _not_found(self, entry: Entry) -> Difference:
        path = entry.path
        if (reason := self._problems.get(path)) is not None:
            self._told.add(path)
            return Difference(path, "unreadable", reason=reason, size=_size(entry))
        for folder in self._around(path):
            if (reason := self._problems.get(folder)) is not None:
                self._told.add(folder)
                where = f"the folder {quoted(folder)} could not be listed"
                reason = f"{where}: {reason}"
                return Difference(path, "unreadable", reason=reason, size=_size(entry))
        return Difference(path, "missing", size=_size(entry))

    def _around(self, path: bytes) -> Iterator[bytes]:
        """Yield the folders around a path that may have a problem, from the root down."""
        if b"." in self._problems:
            yield b"."
        for length in self._problem_lengths:
            if path[length : length + 1] == b"/":
                yield path[:length]

    def known(self, before: bytes | None) -> Iterator[Difference]:
        """Yield and drop the differences before a path that need no reading, in order of path."""
        while self._known and (before is None or self._known[-1].path < before):
            yield self._known.pop()


def _described(target: bytes | None) -> str:
    return "a file" if target is None else f"a symbolic link to {quoted(target)}"


def _size(file: Entry | Found) -> int | None:
    return file.size if file.target is None else None


def _changed(entry: Entry, found: Found, what: tuple[str, ...], reason: str = "") -> Difference:
    """Return the difference of an entry that changed; without a reason, name what differs."""
    if not reason and "size" in what:
        reason = f"has {found.size} bytes, must have {entry.size}"
    elif not reason:
        reason = f"differs in {', '.join(what)}"
    return Difference(entry.path, "changed", what, reason, _size(entry), _size(found))


class _Reading:
    """Compares the files that have to be read."""

    def __init__(
        self,
        tally: _Tally,
        listing: _Listing,
        known: ManifestLeaves | None,
        fail_fast: bool,
    ) -> None:
        self._tally = tally
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
        results = hash_files(
            source,
            listing.to_read,
            listing.digests,
            threads=threads,
            leaves=self._sink if self._known is not None else None,
            advance=self._listener.advance,
        )
        with closing(results):
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

    def _singles(
        self, source: Source, threads: int | None
    ) -> Generator[tuple[bytes, list[Difference]], None, None]:
        """Yield the differences of the files that are in no group, as `_groups` does. No group is
        compared yet, and so none of their paths is the last one."""
        listing = self._listing
        if not listing.to_read:
            return
        results = hash_files(
            source,
            listing.to_read,
            listing.digests,
            threads=threads,
            leaves=self._sink if self._known is not None else None,
            advance=self._listener.advance,
        )
        with closing(results):
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
                its = None
                if hashed is not None and hashed.first <= last:
                    its, hashed = hashed, next(results, None)
                yield last, self._compared(index, siblings, its, unreadable)

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
        what = tuple(
            name
            for name, expected, now in (
                ("size", entry.size, found.size),
                ("residue", entry.residue, result.residue),
                (ALGORITHM, entry.sha256, result.sha256),
                (TREE_ALGORITHM, entry.root, result.root),
            )
            if expected != now
        )
        if not what:
            return None
        difference = _changed(entry, found, what)
        if (judge := self._judge_of(found)) is None:
            return difference
        difference = judge.with_ranges(difference)
        if judge.error is not None:
            self._tally.leaves_error = str(judge.error)
        return difference
