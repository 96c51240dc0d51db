# SPDX-License-Identifier: Apache-2.0
"""Check files against lists of SHA-256 sums, as `sha256sum -c` does."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from ._files import STDIN, FileError, read_chunks
from ._many_files import (
    FILES_AT_ONCE,
    ITEM_BYTES,
    SMALL_MOST,
    STOP_NS,
    FileCrew,
    Found,
    Share,
    dealt,
    measured,
    sizes_of,
)
from ._native import WINDOW_BYTES, SumLines
from ._sums import ReadLines, Sum, each_sum, read_lines
from ._witness import Witness

# Small, so that work on a list from a pipe begins with its first lines.
_LIST_CHUNK_BYTES: Final = 4 * WINDOW_BYTES

_STDIN: Final = os.fsencode(STDIN)
MALFORMED: Final = "improperly formatted SHA256 checksum line"


class CheckedLine(NamedTuple):
    """A line of a list, and the result for its file.

    Attributes:
        list_name: the list.
        number: the number of the line, from 1.
        listed: the sum in the line; None if the line is malformed.
        digest: SHA-256 of the file; None if it could not be read.
        error: why there is no digest, or None.
        is_missing: whether the file does not exist.
    """

    list_name: str
    number: int
    listed: Sum | None
    digest: bytes | None = None
    error: str | None = None
    is_missing: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the file has the listed digest; None if that is not known."""
        if self.listed is None or self.digest is None:
            return None
        return self.digest == self.listed.digest


class MatchedLines(NamedTuple):
    """Lines of a list that follow one another, whose files all have their digests.

    Attributes:
        list_name: the list.
        number: the number of the first line.
        lines: the lines.
    """

    list_name: str
    number: int
    lines: SumLines

    def each(self) -> Iterator[CheckedLine]:
        """Yield the lines one by one."""
        for number, (digest, path) in enumerate(self.lines.pairs(), self.number):
            yield CheckedLine(self.list_name, number, Sum(digest, path), digest)


@dataclass(frozen=True)
class CheckedList:
    """The end of a list: the number of lines and files of each kind.

    Attributes:
        list_name: the list.
        error: why the list as a whole has no verdict, or None.
        malformed: number of improperly formatted lines.
        matched, mismatched: number of files with the listed digest, and with another one.
        unreadable: number of files that could not be read.
        ignored: number of missing files that were ignored.
        is_read: whether the list was read to its end and has a sum.
    """

    list_name: str
    error: str | None
    malformed: int
    matched: int
    mismatched: int
    unreadable: int
    ignored: int
    is_read: bool


# What is known of one or more lines.
_Result: TypeAlias = "_Item | CheckedLine | MatchedLines"


class _UsualLines(NamedTuple):
    """Usual lines of a list to check; `number` is that of the first one."""

    list_name: str
    number: int
    lines: SumLines

    def items(self) -> "Iterator[_Item]":
        for number, (digest, path) in enumerate(self.lines.pairs(), self.number):
            yield _Item(self.list_name, number, Sum(digest, path))


class _Item(NamedTuple):
    """A line to check, or with `number` 0 the end of a list and the error that ended it."""

    list_name: str
    number: int
    listed: Sum | None = None
    error: str | None = None


def sums_of(list_name: str, read: ReadLines = read_lines) -> Iterator[tuple[int, Sum | None]]:
    """Read the sums of a list; yields as `read_sums`.

    Args:
        list_name: a path, or `-` for standard input; it may be a pipe.
        read: reads its lines.

    Raises:
        FileError: the list cannot be read.
    """
    return each_sum(_lines_of(list_name, read))


def _lines_of(list_name: str, read: ReadLines) -> Iterator[tuple[int, Sum | SumLines | None]]:
    return read(list_name, read_chunks(list_name, chunk_bytes=_LIST_CHUNK_BYTES, or_pipe=True))


def check(
    lists: Sequence[str],
    *,
    threads: int | None = None,
    ignore_missing: bool = False,
    with_malformed: bool = True,
    read: ReadLines = read_lines,
    advance: Callable[[int], None] | None = None,
) -> Generator[CheckedLine | MatchedLines | CheckedList, None, None]:
    """Check the files in lists of sums, several at once.

    Args:
        lists: paths, or `-` for standard input.
        threads: number of files read at once; None for one per core that this process may use.
        ignore_missing: skip files that do not exist; each list must have one that does.
        with_malformed: yield malformed lines too; they are counted in any case.
        read: reads the lines of a list.
        advance: called with the number of bytes after each chunk, by any thread.

    Yields:
        A `CheckedLine` for each line, or `MatchedLines` for some lines, in order, and a
        `CheckedList` at the end of each list.
    """
    crew = FileCrew(threads, advance)

    def find(lines: list[_Item], sizes: list[int]) -> list[CheckedLine]:
        paths = [line.listed.path for line in lines if line.listed is not None]
        return list(map(_checked, lines, crew.witnesses(paths, sizes)))

    def match(usual: _UsualLines) -> Found[_Result]:
        crew.advance(0)
        matches = b""
        with crew.buffer() as buffer:
            while len(matches) < len(usual.lines):
                more, size = usual.lines.check(len(matches), buffer, STOP_NS)
                matches += more
                crew.advance(size)
        if 0 not in matches:
            return True, [(0, MatchedLines(*usual))]
        known = enumerate(MatchedLines(*usual).each())
        done: list[tuple[int, _Result]] = [placed for placed in known if matches[placed[0]]]
        # What does not match, or was not read, is read again, to say why.
        places = [place for place, good in enumerate(matches) if not good]
        items = list(usual.items())
        others = [items[place] for place in places]
        sizes = sizes_of([b"" if item.listed is None else item.listed.path for item in others])
        done += zip(places, find(others, sizes), strict=True)
        return True, done

    def work(share: Share[_Item | CheckedLine] | _UsualLines) -> Found[_Result]:
        if isinstance(share, _UsualLines):
            return match(share)
        done: list[tuple[int, _Result]] = []
        lines, sizes, places = [], [], []
        for item, size, place in zip(share.items, share.sizes, share.places, strict=True):
            if isinstance(item, CheckedLine) or item.listed is None:
                done.append((place, item))
            else:
                lines.append(item)
                sizes.append(size)
                places.append(place)
        done += zip(places, find(lines, sizes), strict=True)
        return share.is_last, done

    def items() -> Iterator[_Item | CheckedLine | _UsualLines]:
        for list_name in lists:
            error = None
            try:
                for number, listed in _lines_of(list_name, read):
                    if isinstance(listed, SumLines):
                        yield _UsualLines(list_name, number, listed)
                        continue
                    item = _Item(list_name, number, listed)
                    if listed is not None and listed.path == _STDIN:
                        # Read here, one after another: two threads would split its bytes at random.
                        yield from find([item], [-1])
                    else:
                        yield item
            except FileError as list_error:
                error = str(list_error)
            yield _Item(list_name, 0, error=error)

    results = crew.in_order(_shares(items(), crew.threads), work, _weight)
    tally = _Tally()
    with closing(results):
        for result in results:
            if isinstance(result, MatchedLines):
                tally.matched += len(result.lines)
                yield result
            elif isinstance(result, CheckedLine):
                if ignore_missing and result.is_missing:
                    tally.ignored += 1
                else:
                    tally.add(result)
                    yield result
            elif result.number == 0:
                yield tally.end(result)
                tally = _Tally()
            else:
                tally.malformed += 1
                if with_malformed:
                    yield CheckedLine(result.list_name, result.number, None, None, MALFORMED)


class _Tally:
    """Counts what was found in one list."""

    def __init__(self) -> None:
        self.malformed = self.matched = self.mismatched = self.unreadable = self.ignored = 0

    def add(self, line: CheckedLine) -> None:
        holds = line.holds
        self.unreadable += holds is None
        self.matched += holds is True
        self.mismatched += holds is False

    def end(self, item: _Item) -> CheckedList:
        error = item.error
        checked = self.matched + self.mismatched + self.unreadable
        is_read = error is None and checked + self.ignored > 0
        if error is None and not is_read:
            error = "no properly formatted SHA256 checksum lines found"
        elif error is None and not checked:
            # Files found for another list do not count here.
            error = "no file was verified"
        return CheckedList(
            item.list_name,
            error,
            malformed=self.malformed,
            matched=self.matched,
            mismatched=self.mismatched,
            unreadable=self.unreadable,
            ignored=self.ignored,
            is_read=is_read,
        )


def _checked(item: _Item, found: Witness | FileError) -> CheckedLine:
    if isinstance(found, FileError):
        missing = isinstance(found.__cause__, FileNotFoundError)
        return CheckedLine(item.list_name, item.number, item.listed, None, str(found), missing)
    return CheckedLine(item.list_name, item.number, item.listed, found.digest)


def _shares(
    items: Iterable[_Item | CheckedLine | _UsualLines], threads: int
) -> Iterator[Share[_Item | CheckedLine] | _UsualLines]:
    """Yield all items in shares; those of some next lines follow one another.

    Usual lines whose files are all small are a share of their own.
    """
    some: list[_Item | CheckedLine] = []
    for item in items:
        if not isinstance(item, _UsualLines):
            some.append(item)
        elif max(measured(item.lines), default=0) <= SMALL_MOST:
            yield from _dealt(some, threads)
            yield item
            some = []
        else:
            some += item.items()
        if len(some) >= FILES_AT_ONCE:
            yield from _dealt(some[:FILES_AT_ONCE], threads)
            some = some[FILES_AT_ONCE:]
    yield from _dealt(some, threads)


def _dealt(some: list[_Item | CheckedLine], threads: int) -> Iterator[Share[_Item | CheckedLine]]:
    paths = [
        b"" if isinstance(item, CheckedLine) or item.listed is None else item.listed.path
        for item in some
    ]
    return dealt(some, sizes_of(paths), threads)


def _weight(share: Share[_Item | CheckedLine] | _UsualLines) -> int:
    if isinstance(share, _UsualLines):
        return ITEM_BYTES * len(share.lines) + _LIST_CHUNK_BYTES
    names = (0 if item.listed is None else len(item.listed.path) for item in share.items)
    return ITEM_BYTES * len(share.items) + sum(names)
