# SPDX-License-Identifier: Apache-2.0
"""Plots with matplotlib: the same on every machine, and marked so that we recognise our own.

matplotlib reads `matplotlibrc` in the current folder before any other, and that folder may be a
stranger's. Up to 3.10 it even ran code from there. Here it never finds one.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from ..._files import RegularFile
from ..._outputs import OutputKind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARK: Final = "atlas12288"
_HEAD_BYTES: Final = 4096
_TAIL_BYTES: Final = 1 << 20  # behind the mark in a PDF are 20 bytes for each of its objects
# Where the mark stands. matplotlib writes neither time nor version then: equal pictures are equal.
_METADATA: Final = {
    "png": {"Software": _MARK},
    "svg": {"Creator": _MARK, "Date": None},
    "pdf": {"Creator": _MARK, "Producer": None, "CreationDate": None},
}
# By image format: the first bytes of a file, and our mark near its start or end.
_SIGNS: Final = {
    "png": (b"\x89PNG\r\n\x1a\n", f"tEXtSoftware\0{_MARK}".encode()),
    "svg": (b"<?xml", f"<dc:title>{_MARK}</dc:title>".encode()),
    "pdf": (b"%PDF-", f"/Creator ({_MARK})".encode()),
}
IMAGE_FORMATS: Final = tuple(_SIGNS)


def format_of(name: str) -> str:
    """Return the image format that the name of a picture asks for."""
    return Path(name).suffix.lower().removeprefix(".")


def picture_at(name: str) -> OutputKind:
    """Return the kind of file that a plot with this name may replace."""
    image_format = format_of(name)
    begin, mark = _SIGNS[image_format]

    def is_ours(file: RegularFile) -> bool:
        head = file.read(0, _HEAD_BYTES)
        tail = file.read(max(0, file.size - _TAIL_BYTES), _TAIL_BYTES)
        return head.startswith(begin) and (mark in head or mark in tail)

    return OutputKind(f"picture ({image_format}) that {_MARK} drew", is_ours)


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with matplotlib's defaults, and ignore its configuration files."""
    if "matplotlib" not in sys.modules:
        _import_elsewhere()
    import matplotlib

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script without a font here
        with matplotlib.rc_context(matplotlib.rcParamsDefault):
            matplotlib.rcParams["svg.hashsalt"] = _MARK  # else it is random
            yield


def _import_elsewhere() -> None:
    """Import matplotlib from /, where only root can leave a configuration file."""
    here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir("/")
        import matplotlib.figure  # noqa: F401 - the backends come when a picture is saved
    finally:
        os.fchdir(here)
        os.close(here)


def save(figure: "Figure", file: BinaryIO, image_format: str) -> None:
    """Write a picture.

    Args:
        figure: drawn in `drawing`.
        file: the file to write to.
        image_format: one of `IMAGE_FORMATS`.
    """
    figure.savefig(file, format=image_format, metadata=_METADATA[image_format])
