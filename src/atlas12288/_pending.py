# SPDX-License-Identifier: Apache-2.0
"""A result that a device is still working on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Pending(Generic[T]):
    """A result to be waited for, of a call with `wait=False`.

    The tensors of the call are kept until the device has read them: also where nobody asks for the
    result, the object waits for that before it goes.
    """

    __slots__ = ("__weakref__", "_done", "_finish", "_result")

    def __init__(
        self, finish: Callable[[], T] | None, done: Callable[[], bool], result: T | None = None
    ) -> None:
        self._finish = finish
        self._done = done
        self._result = result

    @classmethod
    def ready(cls, result: T) -> Pending[T]:
        """Return one whose result is there already."""
        return cls(None, lambda: True, result)

    def done(self) -> bool:
        """Return whether `result()` would return without waiting.

        Raises:
            DeviceError: the device failed.
        """
        return self._finish is None or self._done()

    def result(self) -> T:
        """Wait for the device; return the result, the same object each time.

        Raises:
            DeviceError: the device failed; nothing is known of the bytes.
        """
        finish = self._finish
        if finish is not None:
            self._result = finish()
            self._finish = None
        return self._result  # type: ignore[return-value]  # it is set where _finish is None

    def then(self, change: Callable[[T], R]) -> Pending[R]:
        """Return the result of `change`, called with this one's result once it is asked for."""
        return Pending(lambda: change(self.result()), self.done)
