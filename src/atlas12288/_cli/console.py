# SPDX-License-Identifier: Apache-2.0
"""Output shared by all commands: verdicts, errors, JSON, progress and the exit code."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, TextIO

import click

from .._files import expected_bytes
from .._files import shown as shown
from .._words import counted
from ..manifest._paths import to_json
from .version import PROGRAM

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from .._sidecars import WindowRange

_Decorator = Callable[[Callable[..., int]], Callable[..., int]]

# Exit codes. A greater one wins over a smaller one.
HOLDS: Final = 0
DOES_NOT_HOLD: Final = 1
COULD_NOT_CHECK: Final = 2
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count

# The forms of lists of digests that commands write and read; the first one is the default.
LIST_FORMS: Final = ("sha256sum", "bagit", "hashdeep", "rclone")

PROGRESS_AFTER_S: Final = 1.0
_TOLD_EVERY: Final = 100  # files, while they are listed
RANGES_SHOWN: Final = 20
# Fields with words. Every other text is a name, which may contain any bytes.
_WORDS: Final = ("error", "reason")


class _FileName(click.Path):
    """A file name. It is checked when it is read: click would refuse the whole command for one bad
    file, and looks at each."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        return os.fspath(value)


class FilesCommand(click.Command):
    """A command whose last argument is `files`, of which it takes as many as a shell can name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # click takes each argument off the front of a list, and all others move up: of 50,000 files
        # it took half the time of the run. It sees all to the last option, what may be its value,
        # and as many words as there are arguments, the last of them a file.
        last = max((place for place, arg in enumerate(args) if arg.startswith("-")), default=-1)
        stop = last + 2 + sum(isinstance(param, click.Argument) for param in self.params)
        seen, more = args[:stop], args[stop:]
        left = super().parse_args(ctx, seen)
        if more:
            ctx.params["files"] = (*(ctx.params["files"] or ()), *more)
        return left


file_name = _FileName()
files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=file_name)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_threads = partial(click.option, "--threads", metavar="N", type=click.IntRange(min=1))
threads_option = _threads(help="Hash with N threads.  [default: one per core]")
files_at_once_option = _threads(help="Read N files at once.  [default: one per core]")


def range_lines(
    ranges: Iterable["WindowRange"], count: int, windows: int, total: int, more: str = ""
) -> Iterator[str]:
    """Return lines of text that say where a file differs.

    Args:
        ranges: the first `RANGES_SHOWN` of them, or more.
        count: number of ranges.
        windows: number of windows that differ.
        total: number of windows.
        more: text about the ranges that are not shown.
    """
    from .._reports import range_words

    yield f"  windows  {windows} of {total} differ:"
    for each in islice(ranges, RANGES_SHOWN):
        yield f"           {range_words(each, '  ')}"
    if count > RANGES_SHOWN:
        yield f"           and {counted(count - RANGES_SHOWN, 'more range')}{more}"


def options_of(options: Sequence[_Decorator]) -> _Decorator:
    """Return what adds options to a command, in their order."""

    def add(command: Callable[..., int]) -> Callable[..., int]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def printable(text: str) -> str:
    """Return a text, or its form of one line if it cannot be printed as it is."""
    return text if text.isprintable() else shown(text)


def _as_json(fields: Mapping[str, object]) -> str:
    """Return fields as a JSON object without lone surrogates, which some JSON readers refuse.

    A name that is not UTF-8 is written as hex, under its key plus `Hex`, as in manifests.
    """
    import json

    return json.dumps(_whole(fields))


def _whole(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(_whole_field(str(key), each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return [_whole(each) for each in value]
    return value


def _whole_field(key: str, value: object) -> tuple[str, object]:
    if not isinstance(value, str):
        return key, _whole(value)
    if key in _WORDS:
        return key, value.encode("utf-8", "backslashreplace").decode()
    return to_json(key, value.encode("utf-8", "surrogateescape"))


def _printable(lines: bytes) -> bytes:
    """Return lines for a terminal, with unprintable characters escaped as in JSON."""
    text = lines.decode("utf-8", "surrogateescape")
    if text.isascii() and text.replace("\n", "").isprintable():
        return lines
    import json

    return "".join(
        each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text
    ).encode()


def complain(subject: str, reason: str) -> None:
    """Print one line to standard error."""
    click.echo(f"{PROGRAM}: {shown(subject)}: {reason}", err=True)


def bytes_to_read(names: Sequence[str]) -> int | None:
    """Return the total size of the files in bytes for the progress bar; None if it is not known, or
    not shown."""
    return expected_bytes(list(names)) if shows_progress() else None


def shows_progress() -> bool:
    """Return whether standard error is a terminal, which the progress bar needs."""
    return sys.stderr is not None and sys.stderr.isatty()


def _has_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Printer:
    """The output of one run of a command.

    Verdicts go to standard output, as lines or as one JSON object; errors and the progress bar to
    standard error. `code` is the exit code so far.

    The JSON object has `type`, `command`, the fields of the command, `holds` and `error`. A command
    that takes files one by one calls `item` for each: they are the list `files`.

    Args:
        command: its name.
        as_json: print JSON instead of lines.
        total: the bytes that will be read, for the progress bar; None if unknown.

    Attributes:
        as_json: as above.
        fields: the fields about all files together, beside `holds` and `counts`.
    """

    def __init__(self, command: str, as_json: bool, total: int | None) -> None:
        self.code = HOLDS
        self.colour = _has_colour(sys.stdout)
        self.fields: dict[str, object] = {"error": None}
        self.as_json = as_json
        self._command = command
        self._on_terminal = sys.stdout.isatty()
        self._is_whole = False  # is the JSON object complete?
        self._listed = 0
        self._items = self._failed = self._unreadable = self._without_verdict = 0
        self._bar = _ProgressBar(total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._bar.hide()
        if self.as_json and not self._is_whole and kind is None:
            if not self._items:
                self._begin_files()
            rest = {"holds": self._holds, "counts": self._counts()} | self.fields
            sys.stdout.write("\n], " + _as_json(rest).removeprefix("{") + "\n")

    @property
    def _holds(self) -> bool | None:
        if self._failed:
            return False
        return None if self._without_verdict or not self._items else True

    def _counts(self) -> dict[str, int]:
        return {"files": self._items, "failed": self._failed, "unreadable": self._unreadable}

    def advance(self, count: int) -> None:
        """Count `count` more bytes as read; any thread may call this."""
        self._bar.advance(count)

    def listed(self, count: int) -> None:
        """Show that `count` files were listed so far; the bytes to read are not known yet."""
        if count - self._listed >= _TOLD_EVERY:
            self._listed = count
            self._bar.listed(count)

    def expect(self, total: int) -> None:
        """Set the number of bytes that will be read, once all files were found."""
        self._bar.expect(total)

    def verdict(self, holds: bool) -> None:
        """Count a verdict for the exit code."""
        if not holds:
            self.code = max(self.code, DOES_NOT_HOLD)

    def undecided(self) -> None:
        """Count a missing verdict for the exit code; standard output tells it already."""
        self.code = COULD_NOT_CHECK

    def error(self, name: str, reason: str) -> None:
        """Print that something could not be checked, and count it for the exit code."""
        self.warning(name, reason)
        self.code = COULD_NOT_CHECK

    def warning(self, name: str, reason: str) -> None:
        """Print a message as `error` does, but leave the exit code as it is."""
        self._bar.make_way(sys.stderr)
        sys.stdout.flush()  # keeps the order if both streams are the same
        complain(name, reason)

    def line(self, text: str, good: bool | None = None, verdict: str = "", more: str = "") -> None:
        """Print one line of text (not with `as_json`).

        Args:
            text: the start of the line.
            good: colour of the verdict on a terminal: True green, False red, None none.
            verdict: the middle of the line.
            more: the end of the line.
        """
        if not self.as_json:
            if verdict and good is not None and self.colour:
                verdict = click.style(verdict, fg="green" if good else "red")
            self._bar.make_way(sys.stdout)
            sys.stdout.write(f"{text}{verdict}{more}\n")

    def raw_line(self, line: bytes) -> None:
        """Print one line of bytes, escaped only on a terminal (not with `as_json`)."""
        self.raw_lines(line + b"\n")

    def raw_lines(self, lines: bytes) -> None:
        """Print lines of bytes, each with its end, as `raw_line` does."""
        if not self.as_json:
            self._bar.make_way(sys.stdout)
            sys.stdout.buffer.write(_printable(lines) if self._on_terminal else lines)

    def raw(self, parts: Iterable[bytes]) -> None:
        """Write bytes unchanged; on a terminal, escape control characters."""
        self._bar.make_way(sys.stdout)
        sys.stdout.flush()
        sys.stdout.buffer.writelines(map(_printable, parts) if self._on_terminal else parts)

    def document(self, fields: Mapping[str, object]) -> None:
        """Print the JSON object of a command that has no list of files (only with `as_json`).

        Args:
            fields: its fields; `holds` and `error` are null if they are not given.
        """
        if self.as_json:
            head = self._head()
            whole = {**head, "holds": None, "error": None, **fields, **head}
            sys.stdout.write(_as_json(whole) + "\n")
            self._is_whole = True

    @contextmanager
    def item(self, name: str | None, fields: Mapping[str, object]) -> Iterator["Item"]:
        """Print an object of the list `files` when the block ends (only with `as_json`).

        An error in the block leaves the JSON as it is, without its end.

        Args:
            name: the file; None if there is none.
            fields: the other fields; they stay as they are unless the block changes them.
        """
        item = Item(name, dict(fields), self._begin_item if self.as_json else None)
        yield item
        item._end()
        verdict = item.fields.get("holds")
        self._failed += verdict is False
        self._without_verdict += verdict is None
        self._unreadable += verdict is None and item.fields.get("error") is not None

    def _begin_item(self) -> None:
        self._bar.make_way(sys.stdout)
        if not self._items:
            self._begin_files()
        sys.stdout.write(",\n" if self._items else "\n")
        self._items += 1

    def _begin_files(self) -> None:
        sys.stdout.write(_as_json(self._head()).removesuffix("}") + ', "files": [')

    def _head(self) -> dict[str, object]:
        from .._reports import JSON_TYPE

        return {"type": JSON_TYPE, "command": self._command}


class Item:
    """An object of the list `files`.

    Attributes:
        fields: its fields but the name, which may change until the block ends.
    """

    def __init__(
        self, name: str | None, fields: dict[str, object], begin: Callable[[], None] | None
    ) -> None:
        self.fields = fields
        self._name = name
        self._begin = begin
        self._list: str | None = None
        self._separator = ""

    def begin(self, key: str) -> None:
        """Begin a list too long to hold."""
        self._list = key
        if self._begin is not None:
            self._begin()
            head = _as_json({"file": self._name}).removesuffix("}")
            sys.stdout.write(f'{head}, "{key}": [')

    def extend(self, values: Iterable[int | Mapping[str, object]]) -> None:
        """Add integers, or objects of them, to the list that `begin` began."""
        if self._begin is not None:
            import json

            text = json.dumps(list(values)).removeprefix("[").removesuffix("]")
            if text:
                sys.stdout.write(self._separator + text)
                self._separator = ", "

    def _end(self) -> None:
        if self._begin is None:
            return
        if self._list is None:
            self._begin()
            sys.stdout.write(_as_json({"file": self._name} | self.fields))
        else:
            self.fields.pop(self._list, None)
            sys.stdout.write("], " + _as_json(self.fields).removeprefix("{"))


class _ProgressBar:
    """A bar with bytes per second on standard error, when that is a terminal.

    It appears after a second without a line on the same terminal: if lines come quickly, they show
    the progress.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._done = 0
        self._listing = False  # are files counted, not bytes?
        self._wanted = shows_progress()
        self._lock = threading.RLock()  # bytes are counted by the threads that read them
        self._appear_at = time.monotonic() + PROGRESS_AFTER_S
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, count: int) -> None:
        if not self._wanted:
            return
        with self._lock:
            self._done += count
            self._update()

    def listed(self, files: int) -> None:
        if not self._wanted:
            return
        with self._lock:
            self._listing = True
            self._done = files
            self._update()

    def expect(self, total: int) -> None:
        with self._lock:
            self.hide()
            self._listing = False
            self._total = total
            self._done = 0

    def _update(self) -> None:
        if self._progress is None and time.monotonic() >= self._appear_at:
            self._show()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done)

    def make_way(self, stream: TextIO | None) -> None:
        """Hide the bar before a line is written to the same terminal."""
        if self._wanted and stream is not None and stream.isatty():
            with self._lock:
                self.hide()
                self._appear_at = time.monotonic() + PROGRESS_AFTER_S

    def hide(self) -> None:
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns: tuple[ProgressColumn, ...] = (
            (SpinnerColumn(), TextColumn("{task.completed:,} files found"))
            if self._listing
            else (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        )
        self._progress = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            # Standard output is a stream of its own: the bar must not redirect it.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(
            "", total=None if self._listing else self._total, completed=self._done
        )
        self._progress.start()
