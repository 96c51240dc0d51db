# SPDX-License-Identifier: Apache-2.0
"""Lists of SHA-256 sums, as GNU coreutils write and read them.

A line of `sha256sum` is `HEX  NAME`, a line of `sha256sum --tag` is `SHA256 (NAME) = HEX`. A name
is any bytes but NUL. If it contains a backslash, a newline or a carriage return, these are escaped
as `\\\\`, `\\n` and `\\r`, and the line begins with a backslash.
"""

import os
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import compress
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from ._chains import CHAINS_MOST
from ._file_witnesses import FILES_AT_ONCE, SMALL_MOST, shares, sizes_of, witness_files
from ._files import CHUNK_BYTES, STDIN, FileError, read_chunks
from ._native import DIGEST_BYTES, WINDOW_BYTES, FileSums, SumLines
from ._parallel import parallel_map_ahead, thread_count
from ._witness import Witness

# More than twice the longest path of a system, since each byte may be escaped. Without a limit, a
# file of zeros would be one line too long for memory.
LINE_MOST_BYTES: Final = 16384

_DIGITS: Final = 2 * DIGEST_BYTES
_NAME_AT: Final = _DIGITS + 2
_HEX: Final = rb"([0-9A-Fa-f]{%d})" % _DIGITS
_PLAIN: Final = re.compile(rb"[ \t]*(\\?)" + _HEX + rb"[ \t](.+)", re.DOTALL)
_TAGGED: Final = re.compile(rb"[ \t]*(\\?)SHA256 ?\((.*)\)[ \t]*=[ \t]*" + _HEX, re.DOTALL)

_ESCAPES: Final = ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\r", rb"\r"))
_TO_ESCAPE: Final = re.compile(rb"[\\\n\r]")
_UNESCAPED: Final = {escape: byte for byte, escape in _ESCAPES}
_ESCAPE: Final = re.compile(rb"\\.?", re.DOTALL)


class Sum(NamedTuple):
    """A file and its SHA-256 digest, as listed.

    Attributes:
        digest: 32 bytes.
        path: the name in the list, unescaped; `-` is standard input.
    """

    digest: bytes
    path: bytes


# What a line or some usual lines say; None for a malformed line.
_Found: TypeAlias = Sum | SumLines | None
# Reads the lines of a list: its name, and its bytes in chunks; yields as `_read_lines`.
ReadLines: TypeAlias = Callable[
    [str, Iterable[bytes | memoryview]], Iterator[tuple[int, Sum | SumLines | None]]
]


def sums_line(digest: bytes, path: bytes) -> bytes:
    """Return the line that `sha256sum` prints for a file, without its end.

    Args:
        digest: SHA-256 of the file, 32 bytes.
        path: the name of the file: any bytes but NUL.

    Raises:
        ValueError: the digest has another length, or the path cannot be a file name.
    """
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"digest has {len(digest)} bytes, must have {DIGEST_BYTES}")
    if not path or b"\0" in path:
        raise ValueError(f"path is {path!r}, must hold at least one byte, and no NUL")
    mark, name = _escaped(path)
    return mark + digest.hex().encode("ascii") + b"  " + name


def verdict_line(path: bytes, verdict: str) -> bytes:
    """Return the verdict of `sha256sum -c` on a file as a line, without its end.

    It is as in coreutils 9.2 to 9.10. Older ones escape only names that hold a newline, and
    newer ones put names that a shell would take apart in quotes.
    """
    mark, name = _escaped(path)
    return mark + name + b": " + verdict.encode("ascii")


def read_sums(chunks: Iterable[bytes | memoryview]) -> Iterator[tuple[int, Sum | None]]:
    """Yield the sums of one list.

    It accepts what `sha256sum -c` accepts: both forms above, spaces and tabs before them, `*` for
    the second space, digits of either case, and lines that end with CR LF. Empty lines and lines
    that begin with `#` are ignored. `HEX NAME`, with one space, is accepted too if no earlier line
    had two; from then on a second space, or `*`, belongs to the name.

    Two kinds of lines that GNU accepts are refused here: lines with a NUL, where GNU drops the
    rest (all files but the first in a list by `sha256sum --zero`), and lines of more than 16 KiB,
    whose names no system can open.

    Args:
        chunks: the bytes of the list, split anywhere; each is only used until the next is taken.

    Yields:
        The number of the line, from 1, and its sum; None for a line that is improperly formatted.
    """
    return _each(_read_lines(chunks))


def _each(found_lines: Iterable[tuple[int, _Found]]) -> Iterator[tuple[int, Sum | None]]:
    """Yield usual lines one by one."""
    for first, found in found_lines:
        if isinstance(found, SumLines):
            for number, (digest, path) in enumerate(found.pairs(), first):
                yield number, Sum(digest, path)
        else:
            yield first, found


def _read_lines(chunks: Iterable[bytes | memoryview]) -> Iterator[tuple[int, _Found]]:
    """Yield as `read_sums` does, but usual lines that follow one another together.

    Their number is that of the first one.
    """
    one_space: bool | None = None  # not known before the first line without a tag
    number = 0
    for text in lines_in(chunks):
        stop = 0
        while stop < len(text):
            start, number = stop, number + 1
            if one_space is False and text[start + _DIGITS : start + _NAME_AT] == b"  ":
                lines = SumLines(text, start, FILES_AT_ONCE, LINE_MOST_BYTES - _NAME_AT)
                if len(lines) > 0:
                    yield number, lines
                    number += len(lines) - 1
                    stop = lines.stop
                    continue
            end = text.find(b"\n", start)
            end = len(text) if end < 0 else end
            stop = end + 1
            line = text[start:end].removesuffix(b"\r")
            if not line or line.startswith(b"#"):
                continue
            if len(line) > LINE_MOST_BYTES or b"\0" in line:
                yield number, None
            elif match := _PLAIN.fullmatch(line):
                mark, digits, name = match.groups()
                if len(name) == 1 or name[:1] not in (b" ", b"*"):
                    if one_space is False:
                        yield number, None
                        continue
                    one_space = True
                elif not one_space:
                    one_space = False
                    name = name[1:]
                yield number, _sum(digits, name, mark)
            elif match := _TAGGED.fullmatch(line):
                mark, name, digits = match.groups()
                yield number, _sum(digits, name, mark)
            else:
                yield number, None


def read_lines(
    list_name: str, chunks: Iterable[bytes | memoryview]
) -> Iterator[tuple[int, _Found]]:
    """Yield the lines of a list of `sha256sum`.

    A list on standard input cannot hold its own sum: the rest of it would be taken for a file.
    """
    for number, found in _read_lines(chunks):
        itself = isinstance(found, Sum) and list_name == STDIN == os.fsdecode(found.path)
        yield number, None if itself else found


def lines_in(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield whole lines, joined, each with its newline but the last one of all.

    A line that is too long is cut.
    """
    rest = b""
    for chunk in chunks:
        text = rest + bytes(chunk)
        end = text.rfind(b"\n") + 1
        if end > 0:
            yield text[:end]
        rest = text[end : end + LINE_MOST_BYTES + 2]  # and a carriage return
    if rest:
        yield rest


def _sum(digits: bytes, name: bytes, mark: bytes) -> Sum | None:
    if mark:
        # Only escapes that `_escaped` writes are read: others may mean something one day.
        if not all(escape in _UNESCAPED for escape in _ESCAPE.findall(name)):
            return None
        name = _ESCAPE.sub(lambda escape: _UNESCAPED[escape[0]], name)
    return Sum(bytes.fromhex(digits.decode("ascii")), name)


def _escaped(path: bytes) -> tuple[bytes, bytes]:
    """Return the mark that begins a line with this name, and the name as the line has it."""
    if _TO_ESCAPE.search(path) is None:
        return b"", path
    name = path
    for byte, escape in _ESCAPES:
        name = name.replace(byte, escape)
    return b"\\", name


# --- Making lists ---


def sum_lines(
    names: Sequence[str], advance: Callable[[int], None] | None = None
) -> Iterator[bytes | tuple[str, Witness | FileError]]:
    """Yield what `sha256sum` prints for files, in order and in constant memory.

    Args:
        names: paths, or `-` for standard input.
        advance: called with the number of bytes after each piece of the work.

    Yields:
        The lines of some files, each with its end; or a name and what `witness_file` has for it,
        for what is no small file or could not be read at once.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for start in range(0, len(names), FILES_AT_ONCE):
        some = list(names[start : start + FILES_AT_ONCE])
        files = FileSums(some)
        sizes = files.measure()
        while files.take(SMALL_MOST, buffer, _STOP_NS) < len(some):
            pass
        taken = files.taken()
        if advance is not None:
            advance(sum(compress(sizes, taken)))
        done = 0
        for place, outcome in _others(some, sizes, taken, advance):
            if done < place:
                yield files.lines(done, place)
            yield some[place], outcome
            done = place + 1
        if done < len(some):
            yield files.lines(done, len(some))


def _others(
    names: Sequence[str],
    sizes: Sequence[int],
    taken: bytes,
    advance: Callable[[int], None] | None,
) -> Iterator[tuple[int, Witness | FileError]]:
    """Yield place and outcome of each file that is not taken."""
    left = [place for place, is_taken in enumerate(taken) if not is_taken]
    left_sizes = [sizes[place] for place in left]
    for (run,) in shares(left_sizes, 1):
        paths = [os.fsencode(names[left[index]]) for index in run]
        found = witness_files(paths, [left_sizes[index] for index in run], advance)
        yield from zip((left[index] for index in run), found, strict=True)


# --- Checking files ---

# With their 24 MiB of buffers, and results that wait for their turn, this is less than 64 MiB.
_THREADS_MOST: Final = 32
_AHEAD_BYTES: Final = 16 << 20
_ITEM_BYTES: Final = 512  # of an item without its name
# Descriptors of all threads together: a process may have 256 on some systems.
_OPEN_MOST: Final = 64
# Small, so that work on a list from a pipe begins with its first lines.
_LIST_CHUNK_BYTES: Final = 4 * WINDOW_BYTES
# After so long, native code comes back to Python, which sees Ctrl-C.
_STOP_NS: Final = 50_000_000

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


class _StopError(Exception):
    """The result for this file is no longer wanted."""


class _Share(NamedTuple):
    """Some of the next lines, for one thread.

    Attributes:
        items: the lines, or what is known already.
        sizes: of the file of each line; -1 where it has none.
        places: for each its place among the next lines.
        is_last: no other share has more of them.
    """

    items: "list[_Item | CheckedLine]"
    sizes: list[int]
    places: list[int]
    is_last: bool


# What is known of one or more lines, and its place among the next lines.
_Placed: TypeAlias = "tuple[int, _Item | CheckedLine | MatchedLines]"


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
    return _each(_lines_of(list_name, read))


def _lines_of(list_name: str, read: ReadLines) -> Iterator[tuple[int, _Found]]:
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
    buffers: list[memoryview] = []  # for each thread one, between two shares
    stopping = threading.Event()

    def advance_unless_stopped(count: int) -> None:
        if stopping.is_set():
            raise _StopError
        if advance is not None:
            advance(count)

    def find(lines: list[_Item], sizes: list[int]) -> list[CheckedLine]:
        paths = [line.listed.path for line in lines if line.listed is not None]
        found = witness_files(paths, sizes, advance_unless_stopped, open_most=open_most)
        return list(map(_checked, lines, found))

    def match(usual: _UsualLines) -> tuple[bool, list[_Placed]]:
        advance_unless_stopped(0)
        buffer = buffers.pop() if buffers else memoryview(bytearray(CHUNK_BYTES))
        matches = b""
        while len(matches) < len(usual.lines):
            more, size = usual.lines.check(len(matches), buffer, _STOP_NS)
            matches += more
            advance_unless_stopped(size)
        buffers.append(buffer)
        if 0 not in matches:
            return True, [(0, MatchedLines(*usual))]
        known = enumerate(MatchedLines(*usual).each())
        done: list[_Placed] = [placed for placed in known if matches[placed[0]]]
        # What does not match, or was not read, is read again, to say why.
        places = [place for place, good in enumerate(matches) if not good]
        items = list(usual.items())
        others = [items[place] for place in places]
        sizes = sizes_of([b"" if item.listed is None else item.listed.path for item in others])
        done += zip(places, find(others, sizes), strict=True)
        return True, done

    def work(share: _Share | _UsualLines) -> tuple[bool, list[_Placed]]:
        if isinstance(share, _UsualLines):
            return match(share)
        done: list[_Placed] = []
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

    count = min(thread_count(threads), _THREADS_MOST)
    open_most = max(1, min(CHAINS_MOST, _OPEN_MOST // count))
    results = parallel_map_ahead(
        work, _shares(items(), count), count, weight=_weight, ahead=_AHEAD_BYTES, stop=stopping.set
    )
    tally = _Tally()
    with closing(results):
        for result in _in_order(results):
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
) -> Iterator[_Share | _UsualLines]:
    """Yield all items in shares; those of some next lines follow one another.

    Usual lines whose files are all small are a share of their own.
    """
    some: list[_Item | CheckedLine] = []
    for item in items:
        if not isinstance(item, _UsualLines):
            some.append(item)
        elif item.lines.measure() <= SMALL_MOST:
            yield from _dealt(some, threads)
            yield item
            some = []
        else:
            some += item.items()
        if len(some) >= FILES_AT_ONCE:
            yield from _dealt(some[:FILES_AT_ONCE], threads)
            some = some[FILES_AT_ONCE:]
    yield from _dealt(some, threads)


def _dealt(some: list[_Item | CheckedLine], threads: int) -> Iterator[_Share]:
    sizes = sizes_of(
        [
            b"" if isinstance(item, CheckedLine) or item.listed is None else item.listed.path
            for item in some
        ]
    )
    for hands in shares(sizes, threads):
        for hand in hands:
            yield _Share(
                [some[place] for place in hand],
                [sizes[place] for place in hand],
                hand,
                hand is hands[-1],
            )


def _in_order(
    results: Iterable[tuple[bool, list[_Placed]]],
) -> Iterator[_Item | CheckedLine | MatchedLines]:
    """Yield the results of shares in the order of the lines."""
    waiting: list[_Placed] = []
    for is_last, some in results:
        waiting += some
        if is_last:
            waiting.sort(key=itemgetter(0))
            for _, result in waiting:
                yield result
            waiting.clear()


def _weight(share: _Share | _UsualLines) -> int:
    if isinstance(share, _UsualLines):
        return _ITEM_BYTES * len(share.lines) + _LIST_CHUNK_BYTES
    names = (0 if item.listed is None else len(item.listed.path) for item in share.items)
    return _ITEM_BYTES * len(share.items) + sum(names)
