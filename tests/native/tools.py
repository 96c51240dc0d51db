# SPDX-License-Identifier: Apache-2.0
"""The tools that these tests need, and the Debian packages that have them."""

import os
import shutil
import subprocess

PACKAGES = {
    "cc": ("gcc", "libc6-dev"),
    "gcc": ("gcc", "libc6-dev"),
    "clang": ("clang", "libc6-dev"),
    "musl-gcc": ("musl-tools",),
    "cmake": ("cmake", "make"),
    "pkg-config": ("pkg-config",),
    "valgrind": ("valgrind", "libc6-dbg"),
    "aarch64-linux-gnu-gcc": ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
    "s390x-linux-gnu-gcc": ("gcc-s390x-linux-gnu", "libc6-dev-s390x-cross"),
    "qemu-aarch64": ("qemu-user",),
    "qemu-s390x": ("qemu-user",),
    "qemu-x86_64": ("qemu-user",),
}


def require(*tools: str) -> None:
    """Makes sure that the tools are there: root gets them from Debian, any other user is told."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    packages = [package for tool in missing for package in PACKAGES[tool]]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        apt = ["apt-get", "--yes", "--quiet", "--no-install-recommends"]
        for command in ["update"], ["install", *packages]:
            subprocess.run([*apt, *command], check=True)
        missing = [tool for tool in missing if shutil.which(tool) is None]
    if missing:
        names = " ".join(packages)
        raise FileNotFoundError(f"missing: {' '.join(missing)}; Debian has them as: {names}")
