# SPDX-License-Identifier: Apache-2.0
"""Interpret the arguments of `Manifest`: folders, URLs, paths below them, files to write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._beside import is_url, local_path
from ._hashing import engine
from ._hashing.engine import HashFiles
from ._paths import canonical_paths
from ._sources.folder import Folder
from ._sources.source import Source

if TYPE_CHECKING:
    from distributed import Client

Name = str | os.PathLike[str]


def open_source(
    root: Name,
    storage_options: Mapping[str, Any] | None = None,
    *,
    allow_cache: bool = False,
) -> Source:
    """Return the source for a folder or a URL.

    Args:
        root: the path of a folder, or a URL, which contains "://".
        storage_options: passed to fsspec, for a URL.
        allow_cache: for a URL such as `simplecache::s3://bucket`, read the copies on this machine.

    Raises:
        FileError: the folder does not exist.
        ImportError: the extra for URLs is not installed.
        ValueError: storage_options or allow_cache was given for a folder.
    """
    local = local_path(root) if isinstance(root, str) else None
    if isinstance(root, str) and local is None and is_url(root):
        from ._sources.remote import RemoteFolder

        return RemoteFolder(root, allow_cache=allow_cache, **(storage_options or {}))
    # file:// names a folder of this machine: links and the files of the run are treated as there.
    if storage_options:
        raise ValueError(f"storage_options is {storage_options!r}, must be None for a folder")
    if allow_cache:
        raise ValueError("allow_cache is True, must be False for a folder")
    if local is not None and Path(local).is_file():
        around, name = os.path.split(local)
        return Folder(around or ".", only=os.fsencode(name))
    return Folder(root if local is None else local or ".")


def root_and_paths(
    paths: Name | Sequence[Name], root: Name | None
) -> tuple[Name, tuple[bytes, ...]]:
    """Return the folder that `Manifest.generate` reads, and the paths below it.

    Raises:
        WitnessError: a path leads out of the folder.
        ValueError, TypeError: `paths` is empty, or neither a path nor several paths.
    """
    if isinstance(paths, str | os.PathLike):
        if root is None:
            return paths, ()
        paths = [paths]
    if isinstance(paths, bytes) or not isinstance(paths, Sequence):
        raise TypeError(f"paths is of type {type(paths).__name__}, must be a path or several")
    if not paths:
        raise ValueError("paths is empty, must have at least one")
    return "." if root is None else root, canonical_paths(map(os.fsencode, paths), "path")


def local_files(**names: Name | None) -> dict[str, str]:
    """Return the local file names by argument, without arguments that are None.

    Raises:
        ValueError: a name is a URL, or two names are the same file.
    """
    texts: dict[str, str] = {}
    for argument, name in names.items():
        if name is None:
            continue
        text = os.fspath(name)
        if is_url(text):
            raise ValueError(f"{argument} is {text!r}, must be a file of this machine, not a URL")
        for other, before in texts.items():
            if os.path.realpath(before) == os.path.realpath(text):
                raise ValueError(f"{argument} is {text!r}, must be another file than {other}")
        texts[argument] = text
    return texts


def hasher(threads: int | None = None, client: Client | None = None) -> HashFiles:
    """Return the function that reads and hashes the files of a run.

    Args:
        threads: how many threads read and hash; None for as many as suit the source.
        client: a Dask cluster that does it instead; None for this process.

    Raises:
        ImportError: an extra that is needed is not installed.
    """
    if client is None:
        return partial(engine.hash_files, threads=threads)
    from ._hashing import cluster

    return partial(cluster.hash_files, client=client, threads=threads)
