# SPDX-License-Identifier: Apache-2.0
"""Flat digests of several large files at once.

SHA-256 of one file is a chain of steps, each waiting for the one before. The chains of several
files are independent, and a kernel takes steps of many in the time of a few. So one thread reads a
piece of each file in turns, and hashes these pieces beside one another.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Final, TypeVar

from ._files import FileError
from ._native import WINDOW_BYTES, update_streams
from ._witness import WitnessStream

# No kernel set hashes more messages at once.
CHAINS_MOST: Final = 16
# Of a file at a time. What Python does for a piece of a quarter of it costs a tenth of the speed.
PIECE_BYTES: Final = 16 * WINDOW_BYTES

C = TypeVar("C", bound="Chain")


class Chain:
    """A part of a file, to be hashed beside parts of other files.

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

    def finish(self) -> None:
        """Do what is left when it has ended, with an error or without. The default is nothing."""


def hash_in_turns(
    chains: Iterable[C], buffer: memoryview, most: int = CHAINS_MOST
) -> Generator[list[tuple[C, memoryview]], None, None]:
    """Read and hash the parts of several files, until each has ended. An error ends one alone.

    Args:
        chains: the parts; each is taken when its turn comes, and finished when it has ended.
        buffer: for a piece of each, of `PIECE_BYTES` where so many fit.
        most: so many are read in turns.

    Yields:
        The pieces that were hashed together, each with its chain. They are valid until the next
        ones are taken.
    """
    size = min(PIECE_BYTES, len(buffer) // most)
    rooms = [buffer[start : start + size] for start in range(0, most * size, size)]
    waiting = iter(chains)
    open_chains: list[C | None] = [None] * most
    while True:
        pieces = []
        for number, room in enumerate(rooms):
            while (chain := open_chains[number] or next(waiting, None)) is not None:
                open_chains[number] = chain
                if (piece := chain.next_piece(room)) is not None:
                    pieces.append((chain, piece))
                    break
                chain.finish()
                open_chains[number] = None
        if not pieces:
            return
        update_streams([chain.stream for chain, _ in pieces], [piece for _, piece in pieces])
        yield pieces
