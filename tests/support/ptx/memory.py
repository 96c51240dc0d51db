# SPDX-License-Identifier: Apache-2.0
"""Memory of a simulated GPU. Every access is checked: it must lie within one allocation, be
aligned, read bytes that were written, and be ordered against the accesses of other threads."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .text import PtxError

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

BASE_ALIGNMENT = 256  # bytes; cuMemAlloc promises as much

_NOTHING, _ALLOCATED, _WRITTEN = 0, 1, 2
# Who read a byte: a thread, SEVERAL_BLOCKS, or SEVERAL_BLOCKS - 1 - b for several threads of block
# b.
SEVERAL_BLOCKS = -1
_UNITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class AccessError(PtxError):
    """An access outside an allocation, not aligned, or of bytes that nobody wrote."""


class RaceError(PtxError):
    """Two threads access the same byte, one of them writes, and nothing orders the two accesses."""


@dataclass(frozen=True)
class Accessors:
    """The threads (their numbers in the grid) of one access, and how it is ordered.

    `is_ordered(earlier, when, threads)` tells for each thread whether the earlier accesses, at
    those times, happen before its own. `strong` accesses (atomics, volatile) do not race with each
    other.
    """

    threads: Numbers
    block_size: int
    now: int
    launched: int
    is_ordered: Callable[[Numbers, Numbers, Numbers], npt.NDArray[np.bool_]]
    strong: bool = False
    constant: bool = False


class Space:
    """A piece of memory of `len(data)` bytes whose first byte has the address `base`.

    The byte maps beside it are made of zero pages, so that only bytes that are used take memory.
    """

    def __init__(self, name: str, data: Bytes, base: int, *, uninitialised: bool = False) -> None:
        """`uninitialised` allows reads of bytes that nobody wrote."""
        if base % BASE_ALIGNMENT:
            raise ValueError(f"base of {name} memory {base:#x} is no multiple of {BASE_ALIGNMENT}")
        self.name, self.base, self.uninitialised = name, base, uninitialised
        padded = -(-len(data) // 8) * 8
        if padded != len(data):
            raise ValueError(f"{len(data)} bytes of {name} memory are no multiple of 8")
        self.data = data
        self._state = np.zeros(padded, np.uint8)
        self._writer = np.zeros(padded, np.int32)
        self._written = np.zeros(padded, np.int32)  # when; 0 is before everything
        self._strong = np.zeros(padded, np.bool_)
        self._reader = np.zeros(padded, np.int32)
        self._read = np.zeros(padded, np.int32)
        self._constant = np.zeros(padded, np.int32)  # the launch that read it as constant

    def add(self, address: int, size: int, *, written: bool = False) -> None:
        """Make `size` bytes at an address an allocation."""
        offset = self._inside(address, size)
        if self._state[offset : offset + size].any():
            raise ValueError(f"{size} bytes at {address:#x} overlap an allocation")
        self._state[offset : offset + size] = _WRITTEN if written else _ALLOCATED

    def remove(self, address: int, size: int) -> None:
        offset = self._inside(address, size)
        self._state[offset : offset + size] = _NOTHING

    def mark_written(self, address: int, size: int) -> None:
        """Note that the host wrote bytes; raise AccessError where no allocation is."""
        offset = self._inside(address, size)
        if not self._state[offset : offset + size].all():
            raise AccessError(f"{size} bytes at {address:#x} are not within one allocation")
        self._state[offset : offset + size] = _WRITTEN

    def _inside(self, address: int, size: int) -> int:
        offset = address - self.base
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise ValueError(f"{size} bytes at {address:#x} lie outside {self.name} memory")
        return offset

    # --- what threads do ---

    def load(self, offsets: Numbers, unit: int, count: int, by: Accessors) -> list[np.ndarray]:
        """Return `count` arrays of unsigned values of `unit` bytes, which lie side by side."""
        width = unit * count
        self._check(offsets, width, "reads", by)
        if not self.uninitialised:
            self._check_written(offsets, width, by)
        if by.constant:
            self._note_constant(offsets, width, by)
        else:
            self._note_read(offsets, width, by)
        first = offsets // unit
        values = self.data.view(_UNITS[unit])
        return [values[first + k] for k in range(count)]

    def store(self, offsets: Numbers, columns: list[np.ndarray], unit: int, by: Accessors) -> None:
        width = unit * len(columns)
        self._check(offsets, width, "writes", by)
        self._note_write(offsets, width, by)
        first = offsets // unit
        values = self.data.view(_UNITS[unit])
        for k, column in enumerate(columns):
            values[first + k] = column

    def _check(self, offsets: Numbers, width: int, what: str, by: Accessors) -> None:
        if (offsets & (width - 1)).any():
            k = int(np.flatnonzero(offsets & (width - 1))[0])
            self._raise(offsets, k, width, what, "not aligned", by)
        outside = (offsets < 0) | (offsets > len(self.data) - width)
        if not outside.any():
            state = self._state
            outside = (state[offsets] == _NOTHING) | (state[offsets + (width - 1)] == _NOTHING)
        if outside.any():
            k = int(np.flatnonzero(outside)[0])
            self._raise(offsets, k, width, what, "outside every allocation", by)

    def _raise(
        self, offsets: Numbers, k: int, width: int, what: str, why: str, by: Accessors
    ) -> None:
        address = self.base + int(offsets[k])
        raise AccessError(
            f"thread {int(by.threads[k])} {what} {width} bytes of {self.name} memory at"
            f" {address:#x}: {why}{self._nearest(int(offsets[k]))}"
        )

    def _nearest(self, offset: int) -> str:
        """Say where the nearest allocation within 64 KiB before an offset ends."""
        start = max(0, offset - 65536)
        before = np.flatnonzero(self._state[start : max(0, offset)])
        if 0 <= offset < len(self.data) and self._state[offset] != _NOTHING:
            return ""
        if not len(before):
            return ""
        return f", {offset - start - int(before[-1]) - 1} bytes behind the end of the nearest"

    def _check_written(self, offsets: Numbers, width: int, by: Accessors) -> None:
        unit = min(width, 8)
        state = self._state.view(_UNITS[unit])
        want = _UNITS[unit](int.from_bytes(bytes([_WRITTEN]) * unit, "little"))
        first = offsets // unit
        for k in range(width // unit):
            wrong = state[first + k] != want
            if wrong.any():
                place = int(np.flatnonzero(wrong)[0])
                self._raise(offsets, place, width, "reads", "of which nobody wrote some", by)

    # --- order between threads ---

    def _bytes(self, offsets: Numbers, width: int, by: Accessors) -> tuple[Numbers, Numbers]:
        """Return the offset of every byte, and the thread that accesses it."""
        if width == 1:
            return offsets, by.threads
        return (offsets[:, None] + np.arange(width)).ravel(), np.repeat(by.threads, width)

    def _note_constant(self, offsets: Numbers, width: int, by: Accessors) -> None:
        places, threads = self._bytes(offsets, width, by)
        if (self._written[places] > by.launched).any():
            k = int(np.flatnonzero(self._written[places] > by.launched)[0])
            self._race(places[k], threads[k], "reads as constant (.nc)", "this launch writes")
        self._constant[places] = by.launched

    def _note_read(self, offsets: Numbers, width: int, by: Accessors) -> None:
        places, threads = self._bytes(offsets, width, by)
        self._check_order(
            places, threads, self._writer, self._written, by, "reads", "wrote", by.strong
        )
        if by.strong:
            return
        blocks = threads // by.block_size
        readers = self._reader[places].astype(np.int64)
        before = np.where(readers >= 0, readers // by.block_size, SEVERAL_BLOCKS - 1 - readers)
        several = np.where(before == blocks, SEVERAL_BLOCKS - 1 - blocks, SEVERAL_BLOCKS)
        another = (self._read[places] > by.launched) & (readers != threads)
        now = np.where(another, several, threads)
        # Of threads that read one byte in this instruction, the map keeps the last: the others find
        # it there and add themselves.
        self._reader[places] = now
        lost = self._reader[places] != now
        if lost.any():
            kept = self._reader[places[lost]].astype(np.int64)
            owners = np.where(kept >= 0, kept // by.block_size, SEVERAL_BLOCKS - 1 - kept)
            same = owners == blocks[lost]
            self._reader[places[lost]] = SEVERAL_BLOCKS - 1 - np.where(same, blocks[lost], 0)
            self._reader[places[lost][~same]] = SEVERAL_BLOCKS
        self._read[places] = by.now

    def _note_write(self, offsets: Numbers, width: int, by: Accessors) -> None:
        places, threads = self._bytes(offsets, width, by)
        constant = self._constant[places] == by.launched
        if by.launched and constant.any():
            k = int(np.flatnonzero(constant)[0])
            self._race(places[k], threads[k], "writes", "this launch reads as constant (.nc)")
        self._check_order(
            places, threads, self._writer, self._written, by, "writes", "wrote", by.strong
        )
        self._check_order(places, threads, self._reader, self._read, by, "writes", "read", False)
        self._writer[places] = threads
        twice = self._writer[places] != threads
        if twice.any() and not by.strong:
            k = int(np.flatnonzero(twice)[0])
            other = int(self._writer[places[k]])
            self._race(places[k], threads[k], "writes", f"thread {other} writes")
        self._written[places] = by.now
        # This write is behind all reads so far, so what is behind this write is behind them too.
        self._read[places] = 0
        self._strong[places] = by.strong
        self._state[places] = _WRITTEN

    def _check_order(
        self,
        places: Numbers,
        threads: Numbers,
        who: npt.NDArray[np.int32],
        when: npt.NDArray[np.int32],
        by: Accessors,
        what: str,
        before: str,
        strong: bool,
    ) -> None:
        times = when[places]
        recent = times > by.launched
        if not recent.any():
            return
        earlier = who[places]
        recent &= earlier != threads
        if strong:
            recent &= ~self._strong[places]
        found = np.flatnonzero(recent)
        if not len(found):
            return
        ordered = by.is_ordered(
            earlier[found].astype(np.int64), times[found].astype(np.int64), threads[found]
        )
        if not ordered.all():
            k = found[int(np.flatnonzero(~ordered)[0])]
            other = int(earlier[k])
            name = f"thread {other}" if other >= 0 else "several threads"
            self._race(places[k], threads[k], what, f"{name} {before}")

    def _race(self, place: int, thread: int, what: str, other: str) -> None:
        raise RaceError(
            f"thread {int(thread)} {what} the byte of {self.name} memory at"
            f" {self.base + int(place):#x} that {other}, and nothing orders the two"
        )


class GlobalMemory(Space):
    """Memory of the device, with an allocator: allocations never touch each other."""

    def __init__(
        self, size: int = 1 << 26, base: int = 0x7F00_0000_0000, *, uninitialised: bool = False
    ) -> None:
        """Make `size` bytes, none of them allocated."""
        super().__init__(
            "global", np.zeros(-(-size // 8) * 8, np.uint8), base, uninitialised=uninitialised
        )
        self._next = BASE_ALIGNMENT
        self.clock = 0  # counts steps of all launches, so that a launch is behind the ones before

    def allocate(self, content: bytes | int, *, shift: int = 0) -> int:
        """Return the address of a new allocation: exactly these bytes, or so many unwritten ones.

        The address is `shift` mod 256. The bytes beside it belong to nobody.
        """
        size = content if isinstance(content, int) else len(content)
        offset = self._next + shift
        end = -(-(offset + size + 1) // BASE_ALIGNMENT) * BASE_ALIGNMENT + BASE_ALIGNMENT
        if end > len(self.data):
            raise MemoryError(f"{size} bytes do not fit into {len(self.data)} of simulated memory")
        self._next = end
        address = self.base + offset
        self.add(address, size)
        if not isinstance(content, int):
            self.write(address, content)
        return address

    def write(self, address: int, content: bytes) -> None:
        self.mark_written(address, len(content))
        offset = address - self.base
        self.data[offset : offset + len(content)] = np.frombuffer(content, np.uint8)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of an allocation; raise AccessError where some were never written."""
        offset = self._inside(address, size)
        if (self._state[offset : offset + size] != _WRITTEN).any():
            first = int(np.flatnonzero(self._state[offset : offset + size] != _WRITTEN)[0])
            raise AccessError(f"byte {first} of {size} at {address:#x} was never written")
        return self.data[offset : offset + size].tobytes()
