# SPDX-License-Identifier: Apache-2.0
"""Print the SHA-256 sums of files, as `sha256sum` does."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import compress
from typing import NamedTuple, TypeAlias

from ._files import FileError
from ._many_files import SMALL_MOST, STOP_NS, FileCrew, Found, Known, measured, shares, weight_of
from ._native import FileSums

# Lines of some files, each with its end, or what there is for a file without a line.
Printed: TypeAlias = bytes | Known


class _Share(NamedTuple):
    """Some of the files that are looked at together, for one thread.

    Attributes:
        names, sizes: of all that are looked at together.
        files: these, if the thread takes the small ones of them.
        places: those that the thread takes.
        is_last: no other share has more of them.
    """

    names: list[str | Known]
    sizes: list[int]
    files: FileSums | None
    places: list[int]
    is_last: bool


def sum_lines(
    names: Iterable[str | FileError],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Generator[Printed, None, None]:
    """Yield what `sha256sum` prints for files, in order and in constant memory.

    Close it if not all is taken.

    Args:
        names: paths, or `-` for standard input; or errors, which are given in their places.
        threads, advance: as for `FileCrew`.

    Yields:
        The lines of some files, each with its end; or a name and what `witness_file` has for it,
        for what is no small file or could not be read at once.

    Raises:
        TypeError, ValueError: as `FileCrew`.
    """
    crew = FileCrew(threads, advance)

    def work(share: _Share) -> Found[Printed]:
        done: list[tuple[int, Printed]] = []
        places = share.places
        if share.files is not None:
            taken = _taken(share.files, crew)
            crew.advance(sum(compress(share.sizes, taken)))
            done += _lines(share.files, taken)
            places = [place for place in places if not taken[place]]
        known = [(place, share.names[place]) for place in places]
        done += [(place, each) for place, each in known if isinstance(each, Known)]
        others = [(place, each) for place, each in known if isinstance(each, str)]
        found = crew.witnesses(
            [os.fsencode(name) for _, name in others], [share.sizes[place] for place, _ in others]
        )
        done += [
            (place, Known(name, outcome))
            for (place, name), outcome in zip(others, found, strict=True)
        ]
        return share.is_last, done

    return crew.in_order(_shares(names, crew), work, _weight)


def _shares(names: Iterable[str | FileError], crew: FileCrew) -> Iterator[_Share]:
    for some in crew.named(names):
        files, sizes = _measured(some)
        runs = list(shares(sizes, crew.threads))
        if len(runs) == 1:
            yield from _of_run(some, files, sizes, runs[0])
            continue
        first = 0  # there are many large files among them
        for hands in runs:
            stop = first + sum(map(len, hands))
            run = some[first:stop]
            own = [[place - first for place in hand] for hand in hands]
            yield from _of_run(run, *_measured(run), own)
            first = stop


def _of_run(
    names: list[str | Known], files: FileSums, sizes: list[int], hands: list[list[int]]
) -> Iterator[_Share]:
    for hand in hands:
        has_small = any(sizes[place] <= SMALL_MOST for place in hand)
        yield _Share(names, sizes, files if has_small else None, hand, hand is hands[-1])


def _measured(names: list[str | Known]) -> tuple[FileSums, list[int]]:
    """Return files with their sizes; what is known already is none."""
    files = FileSums([each if isinstance(each, str) else "" for each in names])
    return files, measured(files)


def _taken(files: FileSums, crew: FileCrew) -> bytes:
    """Read and hash the small files; return 1 for each that has its digest, else 0."""
    with crew.buffer() as buffer:
        while files.take(SMALL_MOST, buffer, STOP_NS) < len(files):
            crew.advance(0)
    return files.taken()


def _lines(files: FileSums, taken: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of files that follow one another, with the place of the first one."""
    start = 0
    while (start := taken.find(1, start)) >= 0:
        stop = taken.find(0, start)
        stop = len(taken) if stop < 0 else stop
        yield start, files.lines(start, stop)
        start = stop


def _weight(share: _Share) -> int:
    return weight_of([share.names[place] for place in share.places])
