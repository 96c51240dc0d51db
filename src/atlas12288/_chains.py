# SPDX-License-Identifier: Apache-2.0
"""Flat digests of several large files at once.

SHA-256 of one file is a chain of steps, each waiting for the one before. The chains of several
files are independent, and a kernel takes steps of many in the time of a few. So one thread reads a
piece of each file in turns, and hashes these pieces beside one another.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Final

from ._files import FileError
from ._native import WINDOW_BYTES, update_streams
from ._subtree import BLOCK_BYTES
from ._witness import WitnessStream

# No kernel set hashes more messages at once.
CHAINS_MOST: Final = 16
# A piece of each fits into one buffer of a block, 3 MiB. Smaller ones would gain nothing: from
# 48 KiB on, a read costs as much as the copy of its bytes.
PIECE_BYTES: Final = BLOCK_BYTES // CHAINS_MOST
assert PIECE_BYTES % WINDOW_BYTES == 0


class Chain:
    """A part of a file, to be hashed beside those of other files.

    Args:
        stream: takes the bytes; no other chain has it.
        read: fills a buffer from an offset of the file on; raises FileError if it cannot.
        start, stop: the part, in bytes from the start of the file.

    Attributes:
        offset: where the bytes begin that were not read yet.
        error: why the chain ended before `stop`; None if it did not.
    """

    __slots__ = ("_read", "error", "offset", "stop", "stream")

    def __init__(
        self,
        stream: WitnessStream,
        read: Callable[[int, memoryview], object],
        start: int,
        stop: int,
    ) -> None:
        self.stream = stream
        self._read = read
        self.offset = start
        self.stop = stop
        self.error: FileError | None = None

    def next_piece(self, buffer: memoryview) -> memoryview | None:
        """Read the next bytes to the buffer; return None if there are none, or on an error."""
        if self.error is not None or self.offset >= self.stop:
            return None
        piece = buffer[: self.stop - self.offset]
        try:
            self._read(self.offset, piece)
        except FileError as error:
            self.error = error
            return None
        self.offset += len(piece)
        return piece


def hash_in_turns(
    chains: Sequence[Chain], buffer: memoryview
) -> Generator[list[tuple[int, memoryview]], None, None]:
    """Read and hash the parts of several files, until each has ended. An error ends one alone.

    Args:
        chains: the parts, at most `CHAINS_MOST`.
        buffer: has room for `PIECE_BYTES` of each.

    Yields:
        The pieces that were hashed together, each with the index of its chain. They are valid until
        the next ones are taken.
    """
    rooms = [
        buffer[number * PIECE_BYTES : (number + 1) * PIECE_BYTES] for number in range(len(chains))
    ]
    while True:
        pieces = [
            (number, piece)
            for number, chain in enumerate(chains)
            if (piece := chain.next_piece(rooms[number])) is not None
        ]
        if not pieces:
            return
        update_streams([chains[number].stream for number, _ in pieces], [p for _, p in pieces])
        yield pieces
