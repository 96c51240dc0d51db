# SPDX-License-Identifier: Apache-2.0
"""What must not change about paths that are left alone."""

from collections.abc import Iterable
from pathlib import Path


def facts(paths: Iterable[Path]) -> dict[Path, tuple[int, ...]]:
    """Return what the system says of each path itself, without the time of the last access: a
    reader may change it."""
    return {path: _facts(path) for path in paths}


def _facts(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return (
        *(status.st_dev, status.st_ino, status.st_mode, status.st_nlink, status.st_uid),
        *(status.st_gid, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
    )
