# SPDX-License-Identifier: Apache-2.0
"""The law in plain Python, as the contract states it: what every kernel set must agree with.

The numbers stand here as the contract writes them, not read from the header, so that a slip of
the header shows too.
"""

from itertools import accumulate

MODULUS = 96
PAGE_BYTES = 256
WINDOW_BYTES = 12288

# The lengths that bite: around the modulus, a page, a window, several windows, where an off-by-one
# of a loop shows.
BITING_LENGTHS = (
    *(0, 1, 95, 96, 97, 255, 256, 257),
    *(12287, 12288, 12289, 2 * 12288 + 1, 31 * 12288, 100 * 12288),
)
# The same without those that cost much in a loop.
SHORT_BITING_LENGTHS = tuple(n for n in BITING_LENGTHS if n <= 2 * 12288 + 1)


def residue(data: bytes | bytearray | memoryview) -> int:
    """Sum of the bytes mod 96."""
    return sum(data) % MODULUS


def delta(before: bytes | memoryview, after: bytes | memoryview) -> int:
    """(residue(after) - residue(before)) mod 96."""
    return (residue(after) - residue(before)) % MODULUS


def window_residues(data: bytes | memoryview) -> list[int]:
    """Residue of each window; the last one may be shorter."""
    return [residue(data[i : i + WINDOW_BYTES]) for i in range(0, len(data), WINDOW_BYTES)]


def nearest_conserving(rest: int, last: int) -> int:
    """The byte nearest to `last` (the smaller on a tie) with (rest + byte) mod 96 == 0."""
    fitting = [byte for byte in range(256) if (rest + byte) % MODULUS == 0]
    return min(fitting, key=lambda byte: (abs(byte - last), byte))


def fixup(data: bytes) -> bytes:
    """The region with its last byte replaced, so that it is conserved."""
    if not data:
        return data
    return data[:-1] + bytes([nearest_conserving(sum(data[:-1]), data[-1])])


def fill(value: int, length: int) -> bytes:
    """A conserved region of `length` bytes, every one `value` but the last."""
    return fixup(bytes([value]) * length)


class Sums:
    """Residues of all slices of one buffer, from its prefix sums; Python's integers never wrap."""

    def __init__(self, data: bytes) -> None:
        self._prefix = [0, *accumulate(data)]

    def total(self, start: int, stop: int) -> int:
        return self._prefix[stop] - self._prefix[start]

    def residue(self, start: int, stop: int) -> int:
        return self.total(start, stop) % MODULUS
