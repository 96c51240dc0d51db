# SPDX-License-Identifier: Apache-2.0
"""Compare two manifests: what changed, is missing, was added or moved from one to the other.

The entries of both come in order and are merged, so that memory does not grow with them. What
differs waits in a file until it is known what was moved, and that both are what they claim to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Self

from .._files import FileError, RegularFile
from .._witness import ALGORITHM, TREE_ALGORITHM
from ._diff_windows import Pair, Windows
from ._differences import Difference, ManifestReport, described
from ._entries import DIGESTS, Entry, read_line
from ._manifest_file import (
    LINK,
    Block,
    Listed,
    NotCanonicalError,
    Text,
    in_memory,
    links_in,
    opened,
)
from ._moves import Moves
from ._rows import NOTHING, Cursor, Facts, Places, Row
from ._sources.selection import Selection
from ._spool import Spool
from ._statement import Options


class NothingCommonError(FileError):
    """Two manifests have nothing by which they could be compared."""


@contextmanager
def comparison_of(
    before: Text,
    after: Text,
    leaves: tuple[RegularFile | None, RegularFile | None] = (None, None),
) -> Iterator[Comparison]:
    """Yield the comparison of two manifests in JSON; arguments as for `compare_manifests`.

    Raises:
        FileError: one of them is not a manifest or not readable; it knows the file. Or as from
            `compare_manifests`.
    """
    try:
        manifests = opened(before), opened(after)
        with Comparison(*(each.options for each in manifests)) as comparison:
            comparison.compare_manifests(*manifests, leaves)
            yield comparison
    except NotCanonicalError:
        # Valid ones may be written in another way, and are read as a whole.
        manifests = in_memory(before), in_memory(after)
        with Comparison(*(each.options for each in manifests)) as comparison:
            comparison.compare_manifests(*manifests, leaves)
            yield comparison


class Comparison:
    """The comparison of two manifests; a context manager that drops what it keeps.

    Args:
        before, after: the options of the manifests.

    Attributes:
        digests: the digests by which files are compared: those that both have.
        files, links: the number of files and links of the manifest before that were compared.
        common: the number of paths that both have.
        not_compared: the number of paths that only one of the two can have, by its options.
        other_options: as in `ManifestReport`.

    Raises:
        NothingCommonError: they have no digest in common.
        FileError: a rule is not valid, or a temporary file cannot be used; also from all methods.
    """

    def __init__(self, before: Options, after: Options) -> None:
        self.digests = tuple(
            name for name in DIGESTS if name in before.digests and name in after.digests
        )
        if not self.digests:
            raise NothingCommonError(
                f"has the digest {after.digests[0]} alone, and the other one {before.digests[0]}: "
                "they have no digest in common"
            )
        self.files = self.links = self.common = self.not_compared = 0
        pairs = ((name, getattr(before, name), getattr(after, name)) for name in Options._fields)
        self.other_options = tuple(each for each in pairs if each[1] != each[2])
        names = {name for name, _, _ in self.other_options}
        self._options = before, after
        self._by_line = before.digests == after.digests
        self._selections: tuple[Selection, Selection] | None = None
        if names & {"exclude", "paths"}:
            self._selections = _selection(before), _selection(after)
        self._windows: Windows | None = None
        # One of them has what a link leads to, where the other has the link.
        follows = [options.symlinks == "follow" for options in self._options]
        self._links_differ = follows[0] != follows[1]
        self._around: list[bytes] = []  # links that may have the next paths below them
        self._pairs = Spool(Pair)
        self._moves = Moves()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pairs.close()
        self._moves.close()

    def compare_manifests(
        self,
        before: Listed,
        after: Listed,
        leaves: tuple[RegularFile | None, RegularFile | None] = (None, None),
    ) -> None:
        """Compare the manifests; called once.

        Args:
            before, after: the manifests.
            leaves: the sidecars of the two, to find the ranges that changed; used if both are there
                and both manifests have trees.

        Raises:
            NothingCommonError: they have neither a path nor the content of a file in common.
            NotCanonicalError, FileError: as from the manifests; then nothing is known of them.
        """
        one, other = leaves
        if one is None or other is None or TREE_ALGORITHM not in self.digests:
            self.compare(before.blocks(), after.blocks())
        else:
            placed = Places(before), Places(after)
            self.compare(placed[0].blocks(), placed[1].blocks(), *placed)
            self._windows = Windows(self._options, (one, other))
            for sidecar, each in zip((one, other), placed, strict=True):
                self._windows.require_size(sidecar, each.leaves)
        if self.common == 0 and not self._moves:
            raise NothingCommonError("has no path in common with it: are they of the same folder?")

    def report(self, differences: Iterable[Difference]) -> ManifestReport:
        """Return the report, with the differences that were found."""
        error = None if self._windows is None else self._windows.error
        return ManifestReport(
            differences=tuple(differences),
            files=self.files,
            links=self.links,
            leaves_error=None if error is None else str(error),
            not_compared=self.not_compared,
            other_options=self.other_options,
        )

    def compare(
        self,
        before: Iterable[Block],
        after: Iterable[Block],
        facts_before: Facts = NOTHING,
        facts_after: Facts = NOTHING,
    ) -> None:
        """Compare the entries of both, each in order of path; called once."""
        left, right = Cursor(before, facts_before), Cursor(after, facts_after)
        blocks: tuple[Block | None, Block | None] = None, None
        while left.block is not None or right.block is not None:
            if blocks != (left.block, right.block):
                # Most lines are the same, and need not be taken apart.
                if self._have_same(left, right):
                    continue
                blocks = left.block, right.block
            if left.block is None or (right.block is not None and right.path < left.path):
                self._lone(right.take(), 1)
            elif right.block is None or left.path < right.path:
                one = left.take()
                self._count(one[2], 1)
                self._lone(one, 0)
            else:
                one, other = left.take(), right.take()
                self.common += 1
                self._count(one[2], 1)
                if one[1] != other[1]:
                    self._differing(one, other)
        self._moves.find()

    def _have_same(self, left: Cursor, right: Cursor) -> bool:
        """Pass over the next lines if they are the same up to the end of a block."""
        size = min(left.rest, right.rest)
        text = left.text(size)
        if not text or text != right.text(size):
            return False
        lines, links = text.count(b"\n"), links_in(text)
        self.common += lines
        self.files += lines - links
        self.links += links
        left.skip(size, lines)
        right.skip(size, lines)
        return True

    def _count(self, size: int, sign: int) -> None:
        """Count an entry of the manifest before, by its size."""
        if size == LINK:
            self.links += sign
        else:
            self.files += sign

    def _skip(self, before: Row | None) -> None:
        """Count a path that is not compared."""
        self.not_compared += 1
        if before is not None:
            self._count(before[2], -1)

    def _is_link_between(self, one: Row | None, other: Row | None) -> bool:
        """Return whether an entry cannot be compared, because one manifest follows links."""
        if not self._links_differ:
            return False
        path = (one or other or (b"",))[0]
        while self._around and path >= self._around[-1] + b"0":  # which follows b"/"
            self._around.pop()
        if any(each is not None and each[2] == LINK for each in (one, other)):
            self._around.append(path)
            return True
        return any(path.startswith(link + b"/") for link in self._around)

    def _differing(self, one: Row, other: Row) -> None:
        if self._is_link_between(one, other):
            self.common -= 1
            self._skip(one)
            return
        if not self._by_line:
            before, after = self._entries(one[1], other[1])
            if not self._what(before, after):
                return
        self._pairs.add(Pair(one[0], one[1], other[1], *map(_encoded, (one[3], other[3]))))

    def _lone(self, record: Row, side: int) -> None:
        """Take an entry that only one has; `side` is 0 for the manifest before."""
        path, line, size, fact = record
        sides = (record, None) if side == 0 else (None, record)
        selected = self._selections is None or self._selections[1 - side].has(path)
        if self._is_link_between(*sides) or not selected:
            self._skip(sides[0])
            return
        if size > 0:
            entry = read_line(line, self._options[side].digests)
            (self._moves.added if side else self._moves.missing)(path, self._content(entry))
        if side == 0:
            self._pairs.add(Pair(path, line, b"", _encoded(fact), b""))
        else:
            self._pairs.add(Pair(path, b"", line, b"", _encoded(fact)))

    def _content(self, entry: Entry) -> bytes:
        """Return the digests of a file that both manifests have, and its size."""
        values = {ALGORITHM: entry.sha256, TREE_ALGORITHM: entry.root}
        return b"".join(
            (entry.size.to_bytes(8, "big"), *(values[name] or b"" for name in self.digests))
        )

    def _entries(self, before: bytes, after: bytes) -> tuple[Entry, Entry]:
        one, other = self._options
        return read_line(before, one.digests), read_line(after, other.digests)

    def _what(self, before: Entry, after: Entry) -> tuple[str, ...]:
        """Return what differs in an entry."""
        if before.target is not None or after.target is not None:
            return ("symlink",) if before.target != after.target else ()
        sides = (
            ("size", before.size, after.size),
            ("residue", before.residue, after.residue),
            (ALGORITHM, before.sha256, after.sha256),
            (TREE_ALGORITHM, before.root, after.root),
        )
        return tuple(
            name
            for name, was, now in sides
            if was != now and (name not in DIGESTS or name in self.digests)
        )

    def differences(self) -> Iterator[Difference]:
        """Yield the differences, in order of path; after the comparison."""
        return (difference for difference, _ in self.pairs())

    def pairs(self) -> Iterator[tuple[Difference, Pair]]:
        """Yield the differences, in order of path, with what they come from."""
        windows = self._windows
        with ExitStack() as stack:
            moves = stack.enter_context(closing(_Following(self._moves.by_start())))
            stops = stack.enter_context(
                closing(_Following((stop, stop) for stop in self._moves.stops()))
            )
            for pair in self._pairs:
                if not pair.after:
                    yield self._gone(pair, moves.at(pair.path)), pair
                elif pair.before:
                    difference = self._changed(pair)
                    if windows is not None and windows.error is None:
                        difference = windows.judge(difference, pair)
                    yield difference, pair
                elif stops.at(pair.path) is None:
                    entry = read_line(pair.after, self._options[1].digests)
                    yield Difference(pair.path, "added", found_size=_size(entry)), pair

    def _gone(self, pair: Pair, stop: bytes | None) -> Difference:
        size = _size(read_line(pair.before, self._options[0].digests))
        if stop is None:
            return Difference(pair.path, "missing", size=size)
        return Difference(pair.path, "moved", size=size, found_size=size, moved_to=stop)

    def _changed(self, pair: Pair) -> Difference:
        before, after = self._entries(pair.before, pair.after)
        what = self._what(before, after)
        if what == ("symlink",):
            reason = f"is {described(after.target)}, was {described(before.target)}"
        elif "size" in what:
            reason = f"has {after.size} bytes, had {before.size}"
        else:
            reason = f"differs in {', '.join(what)}"
        return Difference(pair.path, "changed", what, reason, _size(before), _size(after))


def _encoded(fact: str) -> bytes:
    return fact.encode("utf-8", "surrogatepass")


class _Following:
    """Values by key, both in order, asked for in order."""

    def __init__(self, pairs: Iterator[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self._next = next(pairs, None)

    def at(self, key: bytes) -> bytes | None:
        while self._next is not None and self._next[0] < key:
            self._next = next(self._pairs, None)
        return self._next[1] if self._next is not None and self._next[0] == key else None

    def close(self) -> None:
        self._pairs = iter(())


def _selection(options: Options) -> Selection:
    """Return the selection of a manifest.

    Raises:
        FileError: one of its rules is not valid.
    """
    try:
        return Selection(options.exclude, paths=[path.encode() for path in options.paths])
    except ValueError as error:
        raise FileError(f"a rule of one of the manifests cannot be used: {error}") from error


def _size(entry: Entry) -> int | None:
    return entry.size if entry.target is None else None
