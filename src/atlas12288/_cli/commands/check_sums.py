# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 check-sums`."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

import click

from ..._files import STDIN, FileError, expected_bytes, is_pipe, read_chunks, witness_file
from ..._native import WINDOW_BYTES
from ..._parallel import parallel_map_ahead, thread_count
from ..._sums import Sum, read_sums, verdict_line
from ..console import Report, file_name, json_option, shown, shows_progress

# With the 24 MiB of as many buffers, and what waits for its turn, less than 64 MiB.
_THREADS_MOST: Final = 32
_AHEAD_BYTES: Final = 16 << 20
_ITEM_BYTES: Final = 512  # of an item without its name
# Small, so that the files at the beginning of a list that comes through a pipe are soon begun.
_LIST_CHUNK_BYTES: Final = 4 * WINDOW_BYTES

_MALFORMED: Final = "improperly formatted SHA256 checksum line"


class _Found(NamedTuple):
    """What was found under a name: a digest, or the reason why there is none."""

    digest: bytes | None
    error: str | None = None
    missing: bool = False


class _Line(NamedTuple):
    """A line of a list: `listed` is None where it is malformed, `found` before it was checked."""

    list_name: str
    number: int
    listed: Sum | None
    found: _Found | None = None


class _End(NamedTuple):
    """The end of a list, or the reason why it was not reached."""

    list_name: str
    malformed: int
    error: str | None


class _StopError(Exception):
    """Nobody waits for this file any more."""


def _find(path: bytes, advance: Callable[[int], None]) -> _Found:
    try:
        return _Found(witness_file(os.fsdecode(path), advance).digest)
    except FileError as error:
        return _Found(None, str(error), isinstance(error.__cause__, FileNotFoundError))


def _sums_of(list_name: str) -> Iterator[tuple[int, Sum | None]]:
    chunks = read_chunks(list_name, chunk_bytes=_LIST_CHUNK_BYTES, or_pipe=True)
    for number, listed in read_sums(chunks):
        # A list cannot hold its own sum; what is left of standard input would be taken for a file.
        itself = listed is not None and list_name == STDIN == os.fsdecode(listed.path)
        yield number, None if itself else listed


def _is_read_once(list_name: str) -> bool:
    try:
        return list_name == STDIN or is_pipe(Path(list_name).stat())
    except (OSError, ValueError):  # reading it will report it
        return False


def _expected_bytes(lists: tuple[str, ...]) -> int | None:
    """The bytes of all files in the lists, None where that cannot be known beforehand."""
    total = 0
    for list_name in lists:
        if _is_read_once(list_name):
            return None
        with suppress(FileError):  # reading it again will report it
            for _, listed in _sums_of(list_name):
                count = 0 if listed is None else expected_bytes([os.fsdecode(listed.path)])
                if count is None:
                    return None
                total += count
    return total


def _items(
    lists: tuple[str, ...], with_malformed: bool, find: Callable[[bytes], _Found]
) -> Iterator[_Line | _End]:
    for list_name in lists:
        malformed = 0
        reason = None
        try:
            for number, listed in _sums_of(list_name):
                if listed is None:
                    malformed += 1
                    if with_malformed:
                        yield _Line(list_name, number, None)
                elif listed.path == os.fsencode(STDIN):
                    # Here, one after another: two threads would share its bytes by chance.
                    yield _Line(list_name, number, listed, find(listed.path))
                else:
                    yield _Line(list_name, number, listed)
        except FileError as error:
            reason = str(error)
        yield _End(list_name, malformed, reason)


class _Verdicts:
    """Prints what was found, list by list."""

    def __init__(
        self,
        report: Report,
        *,
        quiet: bool,
        status: bool,
        strict: bool,
        warn: bool,
        ignore_missing: bool,
    ) -> None:
        self._report = report
        self._quiet = quiet or status
        self._silent = status
        self._strict = strict
        self._warn = warn and not status
        self._ignore_missing = ignore_missing
        self._to_terminal = sys.stdout.isatty()
        self._begin_list()

    def _begin_list(self) -> None:
        self._well_formed = self._matched = self._mismatched = self._unreadable = 0

    def line(self, line: _Line) -> None:
        """A line of the list, checked."""
        if line.listed is None or line.found is None:
            if self._warn:
                self._report.warning(line.list_name, f"{line.number}: {_MALFORMED}")
            self._item(line.list_name, line.number, error=_MALFORMED)
            return
        self._well_formed += 1
        path, found = line.listed.path, line.found
        if found.missing and self._ignore_missing:
            return
        holds = None
        if found.error is not None:
            self._unreadable += 1
            self._report.error(os.fsdecode(path), found.error)
            self._say(path, False, "FAILED open or read")
        else:
            holds = found.digest == line.listed.digest
            self._matched += holds
            self._mismatched += not holds
            self._report.verdict(holds)
            self._say(path, holds, "OK" if holds else "FAILED")
        self._item(line.list_name, line.number, line.listed, found.digest, holds, found.error)

    def end(self, end: _End) -> None:
        """The end of the list."""
        if end.error is not None:
            self._error(end.list_name, end.error)
        elif not self._well_formed:
            self._error(end.list_name, "no properly formatted SHA256 checksum lines found")
        else:
            self._sum_up(end.list_name, end.malformed)
            # The files of another list do not make up for it.
            if not self._matched + self._mismatched + self._unreadable:
                self._error(end.list_name, "no file was verified")
        self._begin_list()

    def _sum_up(self, list_name: str, malformed: int) -> None:
        if malformed and (self._strict or not self._silent):
            tell = self._report.error if self._strict else self._report.warning
            lines = "line is" if malformed == 1 else "lines are"
            tell(list_name, f"WARNING: {malformed} {lines} improperly formatted")
        for count, one, more, what in (
            (self._unreadable, "listed file", "listed files", "could not be read"),
            (self._mismatched, "computed checksum", "computed checksums", "did NOT match"),
        ):
            if count and not self._silent:
                things = one if count == 1 else more
                self._report.warning(list_name, f"WARNING: {count} {things} {what}")

    def _error(self, list_name: str, reason: str) -> None:
        self._report.error(list_name, reason)
        self._item(list_name, None, error=reason)

    def _say(self, path: bytes, good: bool, verdict: str) -> None:
        if self._silent or (good and self._quiet):
            return
        if self._to_terminal:  # a list from elsewhere must not write control characters to it
            self._report.line(f"{shown(os.fsdecode(path))}: ", good=good, verdict=verdict)
        else:
            self._report.raw_line(verdict_line(path, verdict))

    def _item(
        self,
        list_name: str,
        number: int | None,
        listed: Sum | None = None,
        found: bytes | None = None,
        holds: bool | None = None,
        error: str | None = None,
    ) -> None:
        self._report.item(
            {
                "list": list_name,
                "line": number,
                "file": None if listed is None else os.fsdecode(listed.path),
                "sha256": None if listed is None else listed.digest.hex(),
                "found": None if found is None else found.hex(),
                "holds": holds,
                "error": error,
            }
        )


@click.command(
    "check-sums",
    short_help="Check files against lists of sha256sum.",
    epilog="""\b
Examples:
  atlas12288 check-sums SHA256SUMS
  atlas12288 check-sums --ignore-missing --quiet SHA256SUMS
  gpg --decrypt SHA256SUMS.asc | atlas12288 check-sums --strict -

\b
Exit codes: 0 all files match; 1 a file does not match; 2 a file or a list could not be read, a
list has no sum, none of its files is there (--ignore-missing), a line is not a sum (--strict).
sha256sum -c has 1 where this has 1 or 2.""",
)
@click.argument("files", metavar="[FILE...]", nargs=-1, type=file_name)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing for a file that matches.")
@click.option("--status", is_flag=True, help="Print nothing but errors: the exit code says it.")
@click.option("--strict", is_flag=True, help="Exit with 2 if a line is improperly formatted.")
@click.option("-w", "--warn", is_flag=True, help="Name each line that is improperly formatted.")
@click.option(
    "--ignore-missing", is_flag=True, help="Pass over files that are not there; one must be."
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="How many files are read at once; one for each core if not given.",
)
@json_option
def command(
    files: tuple[str, ...],
    quiet: bool,
    status: bool,
    strict: bool,
    warn: bool,
    ignore_missing: bool,
    threads: int | None,
    as_json: bool,
) -> int:
    """Check the files in each FILE, a list that sha256sum or atlas12288 sum has written.

    Takes what sha256sum -c takes, and prints the same lines in the order of the list, but reads as
    many files at once as there are cores. Names are relative to the current folder. Without FILE,
    or where it is -, the list is standard input.
    """
    if not files:
        if sys.stdin is not None and sys.stdin.isatty():
            raise click.UsageError("FILE is needed, or a list on standard input")
        files = (STDIN,)
    if as_json and (quiet or status):
        raise click.UsageError("--json prints every verdict: not with --quiet or --status")
    stopping = threading.Event()
    with Report(as_json, _expected_bytes(files) if shows_progress() else None) as report:

        def advance(count: int) -> None:
            if stopping.is_set():
                raise _StopError
            report.advance(count)

        def find(path: bytes) -> _Found:
            return _find(path, advance)

        def check(item: _Line | _End) -> _Line | _End:
            if isinstance(item, _End) or item.listed is None or item.found is not None:
                return item
            return item._replace(found=find(item.listed.path))

        verdicts = _Verdicts(
            report,
            quiet=quiet,
            status=status,
            strict=strict,
            warn=warn,
            ignore_missing=ignore_missing,
        )
        results = parallel_map_ahead(
            check,
            _items(files, as_json or warn, find),
            min(thread_count(threads), _THREADS_MOST),
            weight=_weight,
            ahead=_AHEAD_BYTES,
            stop=stopping.set,
        )
        with closing(results):
            for item in results:
                if isinstance(item, _End):
                    verdicts.end(item)
                else:
                    verdicts.line(item)
    return report.code


def _weight(item: _Line | _End) -> int:
    listed = None if isinstance(item, _End) else item.listed
    return _ITEM_BYTES + (0 if listed is None else len(listed.path))
