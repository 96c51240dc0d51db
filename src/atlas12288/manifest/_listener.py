# SPDX-License-Identifier: Apache-2.0
"""Who is told what happens while a manifest is made or verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._sidecars import WindowRange
    from ._differences import Difference


class Listener:
    """Is told what happens, and does nothing about it; override the methods that matter.

    All methods are called by the thread that makes or verifies the manifest. What they raise ends
    the work.
    """

    def listed(self, count: int) -> None:
        """Hear that `count` files and symbolic links have been listed so far."""

    def expect(self, size: int) -> None:
        """Hear that all were listed, and that `size` bytes will be read; called once."""

    def advance(self, size: int) -> None:
        """Hear that `size` more bytes were read."""

    def problem(self, path: bytes, reason: str) -> None:
        """Hear that a path could not be listed or read, so that no manifest is written."""

    def note(self, text: str) -> None:
        """Hear a sentence that people should read: what is known already, and what is left out."""

    def difference(self, difference: Difference) -> None:
        """Hear of a difference; they come in order of path, each when all before it are known."""

    def differing(self, path: bytes, windows: WindowRange) -> None:
        """Hear of neighbouring windows of a file that differ; in order within a file.

        They are void if the file turns out to be unreadable.
        """


class FunctionListener(Listener):
    """A listener made of functions, one for each method; None for one that does nothing."""

    def __init__(
        self,
        *,
        listed: Callable[[int], object] | None = None,
        expect: Callable[[int], object] | None = None,
        advance: Callable[[int], object] | None = None,
        problem: Callable[[bytes, str], object] | None = None,
        note: Callable[[str], object] | None = None,
        difference: Callable[[Difference], object] | None = None,
        differing: Callable[[bytes, WindowRange], object] | None = None,
    ) -> None:
        functions = {
            "listed": listed,
            "expect": expect,
            "advance": advance,
            "problem": problem,
            "note": note,
            "difference": difference,
            "differing": differing,
        }
        for name, function in functions.items():
            if function is not None:
                setattr(self, name, function)


SILENT = Listener()
