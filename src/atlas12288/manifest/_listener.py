# SPDX-License-Identifier: Apache-2.0
"""Listeners: objects that are told the progress while a manifest is generated or verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._sidecars import WindowRange
    from ._differences import Difference


class Listener:
    """Does nothing with each event; override the methods that you need.

    All methods are called in the thread that generates or verifies the manifest. An exception from
    a method ends the work.
    """

    def listed(self, count: int) -> None:
        """Hear that `count` files and symbolic links have been listed so far."""

    def expect(self, size: int) -> None:
        """Hear that the listing is complete and `size` bytes will be read; called once."""

    def advance(self, size: int) -> None:
        """Hear that `size` more bytes were read."""

    def problem(self, path: bytes, reason: str) -> None:
        """Hear that a path could not be listed or read, so no manifest will be written."""

    def note(self, text: str) -> None:
        """Hear a sentence for people, such as what is known already or what is left out."""

    def compared(self, path: bytes) -> None:
        """Hear that the files up to this path were compared; for `verify_manifest` with `done`."""

    def difference(self, difference: Difference) -> None:
        """Hear of a difference; called in order of path, once all earlier paths are compared."""

    def differing(self, path: bytes, windows: WindowRange) -> None:
        """Hear of a range of differing windows of a file; called in order within a file.

        Ignore them if the file turns out to be unreadable.
        """


class FunctionListener(Listener):
    """A listener made of functions, one for each method; None does nothing."""

    def __init__(
        self,
        *,
        listed: Callable[[int], object] | None = None,
        expect: Callable[[int], object] | None = None,
        advance: Callable[[int], object] | None = None,
        problem: Callable[[bytes, str], object] | None = None,
        note: Callable[[str], object] | None = None,
        compared: Callable[[bytes], object] | None = None,
        difference: Callable[[Difference], object] | None = None,
        differing: Callable[[bytes, WindowRange], object] | None = None,
    ) -> None:
        functions = {
            "listed": listed,
            "expect": expect,
            "advance": advance,
            "problem": problem,
            "note": note,
            "compared": compared,
            "difference": difference,
            "differing": differing,
        }
        for name, function in functions.items():
            if function is not None:
                setattr(self, name, function)


SILENT = Listener()
