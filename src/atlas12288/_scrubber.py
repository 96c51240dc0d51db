# SPDX-License-Identifier: Apache-2.0
"""Scrubbing: buffers in memory are compared with their witnesses again and again.

A look at the residues of all windows takes as long as reading the memory, and sees every flip of a
single bit. The digests, which see everything, take longer and are computed in rotation.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, Self
from weakref import WeakSet

from . import _native
from ._device_watch import DeviceWatch
from ._errors import DeviceError, StateError
from ._native import DIGEST_BYTES, Watch, bytes_of, int_in
from ._pace import Pace, Stop, StoppedError
from ._reports import PartDifference, Report
from ._sidecars import WindowRange
from ._subtree import FANOUT
from ._tree import TreeWitness
from ._types import Memory
from ._window_ranges import neighbours, window_ranges
from ._witness import format_timestamp
from ._words import counted

# Each window's digest is checked in one pass of so many.
DIGEST_PASSES: Final = 32
# Windows that are read at once: 3 MiB, some tenths of a millisecond.
_PIECE: Final = FANOUT


@dataclass(frozen=True)
class ScrubReport(Report[PartDifference]):
    """What a pass over buffers saw; true if and only if `holds` is True.

    A difference of kind "changed" is damage: `name` is the buffer's, `ranges` are the windows, and
    `what` is ("digest",), or ("residue", "digest") where the residue alone tells it too. One of
    kind "unreadable" is about windows that could not be read, or that a transaction is changing
    now.

    Attributes:
        differences: all differences, by buffer and window.
        timestamp_ns: when they had been seen, in nanoseconds since 1970-01-01T00:00:00Z.
        windows: number of windows that were looked at.
        seconds: how long that took.
    """

    differences: tuple[PartDifference, ...] = ()
    timestamp_ns: int = 0
    windows: int = 0
    seconds: float = 0.0

    _nothing_compared = "no window was compared with its witness"

    @property
    def holds(self) -> bool | None:
        """Whether all windows are what their witnesses say; None if nothing is known to differ but
        not everything could be compared."""
        return None if self.windows == 0 and not self.differences else super().holds

    @property
    def timestamp(self) -> str:
        """The time in the form of RFC 3339, in UTC."""
        return format_timestamp(self.timestamp_ns)

    def to_fields(self) -> dict[str, object]:
        """Return the fields of its JSON object."""
        return super().to_fields() | {
            "timestamp": self.timestamp,
            "windows": self.windows,
            "seconds": self.seconds,
        }


class Scrubber:
    """Compares buffers with their witnesses in the background, and tells of damage.

    Nothing runs before `start()` or `with`, which starts it and closes it at the end. The first
    pass checks the digest of every window, so that damage from before is found. Each later pass
    computes the residue of every window, which sees every flip of a single bit, and checks the
    digests of one part in 32. A window whose residue differs is hashed, and the digest decides.

    The buffers stay exported until `close()`: a `bytearray` cannot be resized, an mmap not closed.
    A write that the scrubber is not told of is damage. Transactions of a domain on the same memory
    tell it by themselves; other writers use `changing` or `update`. Make the scrubber while no
    transaction is open.

    The thread ends at the exit of the interpreter. It does not exist in a child process after a
    fork, where `running` is False; `start()` begins another one.

    Args:
        targets: from names to pairs: a buffer, or a tensor on a GPU, and its TreeWitness, with
            leaves.
        every: seconds from the start of one pass to the start of the next, up to
            `threading.TIMEOUT_MAX`; 0 for one after the other.
        on_damage: called with a `ScrubReport` of damage as soon as it is seen, once for each
            damaged window until that is restored or updated, and once for each window that cannot
            be read. `scan` calls it in the thread of its caller. What it raises goes to
            `sys.unraisablehook`, in the scrubber's own thread even SystemExit. `start` needs it.
        share: the share of one core that the thread takes at most, above 0 and up to 1. It wins
            over `every`: a pass that takes longer is followed by the next one at once, and
            `seconds` of its report says so. What a GPU does is not counted.

    Raises:
        ValueError: there is no target, a buffer is empty or has not the length of its witness, or
            a number is out of range.
        StateError: a witness has no leaves; from every method, once the scrubber is closed.
        TypeError, BufferError: an argument has the wrong type, a buffer is not C-contiguous.
        RuntimeError: from `start`, where the system has no thread; nothing runs then.
    """

    def __init__(
        self,
        targets: Mapping[str, tuple[Memory, TreeWitness]],
        *,
        every: float = 60.0,
        on_damage: Callable[[ScrubReport], object] | None = None,
        share: float = 0.05,
    ) -> None:
        if not isinstance(targets, Mapping):
            raise TypeError(f"targets is of type {type(targets).__name__}, must be a mapping")
        if on_damage is not None and not callable(on_damage):
            raise TypeError(f"on_damage is of type {type(on_damage).__name__}, must be callable")
        self._every = _number("every", every)
        if not 0 <= self._every <= threading.TIMEOUT_MAX:
            most = f"{threading.TIMEOUT_MAX:.0f}"
            raise ValueError(f"every is {self._every}, must be in 0..{most} seconds")
        self._share = _number("share", share)
        if not 0 < self._share <= 1:
            raise ValueError(f"share is {self._share}, must be above 0 and at most 1")
        self._on_damage = on_damage
        if not targets:
            raise ValueError("targets is empty, must have at least one buffer")
        # Dropped by close(); a pass that is under way has a reference.
        self._targets: dict[str, _Target] | None = {
            name: _Target(name, target) for name, target in targets.items()
        }
        self._last: ScrubReport | None = None
        self._passes = 0
        self._stop = Stop()
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        """Forget the thread: before the first start, and in a child process, which has none."""
        self._lock = threading.RLock()  # for starts and stops, also in a handler of signals
        self._thread: threading.Thread | None = None
        self._stop.asked = True  # of the thread that forked, which is the only one of the child
        self._stop = Stop()

    def _known(self) -> dict[str, _Target]:
        targets = self._targets
        if targets is None:
            raise StateError("the scrubber is closed, must be open for calls")
        return targets

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def report(self) -> ScrubReport | None:
        """The report of the last complete pass, with all damage that it saw; None before that."""
        return self._last

    def start(self) -> None:
        """Start the thread, which begins with a pass.

        Raises:
            StateError: it runs already, or the scrubber is closed.
            ValueError: there is no `on_damage`, so nobody would hear of damage.
        """
        if self._on_damage is None:
            raise ValueError("on_damage is None, must be a function for start()")
        with self._lock:
            targets = self._known()
            if self.running:
                raise StateError("the scrubber runs already, must be stopped before it is started")
            self._stop = stop = Stop()
            self._thread = thread = threading.Thread(
                target=self._run, args=(targets, stop), name="Scrubber", daemon=True
            )
            thread.start()

    def stop(self) -> None:
        """End the thread, and wait until it has ended. Idempotent; `start` begins another one.

        It ends within some milliseconds, or when `on_damage` returns. `on_damage` itself may call
        this; then the thread ends after it.
        """
        with self._lock:
            self._stop.set()
            thread, self._thread = self._thread, None
        # One that is not alive has ended, or was never begun and ends when it is.
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def close(self) -> None:
        """End the thread and give the buffers back. Idempotent."""
        self.stop()
        self._targets = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scan(self) -> ScrubReport:
        """Make one pass now, in this thread and without regard to `share`.

        Returns:
            All that the pass saw, also damage that was told before.

        Raises:
            StateError: the scrubber is closed.
        """
        return self._pass(self._known(), _no_pause)

    def update(
        self, name: str, windows: Iterable[int], witness: TreeWitness | None = None, /
    ) -> None:
        """Tell that windows of a buffer were changed on purpose.

        A pass that reads a window after the change and before this call takes it for damage:
        `changing` is for that.

        Args:
            name: the name of the buffer.
            windows: indices of the windows that changed. All else in them is trusted as it is now.
            witness: the new witness, from `TreeWitness.update`, whose leaves these windows must
                have from now on. None to take their digests anew from memory; then the old witness
                does not cover them any more.

        Raises:
            ValueError: there is no such buffer or window, or `witness` has another length.
            StateError: `witness` has no leaves, or the scrubber is closed.
            TypeError: an argument has the wrong type.
        """
        target = self._target(name)
        indices = target.indices(windows)
        if witness is None:
            with target.watch.change(neighbours(indices)):
                pass
            return
        leaves = _leaves(f"{name!r}", witness, target.length)
        for index in indices:
            target.watch.expect(index, _leaf(leaves, index))

    def changing(
        self, name: str, windows: Iterable[int] | None = None, /
    ) -> AbstractContextManager[object]:
        """Return a context manager for a change on purpose: no pass takes it for damage.

        The change begins with the block. When that ends, the digests of these windows are taken
        anew from memory, as by `update`.

        Args:
            name: the name of the buffer.
            windows: indices of the windows that may change; None for all.

        Raises:
            ValueError, StateError, TypeError: as `update`.
        """
        target = self._target(name)
        indices = list(range(target.windows)) if windows is None else target.indices(windows)
        return target.watch.change(neighbours(indices))

    def _target(self, name: str) -> _Target:
        target = self._known().get(name)
        if target is None:
            raise ValueError(f"name is {name!r}, must be the name of a target")
        return target

    def _run(self, targets: dict[str, _Target], stop: Stop) -> None:
        pace = Pace(self._share, stop)
        while not stop.asked:
            begin = time.monotonic()
            try:
                self._pass(targets, pace.pause)
            except StoppedError:
                return
            except Exception as error:  # such as a lack of memory; the next pass may have some
                _native.write_unraisable(error, self._pass)
            stop.wait(max(0.0, begin + self._every - time.monotonic()))

    def _pass(self, targets: dict[str, _Target], pause: Callable[[], None]) -> ScrubReport:
        begin = time.monotonic()
        differences: list[PartDifference] = []
        windows = 0
        turn = self._passes
        for number, target in enumerate(targets.values(), turn):
            seen = _Seen(target)
            for new in target.look(number, seen, pause):
                self._tell(new)
            differences += seen.differences()
            windows += target.windows
        self._passes = turn + 1
        seconds = time.monotonic() - begin
        self._last = ScrubReport(tuple(differences), time.time_ns(), windows, seconds)
        return self._last

    def _tell(self, new: _Seen) -> None:
        if self._on_damage is None:
            return
        report = ScrubReport(tuple(new.differences()), time.time_ns(), new.windows)
        try:
            self._on_damage(report)
        except BaseException as error:
            # A thread that SystemExit ends would end without a word, and the watch with it.
            if not isinstance(error, Exception) and threading.current_thread() is not self._thread:
                raise
            _native.write_unraisable(error, self._on_damage)

    def __repr__(self) -> str:
        if self._targets is None:
            return f"<{type(self).__name__} closed>"
        state = "running" if self.running else "not running"
        return f"<{type(self).__name__} of {counted(len(self._targets), 'buffer')}, {state}>"


class _View(Protocol):
    """What looks at the windows of a buffer: its watch, or of a tensor on a GPU a view."""

    def read_error(self, first: int, stop: int, /) -> int: ...
    def residues_differ(self, first: int, stop: int, /) -> list[int]: ...
    def leaves_differ(self, first: int, stop: int, /) -> list[int]: ...
    def judge(self, index: int, /) -> int: ...


class _Target:
    """A buffer under watch."""

    def __init__(self, name: object, target: object) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name of a target is of type {type(name).__name__}, must be str")
        if not isinstance(target, tuple) or len(target) != 2:
            raise TypeError(f"targets[{name!r}] is not a pair, must be a buffer and its witness")
        buf, witness = target
        on_device = _native.device_of(buf) is not None
        self.name = name
        # A tensor on a GPU says its length when it is hashed.
        self.length = (
            TreeWitness.generate(buf, leaves=False).length if on_device else len(bytes_of(buf))
        )
        leaves = _leaves(f"targets[{name!r}]", witness, self.length)
        if self.length == 0:
            raise ValueError(f"targets[{name!r}] is empty, must have bytes")
        self.windows = len(leaves) // DIGEST_BYTES
        self.watch: DeviceWatch | Watch = (
            DeviceWatch(buf, self.length, leaves) if on_device else Watch(buf, leaves)
        )
        self._piece = self.windows if on_device else _PIECE
        self._is_known = False  # was every digest checked?
        # Windows that could not be read, as was told. Where `scan` and the thread look at once, the
        # one that sets the key tells.
        self._unread: dict[int, object] = {}

    def indices(self, windows: Iterable[int]) -> list[int]:
        """Return the sorted indices of windows."""
        return sorted({int_in(index, "window", 0, self.windows - 1) for index in windows})

    def look(self, turn: int, seen: _Seen, pause: Callable[[], None]) -> Iterator[_Seen]:
        """Look at all windows, add to `seen` what is seen, and yield what is new.

        Args:
            turn: decides which digests are checked.
            seen: as above.
            pause: called after each piece.
        """
        is_known = self._is_known
        for number, first in enumerate(range(0, self.windows, self._piece), turn):
            stop = min(first + self._piece, self.windows)
            hashes = not is_known or number % DIGEST_PASSES == 0
            new = _Seen(self)
            try:
                self._look_at(first, stop, hashes, seen, new)
            except (BufferError, DeviceError) as error:
                for index in range(first, stop):
                    self._not_read(index, str(error), seen, new)
            if new:
                yield new
            pause()
        self._is_known = True

    def _look_at(self, first: int, stop: int, hashes: bool, seen: _Seen, new: _Seen) -> None:
        watch: _View = self.watch.view() if isinstance(self.watch, DeviceWatch) else self.watch
        suspects: Iterable[int]
        if watch.read_error(first, stop):
            suspects = range(first, stop)
        else:
            suspects = (watch.leaves_differ if hashes else watch.residues_differ)(first, stop)
            if self._unread:  # what can be read again may have come back as something else
                again = (index for index in range(first, stop) if index in self._unread)
                suspects = sorted({*suspects, *again})
        for index in suspects:
            if code := watch.read_error(index, index + 1):
                self._not_read(index, os.strerror(code), seen, new)
                continue
            self._unread.pop(index, None)
            verdict = watch.judge(index)
            if verdict & _native.WINDOW_IN_CHANGE:
                seen.unread(index, "a transaction is changing it")
            elif verdict:
                what = _WHAT[bool(verdict & _native.WINDOW_RESIDUE_DIFFERS)]
                seen.damaged(index, what)
                if verdict & _native.WINDOW_IS_NEW:
                    new.damaged(index, what)

    def _not_read(self, index: int, reason: str, seen: _Seen, new: _Seen) -> None:
        seen.unread(index, reason)
        if self._unread.setdefault(index, new) is new:
            new.unread(index, reason)


_WHAT: Final = (("digest",), ("residue", "digest"))


class _Seen:
    """Windows of a target that are not as they must be."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._changed: dict[tuple[str, ...], list[int]] = {}
        self._unread: dict[str, list[int]] = {}

    @property
    def windows(self) -> int:
        groups = (*self._changed.values(), *self._unread.values())
        return sum(map(len, groups))

    def __bool__(self) -> bool:
        return bool(self._changed or self._unread)

    def damaged(self, index: int, what: tuple[str, ...]) -> None:
        self._changed.setdefault(what, []).append(index)

    def unread(self, index: int, reason: str) -> None:
        self._unread.setdefault(reason, []).append(index)

    def differences(self) -> Iterator[PartDifference]:
        """Yield them as differences: for each kind of damage, and each reason, one."""
        name = self._target.name
        for what, indices in self._changed.items():
            yield PartDifference("buffer", name, "changed", what, "", self._ranges(indices))
        for reason, indices in self._unread.items():
            ranges = self._ranges(indices)
            yield PartDifference("buffer", name, "unreadable", (), reason, ranges)

    def _ranges(self, indices: list[int]) -> tuple[WindowRange, ...]:
        return window_ranges(indices, self._target.length)


def _leaf(leaves: bytes, index: int) -> bytes:
    return leaves[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]


def _no_pause() -> None:
    pass


def _leaves(whose: str, witness: object, length: int) -> bytes:
    """Return the leaves of a witness of so many bytes."""
    if not isinstance(witness, TreeWitness):
        raise TypeError(
            f"witness of {whose} is of type {type(witness).__name__}, must be a TreeWitness: it "
            "knows the windows"
        )
    leaves = witness.leaves
    if leaves is None:
        raise StateError(
            f"witness of {whose} has no leaves, must have them for a Scrubber; with_leaves() adds "
            "them"
        )
    if witness.length != length:
        raise ValueError(
            f"{whose} has {length} bytes, must have {witness.length}, the length of its witness"
        )
    return leaves


def _number(name: str, value: object) -> float:
    """Return a number of any type as a float, infinite where it is too large for one."""
    of_type = type(value)
    if of_type is bool or not (hasattr(of_type, "__float__") or hasattr(of_type, "__index__")):
        raise TypeError(f"{name} is of type {of_type.__name__}, must be a number")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


# Looked through at exit and after a fork.
_all: WeakSet[Scrubber] = WeakSet()


def _stop_all() -> None:
    for scrubber in list(_all):
        scrubber.stop()


def _forget_threads() -> None:
    for scrubber in list(_all):
        scrubber._begin_anew()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
