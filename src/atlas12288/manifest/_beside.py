# SPDX-License-Identifier: Apache-2.0
"""The names of a manifest and its leaves, NAME.atlas.json and NAME.atlas.leaves, and how outputs in
a witnessed folder are recognised."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable
from contextlib import suppress
from typing import Final

from .._files import FileError, RegularFile

SUFFIX: Final = ".atlas.json"
LEAVES_SUFFIX: Final = ".atlas.leaves"
_STATE_SUFFIX: Final = ".atlas.state"
_LOCAL_SCHEMES: Final = ("file", "local")


def is_url(name: str) -> bool:
    """Return whether a name is a URL rather than a path."""
    return "://" in name


def local_path(url: str) -> str | None:
    """Return the path of a URL for local files; None for any other name.

    As in fsspec, the URL is not percent-decoded.
    """
    scheme, separator, path = url.partition("://")
    return path if separator and scheme in _LOCAL_SCHEMES and "::" not in url else None


def folder_of(manifest: str) -> str | None:
    """Return the folder of a manifest by its name: `data` for `data.atlas.json`, or None if the
    name does not imply one."""
    from pathlib import Path  # here, as below: runs over single files need none

    name = manifest.removesuffix(SUFFIX)
    return None if name == manifest or not Path(name).name or name.endswith("/") else name


def leaves_name(witnesses: str) -> str:
    """Return the sidecar of a manifest or witness file: `data.atlas.leaves` for `data.atlas.json`,
    `x.json.atlas.leaves` for `x.json`."""
    return witnesses.removesuffix(SUFFIX) + LEAVES_SUFFIX


def state_name(manifest: str) -> str:
    """Return where earlier versions kept the state of a manifest."""
    from pathlib import Path

    return str(Path(manifest.removesuffix(SUFFIX) + _STATE_SUFFIX))


class Outputs:
    """Files in a folder that are left out, because witnessing or verifying writes them.

    Only regular files are left out, and only the file that was opened (device and inode), at the
    path where it was opened. A folder, link or FIFO of the same name, and another name of the same
    file, are listed like any other.

    Args:
        root: the folder; a URL has no outputs.
        streams: device and inode of open files with unknown names.

    Attributes:
        kept: paths that are not left out although they are outputs.
        left_out: the paths that were left out.
    """

    def __init__(self, root: str = "", streams: Iterable[tuple[int, int]] = ()) -> None:
        self._root = root
        # By device and inode, the paths at which it is left out; None: at any.
        self._files: dict[tuple[int, int], frozenset[bytes] | None] = dict.fromkeys(streams)
        self.kept: Container[bytes] = ()
        self.left_out: set[bytes] = set()

    def add(self, name: str, status: os.stat_result) -> None:
        """Leave out a file that was opened.

        Args:
            name: the name that it was opened by, in the folder or elsewhere.
            status: its status when it was opened.
        """
        identity = (status.st_dev, status.st_ino)
        if (paths := paths_in(self._root, name)) and stat.S_ISREG(status.st_mode):
            known = self._files.get(identity, frozenset())
            self._files[identity] = None if known is None else known | paths

    @property
    def files(self) -> list[tuple[int, int]]:
        """Device and inode of each file that may be left out."""
        return list(self._files)

    def has_file(self, path: bytes, status: os.stat_result) -> bool:
        """Return whether a file is left out; if so, record its path."""
        if not self._files:
            return False
        known = self._files.get((status.st_dev, status.st_ino), frozenset())
        if (known is not None and path not in known) or path in self.kept:
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        self.left_out.add(path)
        return True


def paths_in(root: str, name: str) -> frozenset[bytes]:
    """Return the paths of a file that are in a folder.

    They are its own path and, for a symbolic link, the path of its target.
    """
    from pathlib import Path

    root = local_path(root) or root
    if not root or is_url(root):
        return frozenset()
    # Not resolve(), which fails on a loop of links.
    folder = Path(os.path.realpath(root))
    parent = Path(os.path.realpath(Path(name).parent))
    places = (parent / Path(name).name, Path(os.path.realpath(name)))
    return frozenset(
        os.fsencode(place.relative_to(folder)) for place in places if place.is_relative_to(folder)
    )


def outputs_in(root: str, names: Iterable[str], streams: Iterable[tuple[int, int]] = ()) -> Outputs:
    """Return the outputs that are in a folder.

    Args:
        root: the folder.
        names: names of the outputs, in the folder or elsewhere.
        streams: as for `Outputs`.
    """
    outputs = Outputs(root, streams)
    for name in names:
        with suppress(FileError), RegularFile(name) as file:
            outputs.add(name, file.status)
    return outputs
