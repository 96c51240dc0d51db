# SPDX-License-Identifier: Apache-2.0
"""A thread that works in the background: it keeps within a share of a core, and ends when asked."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Final

# A debt of time below this is not worth a sleep.
_SLEEP_S: Final = 0.001


class Stop:
    """The request that a thread end.

    It has no lock of Python's, which a handler of signals could find taken by the code that it
    interrupts, and wait for without end, as that of `threading.Event`.

    Attributes:
        asked: whether it was made.
    """

    def __init__(self) -> None:
        self.asked = False
        self._bell = threading.Lock()
        self._bell.acquire()

    def set(self) -> None:
        """Make the request. Idempotent."""
        self.asked = True
        with suppress(RuntimeError):  # it was made before
            self._bell.release()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the request is made; return whether it was."""
        if not self.asked and self._bell.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            self._bell.release()
        return self.asked


class StoppedError(Exception):
    """The thread was asked to end in the middle of its work."""


class Pace:
    """Keeps a thread within its share of a core, by sleeps.

    Args:
        share: the share, above 0 and up to 1.
        stop: ends the sleeps.
    """

    def __init__(self, share: float, stop: Stop) -> None:
        self._share = share
        self._stop = stop
        self._used = time.thread_time()
        self._until = time.monotonic()

    def pause(self) -> None:
        """Sleep as long as it takes to come down to the share.

        Raises:
            StoppedError: the thread was asked to end.
        """
        used, now = time.thread_time(), time.monotonic()
        self._until = max(self._until, now - _SLEEP_S) + (used - self._used) / self._share
        self._used = used
        if self._stop.asked or (
            self._until - now > _SLEEP_S and self._stop.wait(self._until - now)
        ):
            raise StoppedError
