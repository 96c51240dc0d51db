# SPDX-License-Identifier: Apache-2.0
"""The kernels for GPUs that this build has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CUDA = (2, 13)  # DLPack's types of devices that they run on: own memory, and managed memory


def ptx_folder() -> Path:
    """Return the folder with a text for each kernel, which the driver compiles."""
    from pathlib import Path  # here: all trees import this module

    return Path(__file__).parent / "ptx"


def gpu_kernels() -> tuple[str, ...]:
    """Return the names of the kernels for GPUs of this build: none if its LLVM wrote no PTX."""
    return tuple(sorted(path.stem for path in ptx_folder().glob("*.ptx")))
