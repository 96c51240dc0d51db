# SPDX-License-Identifier: Apache-2.0
"""What the tests of faults share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounts import keep_mounts_private, mount_disk


@pytest.fixture(scope="session")
def private_mounts() -> None:
    """Mounts that are gone when the tests end, however they end."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    try:
        keep_mounts_private()
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk can be mounted here: {error.stderr}")


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest, private_mounts: None) -> Iterator[Path]:
    """A disk of the `DISK_BYTES` of the module."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount_disk(folder, request.module.DISK_BYTES)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk can be mounted here: {error.stderr}")
    yield folder
    subprocess.run(("umount", str(folder)), check=True)
