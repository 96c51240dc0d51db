# SPDX-License-Identifier: Apache-2.0
"""Runs work in a separate process, which can neither block nor outlive the one that waits.

The time limit is enforced from outside: the parent waits for the process by its id until the
deadline and then kills it, even if it changes its signals or descriptors, or others hold its pipe.
What it started and left behind is killed as well: on Linux all of it, in any session.
"""

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ANSWER_BYTES_MAX: Final = 2**20  # the rest is dropped

_PAUSE_S: Final = 0.02  # between polls of a silent process
_AFTER_ANSWER_S: Final = 0.001  # the process is about to end
_ENDING_S: Final = 5.0  # to wait for killed processes
_PR_SET_PDEATHSIG: Final = 1  # of prctl(), Linux
_PR_SET_CHILD_SUBREAPER: Final = 36


class OwnerGoneError(Exception):
    """The process that waits for the answer has ended."""


@dataclass(frozen=True)
class Ending:
    """The end of a process.

    Args:
        answer: bytes that it wrote.
        status: exit status as from waitpid().
        overdue: whether it was killed at its time limit.
    """

    answer: bytes
    status: int
    overdue: bool


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process adopt the orphans of its children, where the system supports that."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def run(life: Callable[[int], None], seconds: float, owner: int, private: Sequence[int]) -> Ending:
    """Run work in a fork until it ends or reaches its time limit.

    Args:
        life: does the work; called with the descriptor to write the answer to.
        seconds: time limit.
        owner: a descriptor whose other end the process that waits for the answer holds.
        private: descriptors that are closed in the fork.

    Returns:
        How it ended. Nothing that it started is left, where this process adopts orphans.

    Raises:
        OwnerGoneError: the other end of `owner` was closed meanwhile; the fork has been ended.
        OSError: the process cannot be started.
    """
    reader, writer = os.pipe()
    try:
        try:
            parent = os.getpid()
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                    if os.getppid() == parent:
                        for descriptor in (reader, owner, *private):
                            os.close(descriptor)
                        life(writer)
                        code = 0
                finally:
                    os._exit(code)  # flush none of the parent's buffers, run no destructor
        finally:
            os.close(writer)
        try:
            return _wait(child, reader, time.monotonic() + seconds, owner)
        finally:
            end_children()
    finally:
        os.close(reader)


def _wait(child: int, reader: int, deadline: float, owner: int) -> Ending:
    os.set_blocking(reader, False)
    answer = bytearray()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(owner, 0)  # a closed pipe is always reported
    pause = _PAUSE_S
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        left = deadline - time.monotonic()
        if ended or left <= 0:
            break
        for descriptor, _ in poll.poll(1000 * min(left, pause)):
            if descriptor == owner:
                raise OwnerGoneError
            if not _read(reader, answer):
                poll.unregister(reader)
                pause = _AFTER_ANSWER_S
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    while len(answer) < ANSWER_BYTES_MAX and _read(reader, answer):
        pass
    return Ending(bytes(answer), status, overdue=not ended)


def _read(reader: int, answer: bytearray) -> bool:
    """Add available bytes to the answer; return False if there are none or nobody writes."""
    try:
        part = os.read(reader, 2**16)
    except BlockingIOError:
        return False
    answer += part[: ANSWER_BYTES_MAX - len(answer)]
    return bool(part)


def end_children() -> None:
    """Kill all children of this process, including those that it adopts meanwhile."""
    deadline = time.monotonic() + _ENDING_S
    with suppress(ChildProcessError):  # no children
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) != (0, 0):
                continue
            for child in _children():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(_AFTER_ANSWER_S)


def _children() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The line is: pid (name) state parent ...; the name may contain anything.
            fields = path.read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == os.getpid():
                yield int(path.parent.name)
