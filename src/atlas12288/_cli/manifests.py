# SPDX-License-Identifier: Apache-2.0
"""What `witness` and `verify` share for manifests: names, sources, options."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import click

from .._files import CHUNK_BYTES, STDIN, FileError, RegularFile
from .._subtree import window_count
from .._words import counted as counted
from ..manifest._beside import SUFFIX, is_url
from .console import (
    LIST_FORMS,
    FilesCommand,
    Printer,
    file_name,
    options_of,
    range_lines,
    shown,
)
from .file_kinds import MANIFEST, kind_of, require_kind
from .witness_files import errors_about, open_witnesses, read_whole

if TYPE_CHECKING:
    from ..manifest._differences import Difference, ManifestReport
    from ..manifest._manifest_file import Text

EVERYTHING: Final = "."  # the value of --accept without a path: the folder
# Of differences, in the order of the last line.
KINDS: Final = ("changed", "missing", "added", "moved", "unreadable")
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


allow_cache_option: Final = click.option(
    "--allow-cache",
    is_flag=True,
    help="For a manifest: allow URLs such as simplecache::s3://bucket, which read local copies.",
)
_FORMATS: Final = ("manifest", *LIST_FORMS)
_OPTIONS: Final = (
    click.option(
        "--exclude",
        metavar="RULE",
        multiple=True,
        help="For a manifest: leave out paths that match this gitignore rule; repeatable.",
    ),
    click.option(
        "--symlinks",
        type=click.Choice(("record", "follow", "error")),
        help="For a manifest: record the targets of symbolic links (default), follow links inside "
        "the folder, or refuse them.",
    ),
    click.option(
        "--links-below",
        metavar="DIR",
        multiple=True,
        type=file_name,
        help="For a manifest: let followed links lead below this folder too; repeatable.",
    ),
    click.option(
        "--no-flat",
        is_flag=True,
        help="For a manifest: with --tree, skip the SHA-256 of whole files, which uses one core.",
    ),
    click.option(
        "--update",
        is_flag=True,
        help="For a manifest: read only files whose size, modification time or ctime changed.",
    ),
    click.option(
        "--ignore-ctime",
        is_flag=True,
        help="For a manifest: with --update, do not read files whose ctime alone changed.",
    ),
    click.option(
        "--accept",
        metavar="[PATH]",
        multiple=True,
        type=file_name,
        help="For a manifest: take a file whose content changed while its size and time did not, "
        "or all such files without PATH; repeatable.",
    ),
    click.option(
        "--state",
        metavar="FILE",
        type=file_name,
        help="For a manifest: keep the state for --update and for resuming in this file.  "
        "[default: in your state folder]",
    ),
    allow_cache_option,
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="For a manifest: hash on the Dask cluster of this scheduler, such as tcp://host:8786.",
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(_FORMATS),
        help="For a manifest: write a manifest (default), a list for sha256sum -c, the "
        "manifest-sha256.txt of a bag with this payload folder, or a list of hashdeep or rclone.",
    ),
)


class AcceptCommand(FilesCommand):
    """Takes `--accept` without a path, at the end or before another option, as all files."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        named = ""
        for i, arg in enumerate(args[:end]):
            following = args[i + 1] if i + 1 < end else "-"
            if arg == "--accept" and following.startswith("-"):
                args[i] = f"--accept={EVERYTHING}"
            elif arg == "--accept":
                named = following
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if not named:
                raise
            raise click.UsageError(
                f"--accept took {shown(named)} as the file to accept, and no PATH is left: "
                "write --accept at the end"
            ) from error


# Adds the options of `witness` that are only for manifests; None, False or () if not given.
manifest_options: Final = options_of(_OPTIONS)


def is_wanted(paths: tuple[str, ...], output: str | None, options: dict[str, object]) -> bool:
    """Return whether to make one manifest instead of a witness of each file.

    Args:
        paths: the paths to witness.
        output: the value of -o.
        options: the options that `manifest_options` adds.

    Raises:
        click.UsageError: an option for manifests was given, but no manifest is wanted.
    """
    if output is not None and output.endswith(SUFFIX):
        return True
    if options["form"] is not None or any(is_url(path) or is_folder(path) for path in paths):
        return True
    require_none(options, f"of a folder, or with -o NAME{SUFFIX}")
    return False


def require_none(options: dict[str, object], where: str) -> None:
    """Refuse the options that `manifest_options` adds; `where` says where they belong.

    Raises:
        click.UsageError: one of them was given.
    """
    for name, value in options.items():
        if value:
            raise click.UsageError(f"--{name.replace('_', '-')} is for manifests: {where}")


def is_folder(name: str) -> bool:
    """Return whether this is the path of a folder."""
    return name != STDIN and os.path.isdir(name)  # noqa: PTH112 - pathlib takes 4 ms to import


def streams() -> frozenset[tuple[int, int]]:
    """Return device and inode of each file that standard output or standard error goes to.

    Printed output is not part of a folder's content either.
    """
    found = set()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or of no file
            status = os.fstat(stream.fileno())
            if stat.S_ISREG(status.st_mode):
                found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def amount(count: int) -> str:
    """Return a number of bytes in human-readable form: 999 B, 3.2 GB."""
    size, unit = float(count), 0
    while size >= 999.95 and unit < len(_UNITS) - 1:
        size /= 1000
        unit += 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def content(files: int, links: int, size: int) -> str:
    """Return the content of a manifest in words: 3 files, 1 link, 12 B.

    If there are only links, the text says that no content was read.
    """
    text = counted(files, "file")
    if links > 0:
        text += f", {counted(links, 'link')}"
    return f"{text}, {amount(size)}" if files > 0 else f"{text}; no content was read"


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Return how many differences there are of each kind: "1 changed, 0 missing, ..."; moved files
    are named where there are some."""
    return ", ".join(
        f"{counts[kind]:,} {kind}" for kind in KINDS if counts[kind] or kind != "moved"
    )


def more_of(difference: "Difference") -> str:
    """Return what follows the kind of a difference on its line."""
    if difference.moved_to is not None:
        return f" to {shown(os.fsdecode(difference.moved_to))}"
    return f", {difference.reason}" if difference.reason else ""


def show_difference(printer: Printer, difference: "Difference") -> None:
    """Print the lines of a difference, and count it for the exit code."""
    printer.verdict(False)
    name = shown(os.fsdecode(difference.path))
    printer.line(f"{name}: ", good=False, verdict=difference.kind, more=more_of(difference))
    show_windows(printer, difference)


def show_windows(printer: Printer, difference: "Difference") -> None:
    """Print which windows of a changed file differ, if they are known."""
    if difference.ranges is not None:
        total = window_count(max(difference.size or 0, difference.found_size or 0))
        counts = difference.range_count, difference.windows, total
        for line in range_lines(difference.ranges, *counts):
            printer.line(line)


def option_notes(report: "ManifestReport", before: str) -> Iterator[str]:
    """Yield sentences about a manifest that say what limits its comparison with another one.

    Args:
        report: of the comparison.
        before: the name of the other one.
    """
    for name, was, now in report.other_options:
        if name == "digests":
            both = ", ".join(each for each in now if each in was)
            yield (
                f"has the digests {', '.join(now)}, and {before} has {', '.join(was)}: "
                f"compared by {both}"
            )
        elif name == "symlinks":
            yield f"has --symlinks {now}, and {before} has --symlinks {was}"
        else:
            what = {"exclude": "rules", "paths": "paths", "links_below": "folders for links"}[name]
            yield f"has other {what} than {before}"
    if report.not_compared:
        paths = counted(report.not_compared, "path")
        yield f"{paths} not compared, because only one of the two manifests can have them"


def open_manifest(name: str, argument: str, stack: ExitStack) -> "Text":
    """Return the open file of a manifest, or its bytes where they can be read only once.

    Args:
        name: name of the file.
        argument: the argument that it was given for.
        stack: closes the file.

    Raises:
        FileError: not readable, or a file of another kind; it knows the file.
    """
    with errors_about(name):
        if is_folder(name):
            raise FileError("is a folder, must be a manifest")
        if name != STDIN and os.path.isfile(name):  # noqa: PTH113 - the same
            file = stack.enter_context(RegularFile(name))
            head = file.read(0, CHUNK_BYTES)
            require_kind(kind_of(name, head), name, argument, MANIFEST)
            return file
        kind, chunks = open_witnesses(name)
        require_kind(kind, name, argument, MANIFEST)
        from ..manifest._statement import MANIFEST_MOST_BYTES

        rule = f"a manifest of at most {MANIFEST_MOST_BYTES:,} bytes"
        return bytes(read_whole(chunks, MANIFEST_MOST_BYTES, rule))
