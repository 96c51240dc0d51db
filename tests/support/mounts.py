# SPDX-License-Identifier: Apache-2.0
"""Disks for tests that fill them."""

import ctypes
import os
import subprocess
from pathlib import Path

CLONE_NEWNS = 0x00020000  # of linux/sched.h


def keep_mounts_private() -> None:
    """Give the calling thread, and the processes that it starts from now on, mounts of their own.

    What they mount is seen by nobody else, and the system drops it when the last of them ends. So
    nothing stays mounted when the tests are killed and cannot unmount it.

    Raises OSError where the system refuses, and CalledProcessError where mounts stay shared.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        reason = ctypes.get_errno()
        raise OSError(reason, os.strerror(reason))
    command = ("mount", "--make-rprivate", "/")
    subprocess.run(command, capture_output=True, text=True, check=True)


def mount_disk(folder: Path, size: int) -> None:
    """Mount an empty disk of `size` bytes on a folder.

    Raises CalledProcessError where the system refuses.
    """
    command = ("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    subprocess.run(command, capture_output=True, text=True, check=True)
