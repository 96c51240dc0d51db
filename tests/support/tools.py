# SPDX-License-Identifier: Apache-2.0
"""Programs of others that tests run: skip without one, or install it from Debian."""

import fcntl
import os
import shutil
import subprocess
from contextlib import ExitStack

import pytest

PACKAGES = {
    "cc": ("gcc", "libc6-dev"),
    "gcc": ("gcc", "libc6-dev"),
    "clang": ("clang", "libc6-dev"),
    "musl-gcc": ("musl-tools",),
    "cmake": ("cmake", "make"),
    "pkg-config": ("pkg-config",),
    "hashdeep": ("hashdeep",),
    "valgrind": ("valgrind", "libc6-dbg"),
    "aarch64-linux-gnu-gcc": ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
    "s390x-linux-gnu-gcc": ("gcc-s390x-linux-gnu", "libc6-dev-s390x-cross"),
    "qemu-aarch64": ("qemu-user",),
    "qemu-s390x": ("qemu-user",),
    "qemu-x86_64": ("qemu-user",),
}


def needs(tool: str) -> pytest.MarkDecorator:
    """Skip a test where the program is not installed, as on a machine with a C compiler alone."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def require(*tools: str) -> None:
    """Install what is missing of the tools from Debian as root; raise for any other user.

    Of several workers one looks and installs, and the others wait: two of apt-get fail.
    """
    with ExitStack() as stack:
        can_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
        if can_install:
            folder = os.open("/var/lib/apt", os.O_RDONLY)
            stack.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX)
        missing = [tool for tool in tools if shutil.which(tool) is None]
        packages = [package for tool in missing for package in PACKAGES[tool]]
        if missing and can_install:
            apt = ["apt-get", "--yes", "--quiet", "--no-install-recommends"]
            for command in ["update"], ["install", *packages]:
                subprocess.run([*apt, *command], check=True)
            missing = [tool for tool in missing if shutil.which(tool) is None]
    if missing:
        names = " ".join(packages)
        raise FileNotFoundError(f"missing: {' '.join(missing)}; Debian has them as: {names}")
