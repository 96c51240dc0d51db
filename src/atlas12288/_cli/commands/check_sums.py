# SPDX-License-Identifier: Apache-2.0
"""`atlas12288 check-sums`."""

import os
import sys
from contextlib import closing, suppress
from pathlib import Path

import click

from ..._check_sums import (
    MALFORMED,
    CheckedLine,
    CheckedList,
    MatchedLines,
    check,
    sums_of,
)
from ..._files import STDIN, FileError, expected_bytes, is_pipe
from ..._list_forms import SHA256SUM, reader
from ..._sums import ReadLines, verdict_line
from ..._words import word
from ..console import (
    COULD_NOT_CHECK,
    LIST_FORMS,
    Printer,
    file_name,
    files_at_once_option,
    json_option,
    shown,
    shows_progress,
)


def _is_read_once(list_name: str) -> bool:
    try:
        return list_name == STDIN or is_pipe(Path(list_name).stat())
    except (OSError, ValueError):  # reading it will report it
        return False


def _expected_bytes(lists: tuple[str, ...], read: ReadLines) -> int | None:
    """Return the total bytes of the files in the lists; None if that cannot be known beforehand."""
    total = 0
    for list_name in lists:
        if _is_read_once(list_name):
            return None
        with suppress(FileError):  # reading it again will report it
            for _, listed in sums_of(list_name, read):
                count = 0 if listed is None else expected_bytes([os.fsdecode(listed.path)])
                if count is None:
                    return None
                total += count
    return total


class _Verdicts:
    """Prints what was found, list by list."""

    def __init__(
        self,
        printer: Printer,
        *,
        as_json: bool,
        quiet: bool,
        status: bool,
        strict: bool,
        warn: bool,
    ) -> None:
        self._printer = printer
        self._as_json = as_json
        self._quiet = quiet or status
        self._silent = status
        self._strict = strict
        self._warn = warn and not status
        self._to_terminal = sys.stdout.isatty()

    def line(self, line: CheckedLine) -> None:
        """Print a line of a list."""
        if line.listed is None:
            if self._warn:
                self._printer.warning(line.list_name, f"{line.number}: {MALFORMED}")
        elif line.error is not None:
            self._printer.error(os.fsdecode(line.listed.path), line.error)
            self._say(line.listed.path, False, "FAILED open or read")
        else:
            holds = line.holds is True
            if not holds:
                self._printer.verdict(False)
            self._say(line.listed.path, holds, "OK" if holds else "FAILED")
        if self._as_json:
            self._item(line)

    def lines(self, matched: MatchedLines) -> None:
        """Print lines of a list whose files match."""
        if self._as_json or self._to_terminal:
            for line in matched.each():
                self.line(line)
        elif not self._quiet:
            self._printer.raw_lines(matched.lines.verdicts(b"OK"))

    def end(self, end: CheckedList) -> None:
        """Print the summary of a list."""
        if end.is_read:
            self._sum_up(end)
        if end.error is not None:
            self._error(end.list_name, end.error)

    def _sum_up(self, end: CheckedList) -> None:
        if end.malformed and (self._strict or not self._silent):
            tell = self._printer.error if self._strict else self._printer.warning
            lines = f"{end.malformed} {word(end.malformed, 'line is', 'lines are')}"
            tell(end.list_name, f"WARNING: {lines} improperly formatted")
        for count, thing, what in (
            (end.unreadable, "listed file", "could not be read"),
            (end.mismatched, "computed checksum", "did NOT match"),
        ):
            if count and not self._silent:
                text = f"WARNING: {count} {word(count, thing)} {what}"
                self._printer.warning(end.list_name, text)

    def _error(self, list_name: str, reason: str) -> None:
        self._printer.error(list_name, reason)
        fields = {"list": list_name, "line": None, "sha256": None, "found": None, "holds": None}
        with self._printer.item(None, fields | {"error": reason}):
            pass

    def _say(self, path: bytes, good: bool, verdict: str) -> None:
        if self._silent or (good and self._quiet):
            return
        if self._to_terminal:  # a stranger's list must not send it control characters
            self._printer.line(f"{shown(os.fsdecode(path))}: ", good=good, verdict=verdict)
        else:
            self._printer.raw_line(verdict_line(path, verdict))

    def _item(self, line: CheckedLine) -> None:
        listed = line.listed
        fields = {
            "list": line.list_name,
            "line": line.number,
            "sha256": None if listed is None else listed.digest.hex(),
            "found": None if line.digest is None else line.digest.hex(),
            "holds": line.holds,
            "error": line.error,
        }
        with self._printer.item(None if listed is None else os.fsdecode(listed.path), fields):
            pass


@click.command(
    "check-sums",
    short_help="Check files against lists of sha256sum, BagIt, hashdeep.",
    epilog="""\b
Examples:
  atlas12288 check-sums SHA256SUMS
  atlas12288 check-sums --ignore-missing --quiet SHA256SUMS
  gpg --decrypt SHA256SUMS.asc | atlas12288 check-sums --strict -
  atlas12288 check-sums --format bagit bag/manifest-sha256.txt

Exit codes: 0 all files match; 1 a file does not match; 2 a file or a LIST could not be read, a LIST
has no digest, none of its files exists (--ignore-missing), or a line is improperly formatted
(--strict, or another --format than sha256sum). sha256sum -c exits with 1 in the cases of 1 and
2.""",
)
@click.argument("lists", metavar="[LIST...]", nargs=-1, type=file_name)
@click.option("-q", "--quiet", is_flag=True, help="Print no line for files that match.")
@click.option("--status", is_flag=True, help="Print only errors; the exit code is the result.")
@click.option("--strict", is_flag=True, help="Exit with 2 if a line is improperly formatted.")
@click.option("-w", "--warn", is_flag=True, help="Name each line that is improperly formatted.")
@click.option(
    "--ignore-missing", is_flag=True, help="Skip files that do not exist; at least one must."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(LIST_FORMS),
    default=SHA256SUM,
    help="Read a list of sha256sum (default), the manifest-sha256.txt of a bag, whose names are "
    "relative to it, or a list of hashdeep or rclone.",
)
@files_at_once_option
@json_option
def command(
    lists: tuple[str, ...],
    quiet: bool,
    status: bool,
    strict: bool,
    warn: bool,
    ignore_missing: bool,
    form: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Check the files in each LIST, as sha256sum -c does.

    LIST is made by sha256sum or by atlas12288 sum. The output has the same lines as sha256sum -c,
    in the order of the list, but files are read in parallel. Names are relative to the current
    folder. Without LIST, or if LIST is -, the list is read from standard input.
    """
    if not lists:
        if sys.stdin is not None and sys.stdin.isatty():
            raise click.UsageError("LIST is needed, or a list on standard input")
        lists = (STDIN,)
    if as_json and (quiet or status):
        raise click.UsageError("--json prints every verdict: not with --quiet or --status")
    read = reader(form)
    # Other forms have no malformed lines by habit: one is a file that nobody checked.
    strict = strict or form != SHA256SUM
    total = _expected_bytes(lists, read) if shows_progress() else None
    with Printer("check-sums", as_json, total) as printer:
        verdicts = _Verdicts(
            printer, as_json=as_json, quiet=quiet, status=status, strict=strict, warn=warn
        )
        results = check(
            lists,
            threads=threads,
            ignore_missing=ignore_missing,
            with_malformed=as_json or warn,
            read=read,
            advance=printer.advance,
        )
        differs = False
        with closing(results):
            for result in results:
                if isinstance(result, CheckedList):
                    differs = differs or result.mismatched > 0
                    verdicts.end(result)
                elif isinstance(result, MatchedLines):
                    verdicts.lines(result)
                else:
                    verdicts.line(result)
        # Malformed lines have no verdict, and count only with --strict.
        undecided = None if printer.code == COULD_NOT_CHECK else True
        printer.fields["holds"] = False if differs else undecided
    return printer.code
