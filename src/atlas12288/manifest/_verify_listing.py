# SPDX-License-Identifier: Apache-2.0
"""Compare the listing of a folder with the entries of its manifest: what is missing, added or
moved, and which files have to be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from operator import attrgetter
from typing import Final

from .._files import FileError
from ._beside import Outputs
from ._differences import Difference, described
from ._entries import UNKNOWN_SIZE, Entry
from ._file_comparison import FileComparison
from ._hashing.file_hash import Digests
from ._lined import Lined
from ._moves import Moves
from ._paths import quoted
from ._sources.selection import Selection, listed, walked
from ._sources.siblings import Siblings
from ._sources.source import Found, Source
from ._tally import Tally, changed_file

# Reasons that mean a named path is simply gone: its files are missing, not unreadable.
_GONE: Final = tuple(map(os.strerror, (errno.ENOENT, errno.ENOTDIR)))


class Listing:
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
        tally: Tally,
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

    def judge(self, comparison: FileComparison, unread: bool, done: bytes | None) -> None:
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
                    self._known.append(changed_file(entry, found, ("symlink",), reason))
            elif unread and entry.size not in (UNKNOWN_SIZE, found.size):
                self._known.append(changed_file(entry, found, ("size",)))
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
        self,
        source: Source,
        candidates: list[Found],
        threads: int | None,
        comparison: FileComparison,
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
