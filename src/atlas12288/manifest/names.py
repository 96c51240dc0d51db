# SPDX-License-Identifier: Apache-2.0
"""The names of a manifest and of what stands beside it: NAME.atlas.json, .leaves and .state."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SUFFIX: Final = ".atlas.json"
_LEAVES_SUFFIX: Final = ".atlas.leaves"
_STATE_SUFFIX: Final = ".atlas.state"
_SQLITE_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


def folder_of(manifest: str) -> str:
    """The folder that a manifest is of, by its name: `data` for `data.atlas.json`."""
    return manifest.removesuffix(".json").removesuffix(".atlas")


def leaves_name(manifest: str) -> str:
    """The sidecar of a manifest: `data.atlas.leaves` for `data.atlas.json`."""
    return folder_of(manifest) + _LEAVES_SUFFIX


def state_name(manifest: str) -> str:
    """Where the command line keeps the state of a manifest: `data.atlas.state` beside it."""
    return str(Path(folder_of(manifest) + _STATE_SUFFIX))


def state_files(state: str) -> tuple[str, ...]:
    """A state, and the files that SQLite keeps beside it."""
    return tuple(state + suffix for suffix in _SQLITE_SUFFIXES)
