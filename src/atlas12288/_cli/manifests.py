# SPDX-License-Identifier: Apache-2.0
"""What `witness` and `verify` share for manifests: names, sources, options."""

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from .._files import STDIN
from .._words import counted as counted
from ..manifest._beside import SUFFIX, is_url
from .console import LIST_FORMS, file_name

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


def manifest_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of `witness` that are only for manifests; None, False or () if not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


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
    for name, value in options.items():
        if value:
            option = name.replace("_", "-")
            raise click.UsageError(
                f"--{option} is for manifests: of a folder, or with -o NAME{SUFFIX}"
            )
    return False


def is_folder(name: str) -> bool:
    """Return whether this is the path of a folder."""
    return name != STDIN and Path(name).is_dir()


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
