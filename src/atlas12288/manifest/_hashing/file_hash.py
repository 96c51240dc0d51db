# SPDX-License-Identifier: Apache-2.0
"""Combine the digests of one large file from its blocks, in order, whoever hashes them."""

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
        residue: the residue, in 0..95.
        sha256: the flat digest; None if it was not wanted.
        root: the tree root; None if it was not wanted.
    """

    residue: int
    sha256: bytes | None
    root: bytes | None


class Checkpoint(NamedTuple):
    """The progress of reading a file.

    Attributes:
        blocks: number of finished blocks of `BLOCK_BYTES` from the start of the file.
        residue: residue of these bytes if no flat digest is wanted, else 0.
        flat: state of the flat digest, as from bytes(WitnessStream); it includes the residue.
    """

    blocks: int
    residue: int
    flat: bytes | None


# Takes the next leaf hashes of one file, joined, in order.
LeafSink = Callable[[bytes], object]
# Called with a file, its checkpoint, and the root of the last block (b"" without a tree).
Progress = Callable[[Found, Checkpoint, bytes], object]
# Returns the last checkpoint of a file and the roots of its blocks, joined, in any pieces.
Resume = Callable[[Found], tuple[Checkpoint, Iterable[bytes]] | None]


class FileHash:
    """Combines the digests of a file from its blocks.

    Args:
        size: size of the file in bytes.
        digests: the digests to compute, one or both of `entries.DIGESTS`.

    Attributes:
        blocks: number of blocks of the file.
        done: number of blocks that were added.
        has_flat: whether a flat digest is computed.
        stream: the flat digest of the bytes so far; None if it is not wanted. Who hashes several
            files at once updates it, and calls `take` without the bytes.
    """

    def __init__(self, size: int, digests: tuple[str, ...]) -> None:
        self.blocks = -(-size // BLOCK_BYTES)
        self.done = 0
        self.has_flat = ALGORITHM in digests
        self.stream = WitnessStream() if self.has_flat else None
        self._tree = TreeStream() if TREE_ALGORITHM in digests else None
        self._residue = 0

    def go_on(self, checkpoint: Checkpoint, roots: Iterable[bytes]) -> None:
        """Continue from a checkpoint; `roots` are the roots of the blocks before it."""
        self.done = checkpoint.blocks
        self._residue = checkpoint.residue
        if self.stream is not None:
            self.stream = WitnessStream.from_bytes(checkpoint.flat or b"")
        for joined in roots:
            self._append(joined)

    def take(self, data: memoryview | None, residue: int, root: bytes) -> None:
        """Add the next block.

        Args:
            data: bytes of the block, for the flat digest; None if that is not wanted, or `stream`
                has them.
            residue: residue of the block; not used with a flat digest, which includes it.
            root: root of the block; b"" if no tree is wanted.
        """
        if self.stream is None:
            self._residue = (self._residue + residue) % MODULUS
        elif data is not None:
            self.stream.update(data)
        self._append(root)
        self.done += 1

    def take_hashed(self, blocks: int, state: bytes | None, residue: int, roots: bytes) -> None:
        """Add the next blocks, which were hashed elsewhere.

        Args:
            blocks: number of blocks.
            state: state of the flat digest after them; None if that is not wanted.
            residue: residue of their bytes; not used with a flat digest.
            roots: their roots, joined, all of one height; b"" if no tree is wanted.
        """
        if state is None:
            self._residue = (self._residue + residue) % MODULUS
        else:
            self.stream = WitnessStream.from_bytes(state)
        self._append(roots)
        self.done += blocks

    def _append(self, roots: bytes) -> None:
        if self._tree is not None:
            self._tree.append(roots, 0)

    def state(self) -> bytes | None:
        """Return the state of the flat digest; None if that is not wanted."""
        return None if self.stream is None else bytes(self.stream)

    def checkpoint(self) -> Checkpoint:
        """Return the present checkpoint."""
        return Checkpoint(self.done, self._residue, self.state())

    def digests(self) -> Digests:
        """Return the digests, after all blocks were added."""
        flat = None if self.stream is None else self.stream.witness()
        return Digests(
            self._residue if flat is None else flat.residue,
            None if flat is None else flat.digest,
            None if self._tree is None else self._tree.result()[0],
        )
