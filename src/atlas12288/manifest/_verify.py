# SPDX-License-Identifier: Apache-2.0
"""Compare a folder with its manifest: find files that changed and where, and files that are
missing, added or unreadable."""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Final

from .._files import FileError, RegularFile, shown
from .._native import DIGEST_BYTES
from .._sidecars import TreeLeaves
from .._subtree import BLOCK_BYTES, window_count
from .._witness import ALGORITHM, TREE_ALGORITHM
from .._words import counted
from ._beside import Outputs, is_url
from ._differences import Difference, ManifestReport, described
from ._entries import UNKNOWN_SIZE, Entry, read_line
from ._hashing.engine import hash_files
from ._hashing.file_hash import Digests, LeafSink
from ._hashing.siblings import Hashed, hash_siblings
from ._lined import Lined
from ._listener import SILENT, Listener
from ._moves import Moves
from ._paths import quoted
from ._ranges import FirstDifferenceError, LeafJudge, ManifestLeaves
from ._sources.selection import Excluded, Selection, listed, walked
from ._sources.siblings import Siblings
from ._sources.source import Found, Source
from ._statement import Options, Witnessed

# Reasons that mean a named path is simply gone: its files are missing, not unreadable.
_GONE: Final = tuple(map(os.strerror, (errno.ENOENT, errno.ENOTDIR)))


class WrongRootError(FileError):
    """No path of the manifest is in the source, which is hardly the folder that was witnessed."""


class Comparison:
    """How files are hashed and compared with their entries. A signature has another way."""

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


def verify_manifest(
    manifest: Witnessed,
    source: Source,
    *,
    paths: Sequence[bytes] = (),
    leaves: RegularFile | None = None,
    threads: int | None = None,
    allow_extra: bool = False,
    fail_fast: bool = False,
    refuse_other: bool = False,
    outputs: Outputs | None = None,
    listener: Listener = SILENT,
    comparison: Comparison | None = None,
    done: bytes | None = None,
) -> ManifestReport:
    """Compare a folder or other source with a manifest.

    The folder is listed once, by the rules in the manifest and no others, because a rule that came
    with the files could hide them. Only listed files are opened. Of the files that are not in the
    manifest, only those with the size of a missing one are read, to find what was moved. Several
    threads read files; memory grows with the entries and the differences, but not with the sizes of
    files. Any thread may call this, because it starts no process and touches no signal.

    Args:
        manifest: the content to expect.
        source: the folder.
        paths: compare only what is at these paths and below them, in their canonical form; empty
            for everything.
        leaves: the sidecar of the manifest, to find the ranges that changed. If it is damaged or
            belongs to another manifest, it is not used, and the report says so.
        threads: number of threads; None for one per core that this process may use.
        allow_extra: only count files that are not in the manifest.
        fail_fast: stop at the first difference found, which may not be the first by path. A file
            that was moved is then missing or added, because finding its content takes reading.
        refuse_other: raise an error instead of a report if no path of the manifest is there.
        outputs: files that are not part of the folder, unless the manifest has them. The sidecar is
            added to them if it has the leaves of the manifest.
        listener: called with the progress and each difference.
        comparison: how files are compared with entries that come from elsewhere.
        done: files up to this path are listed, but not read: they were compared before. b"" for
            none; None if the listener need not hear what was compared, which is quicker. If it is
            given, a file that was moved is missing and added, so that no file is read twice in
            comparisons that follow one another.

    Raises:
        FileError: the source cannot be listed at all.
        WrongRootError: as `refuse_other` says.
        WitnessError: the manifest has nothing at or below one of the paths.
        ValueError: `threads` is less than 1, or a rule of the manifest is not valid.
        TypeError: `threads` is not an int.
    """
    whole = Lined.of(manifest)
    lined = whole.part(paths) if paths else whole
    outputs = Outputs(source.name) if outputs is None else outputs
    comparison = Comparison() if comparison is None else comparison
    tally = _Tally(allow_extra, listener, outputs)
    known: ManifestLeaves | None = None
    if leaves is not None and TREE_ALGORITHM not in manifest.options.digests:
        tally.leaves_error = "is of no use: the manifest has no tree roots"
    elif leaves is not None:
        try:
            known = ManifestLeaves(whole, leaves)
            outputs.add(leaves.name, leaves.status)
        except FileError as error:
            tally.leaves_error = str(error)
    named = _selected(manifest.options, paths)
    together = comparison.has_lines and done is None
    listing = _Listing(lined, named, source, outputs, tally, together)
    listing.judge(comparison, unread=known is None, done=done)
    if refuse_other and listing.is_other and not _has_any(source, whole, lined):
        raise WrongRootError(
            f"none of its {counted(len(whole.paths), 'path')} is in {shown(source.name)}: is that "
            "the folder that was witnessed?"
        )
    if fail_fast and (first := next(listing.known(None), None)) is not None:
        tally.add(first)
        return _of_part(tally.report(complete=False), paths, whole)
    candidates = listing.candidates() if done is None and not fail_fast else []
    listener.expect(
        sum(found.size for found in candidates)
        + sum(found.size for found in listing.to_read)
        + sum(siblings.size for _, siblings in listing.groups)
    )
    if candidates:
        listing.find_moves(source, candidates, threads, comparison)
    reading = _Reading(tally, listing, known, fail_fast, comparison)
    run = reading.run_together if listing.groups else reading.run
    complete = run(source, threads)
    return _of_part(tally.report(complete=complete), paths, whole)


def _selected(options: Options, paths: Sequence[bytes]) -> list[bytes]:
    """Return the paths to list: those that the manifest covers, and of these, only what is at or
    below `paths`; empty for all."""
    covered = [path.encode() for path in options.paths]
    if not paths or not covered:
        return list(paths) or covered
    found = set()
    for one in paths:
        for other in covered:
            if one == other or one.startswith(other + b"/"):
                found.add(one)
            elif other.startswith(one + b"/"):
                found.add(other)
    return sorted(found)


def _has_any(source: Source, whole: Lined, part: Lined) -> bool:
    """Return whether the folder has a path of the manifest that the compared part has not."""
    if part is whole:
        return False
    # The storage of a URL is not asked once more.
    return is_url(source.name) or any(
        os.path.lexists(Path(source.name, os.fsdecode(path))) for path in whole.paths
    )


def _of_part(report: ManifestReport, paths: Sequence[bytes], whole: Lined) -> ManifestReport:
    """Return the report with what it says of the whole manifest."""
    links = whole.links
    files = len(whole.paths) - links
    return replace(report, part=tuple(paths), manifest_files=files, manifest_links=links)


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
        self,
        lined: Lined,
        paths: Sequence[bytes],
        source: Source,
        outputs: Outputs,
        tally: _Tally,
        together: bool,
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
        self._missing: list[Entry] = []
        self._added: list[Found] = []
        options = lined.options
        named = set(paths)

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
            paths,
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

    def judge(self, comparison: Comparison, unread: bool, done: bytes | None) -> None:
        """Separate the files to be read from the known differences; called once.

        Args:
            comparison: knows which files that no entry names are not added.
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
                    reason = f"is {described(found.target)}, must be {described(entry.target)}"
                    self._known.append(_changed(entry, found, ("symlink",), reason))
            elif unread and entry.size not in (UNKNOWN_SIZE, found.size):
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
        others = []
        for path, found in found_at.items():
            if (expected := comparison.unlisted(found)) is not None:
                if done is None or path > done:
                    others.append((found, expected))
                else:
                    self._tally.files += 1
            else:
                extra.append(Difference(path, "added", found_size=_size(found)))
                self._added.append(found)
        if others:
            others = sorted([*zip(self.to_read, self.entries, strict=True), *others])
            self.to_read = [found for found, _ in others]
            self.entries = [expected for _, expected in others]
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
        self._missing.append(entry)
        return Difference(path, "missing", size=_size(entry))

    @property
    def is_other(self) -> bool:
        """Whether all entries are missing, and there are files among them."""
        return len(self._missing) == len(self.lined.paths) > self.lined.links

    def candidates(self) -> list[Found]:
        """Return the added files that may be missing ones at another path: the size is the same, or
        one of a missing file is not known."""
        sizes = {entry.size for entry in self._missing if entry.target is None} - {0}
        files = [found for found in self._added if found.target is None and found.size > 0]
        return [found for found in files if found.size in sizes or UNKNOWN_SIZE in sizes]

    def find_moves(
        self, source: Source, candidates: list[Found], threads: int | None, comparison: Comparison
    ) -> None:
        """Read the candidates, and make one difference of a missing file and an added one with its
        content."""
        listener = self._tally.listener
        added: list[tuple[Found, Digests]] = []
        undecided: set[int] = set()  # sizes: the content may be at a path that cannot be read
        results = comparison.hash_files(
            source, candidates, self.digests, threads=threads, advance=listener.advance
        )
        with closing(results):
            for found, result in results:
                if isinstance(result, FileError):
                    undecided.add(found.size)
                else:
                    self._tally.bytes += found.size
                    added.append((found, result))
        if undecided:
            undecided.add(UNKNOWN_SIZE)
        sizes = {found.path: found.size for found, _ in added}
        with closing(Moves()) as moves:
            for entry in self._missing:
                if entry.target is None and entry.size != 0 and entry.size not in undecided:
                    moves.missing(entry.path, _content(entry))
            for found, digests in added:
                if found.size not in undecided:
                    moves.added(found.path, _content(digests))
            moves.find()
            stops = dict(moves.by_start())
        known = []
        gone = set(stops.values())
        for each in self._known:
            if each.kind == "missing" and (stop := stops.get(each.path)) is not None:
                known.append(replace(each, kind="moved", moved_to=stop, found_size=sizes[stop]))
            elif each.kind != "added" or each.path not in gone:
                known.append(each)
        if self._tally.allow_extra:
            self._tally.allowed -= len(gone)
        self._known = known

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


def _size(file: Entry | Found) -> int | None:
    return None if file.target is not None or file.size == UNKNOWN_SIZE else file.size


def _content(file: Entry | Digests) -> bytes:
    """Return the digests of a file, joined."""
    return b"".join(digest for digest in (file.sha256, file.root) if digest is not None)


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
        comparison: Comparison,
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
        difference = _changed(entry, found, what, reason)
        if (judge := self._judge_of(found)) is None:
            return difference
        difference = judge.with_ranges(difference)
        if judge.error is not None:
            self._tally.leaves_error = str(judge.error)
        return difference
