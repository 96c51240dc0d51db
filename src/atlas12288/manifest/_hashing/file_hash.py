# SPDX-License-Identifier: Apache-2.0
"""The digests of one large file, whose blocks are taken in order; whoever hashes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..._native import MODULUS, TreeStream
from ..._subtree import BLOCK_BYTES
from ..._witness import ALGORITHM, TREE_ALGORITHM, WitnessStream
from .._sources.source import Found


class Digests(NamedTuple):
    """The digests of a file.

    Attributes:
        residue: in 0..95.
        sha256: the flat digest; None where it was not wanted.
        root: the tree root; None where it was not wanted.
    """

    residue: int
    sha256: bytes | None
    root: bytes | None


class Checkpoint(NamedTuple):
    """How far the reading of a file has come.

    Attributes:
        blocks: the number of blocks of `BLOCK_BYTES`, from its start, that are done.
        residue: of these bytes where no flat digest is wanted, else 0.
        flat: the state of the flat digest, which includes the residue: bytes(WitnessStream).
    """

    blocks: int
    residue: int
    flat: bytes | None


# Takes the next leaf hashes of one file, joined, in order.
LeafSink = Callable[[bytes], object]
# Takes a file, its checkpoint, and the root of the last block (b"" where no tree is wanted).
Progress = Callable[[Found, Checkpoint, bytes], object]
# Returns the last checkpoint of a file and the roots of its blocks, joined, in any pieces.
Resume = Callable[[Found], tuple[Checkpoint, Iterable[bytes]] | None]


class FileHash:
    """The digests of a file of several blocks.

    Args:
        size: the bytes of the file.
        digests: which ones are wanted, one or both of `entries.DIGESTS`.

    Attributes:
        blocks: the number of its blocks.
        done: how many of them were taken, in order.
        has_flat: is a flat digest wanted?
    """

    def __init__(self, size: int, digests: tuple[str, ...]) -> None:
        self.blocks = -(-size // BLOCK_BYTES)
        self.done = 0
        self.has_flat = ALGORITHM in digests
        self._flat = WitnessStream() if self.has_flat else None
        self._tree = TreeStream() if TREE_ALGORITHM in digests else None
        self._residue = 0

    def go_on(self, checkpoint: Checkpoint, roots: Iterable[bytes]) -> None:
        """Go on from a checkpoint; `roots` are the roots of the blocks before it."""
        self.done = checkpoint.blocks
        self._residue = checkpoint.residue
        if self._flat is not None:
            self._flat = WitnessStream.from_bytes(checkpoint.flat or b"")
        for joined in roots:
            self._append(joined)

    def take(self, data: memoryview | None, residue: int, root: bytes) -> None:
        """Take the next block.

        Args:
            data: its bytes, for the flat digest; None where that is not wanted.
            residue: of these bytes; not used where a flat digest is wanted, which has it.
            root: of its tree; b"" where none is wanted.
        """
        if self._flat is None:
            self._residue = (self._residue + residue) % MODULUS
        elif data is not None:
            self._flat.update(data)
        self._append(root)
        self.done += 1

    def take_hashed(self, blocks: int, state: bytes | None, residue: int, roots: bytes) -> None:
        """Take the next blocks, which were hashed elsewhere.

        Args:
            blocks: how many.
            state: of the flat digest after them; None where that is not wanted.
            residue: of their bytes; not used where a flat digest is wanted.
            roots: of their trees, joined, all of one height; b"" where no tree is wanted.
        """
        if state is None:
            self._residue = (self._residue + residue) % MODULUS
        else:
            self._flat = WitnessStream.from_bytes(state)
        self._append(roots)
        self.done += blocks

    def _append(self, roots: bytes) -> None:
        if self._tree is not None:
            self._tree.append(roots, 0)

    def state(self) -> bytes | None:
        """Return the state of the flat digest; None where that is not wanted."""
        return None if self._flat is None else bytes(self._flat)

    def checkpoint(self) -> Checkpoint:
        """Return how far it has come."""
        return Checkpoint(self.done, self._residue, self.state())

    def digests(self) -> Digests:
        """Return the digests; all blocks were taken."""
        flat = None if self._flat is None else self._flat.witness()
        return Digests(
            self._residue if flat is None else flat.residue,
            None if flat is None else flat.digest,
            None if self._tree is None else self._tree.result()[0],
        )
