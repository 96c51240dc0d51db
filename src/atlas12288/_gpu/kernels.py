# SPDX-License-Identifier: Apache-2.0
"""The kernels for GPUs that this build has."""

from __future__ import annotations

from pathlib import Path

PTX = Path(__file__).parent / "ptx"  # a text for each kernel, which the driver compiles
CUDA = (2, 13)  # DLPack's types of devices that they run on: own memory, and managed memory


def gpu_kernels() -> tuple[str, ...]:
    """Return the names of the kernels for GPUs of this build: none if its LLVM wrote no PTX."""
    return tuple(sorted(path.stem for path in PTX.glob("*.ptx")))
