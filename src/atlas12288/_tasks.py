# SPDX-License-Identifier: Apache-2.0
"""How tasks of asyncio and Trio, and so of AnyIO, wait for a budget.

The binding keeps the queue (src/binding/budget_queue.pxi) and tells a task by `tell`, from any
thread. Neither library is imported here: code that runs in a task of one has imported it.
"""

import sys
import time
from typing import TYPE_CHECKING, Any

from . import _native

if TYPE_CHECKING:
    import asyncio


class _AsyncioTask:
    """The running task of asyncio."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._loop = loop
        self._future = loop.create_future()

    def tell(self) -> bool:
        """Wake the task; return False if its loop is closed. From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            if self._loop.is_closed():
                return False
            raise
        return True

    def lost(self) -> bool:
        """Return whether the task cannot run any more. From any thread."""
        return self._loop.is_closed()

    def _end(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None) -> None:
        """Wait until told, at most for `timeout` seconds."""
        timer = None if timeout is None else self._loop.call_later(timeout, self._end)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
        self._future = self._loop.create_future()  # for another wait


class _TrioTask:
    """The running task of Trio."""

    __slots__ = ("_event", "_token", "_trio")

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def tell(self) -> bool:
        """Wake the task; return False if its run is over. From any thread."""
        try:
            self._token.run_sync_soon(self._end)
        except self._trio.RunFinishedError:
            return False
        return True

    def lost(self) -> bool:
        """Return False: a run of Trio ends after all of its tasks."""
        return False

    def _end(self) -> None:
        self._event.set()

    async def wait(self, timeout: float | None) -> None:
        """Wait until told, at most for `timeout` seconds."""
        with self._trio.move_on_after(float("inf") if timeout is None else timeout):
            await self._event.wait()
        self._event = self._trio.Event()  # for another wait


def _running_task() -> _AsyncioTask | _TrioTask:
    """Return the running task; raise RuntimeError if there is none."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            # Where one library runs inside the other, this is None in a task of Trio.
            found = asyncio.current_task()
        except RuntimeError:  # no loop
            found = None
        if found is not None:
            return _AsyncioTask(asyncio.get_running_loop())
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return _TrioTask(trio)
    raise RuntimeError("lease_async is entered in no task, must be in one of asyncio or Trio")


async def enter(lease: _native.AsyncLease) -> _native.AsyncLease:
    """Return `lease` once it is held; raise BudgetError or StateError if it cannot be."""
    if not lease._take():
        try:
            await _wait(lease, _running_task(), lease._timeout)
        except BaseException:
            lease._give_up()
            raise
    return lease


async def _wait(
    lease: _native.AsyncLease, task: _AsyncioTask | _TrioTask, timeout: float | None
) -> None:
    end = None if timeout is None else time.monotonic() + timeout
    lease._wait(task)
    while lease._waits():
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            break
        await task.wait(left)
    lease._settle()


async def left() -> None:
    """Return at once: a lease is given back before its exit is awaited."""
