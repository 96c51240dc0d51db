# SPDX-License-Identifier: Apache-2.0
"""The names of a manifest and of what stands beside it: NAME.atlas.json, .leaves and .state; and
which files of a folder are such ones."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from ..files import TEMPORARY

SUFFIX: Final = ".atlas.json"
_LEAVES_SUFFIX: Final = ".atlas.leaves"
_STATE_SUFFIX: Final = ".atlas.state"
_LOCAL_SCHEMES: Final = ("file", "local")
_SQLITE_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


def is_url(name: str) -> bool:
    """Is it the URL of a folder in some storage, and not a path?"""
    return "://" in name


def local_path(url: str) -> str | None:
    """The path that a URL of this machine names, as fsspec takes it: nothing in it is quoted; None
    for any other name."""
    scheme, separator, path = url.partition("://")
    return path if separator and scheme in _LOCAL_SCHEMES and "::" not in url else None


def folder_of(manifest: str) -> str | None:
    """The folder that a manifest is of, by its name: `data` for `data.atlas.json`; None where that
    names none."""
    name = manifest.removesuffix(SUFFIX)
    return None if name == manifest or not Path(name).name or name.endswith("/") else name


def leaves_name(witnesses: str) -> str:
    """The sidecar of a manifest or witness file: `data.atlas.leaves` for `data.atlas.json`, and
    `x.json.atlas.leaves` for `x.json`."""
    return witnesses.removesuffix(SUFFIX) + _LEAVES_SUFFIX


def state_name(manifest: str) -> str:
    """Where the command line keeps the state of a manifest, beside it as the leaves."""
    return str(Path(manifest.removesuffix(SUFFIX) + _STATE_SUFFIX))


def state_files(state: str) -> tuple[str, ...]:
    """A state, and the files that SQLite keeps beside it."""
    return tuple(state + suffix for suffix in _SQLITE_SUFFIXES)


class Outputs(NamedTuple):
    """What is written into a folder by those who witness or verify it, and is no part of it.

    Attributes:
        paths: relative to the folder.
        files: device and inode of files that are open and of which the names are not known.
        kept: paths that are part of the folder all the same.
    """

    paths: frozenset[bytes] = frozenset()
    files: frozenset[tuple[int, int]] = frozenset()
    kept: Container[bytes] = ()

    def has(self, path: bytes) -> bool:
        """Is it a path of one?"""
        return path in self.paths and path not in self.kept

    def has_file(self, path: bytes, status: os.stat_result) -> bool:
        """Is it a file of which the name is not known?"""
        identity = (status.st_dev, status.st_ino)
        return identity in self.files and path not in self.kept


NO_OUTPUTS: Final = Outputs()


def outputs_in(
    root: str, names: Iterable[str], files: frozenset[tuple[int, int]] = frozenset()
) -> Outputs:
    """What is written into a folder.

    Args:
        root: the folder; in a URL nothing is written.
        names: of what is written, there or elsewhere. What killed runs left beside it counts too.
        files: as in `Outputs`.
    """
    root = local_path(root) or root
    if is_url(root):
        return NO_OUTPUTS
    # Not resolve(), which fails on a loop of links.
    folder = Path(os.path.realpath(root))
    found = set()
    for name in names:
        # The place of a link, and that of what it leads to.
        around = Path(os.path.realpath(Path(name).parent))
        for path in (around / Path(name).name, Path(os.path.realpath(name))):
            if path.is_relative_to(folder):
                found.add(path)
                found.update(path.parent.glob(TEMPORARY))
    return Outputs(frozenset(os.fsencode(path.relative_to(folder)) for path in found), files)
