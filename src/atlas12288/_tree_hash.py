# SPDX-License-Identifier: Apache-2.0
"""The root of data that comes in chunks, with the interface of a `hashlib` object."""

from __future__ import annotations

from time import time_ns

from . import _native
from ._native import DIGEST_BYTES, WINDOW_BYTES
from ._tree import TreeWitness
from ._types import Buffer
from ._witness import TREE_ALGORITHM


class TreeHash(_native.TreeStream):
    """TreeHash(data=b"")

    Computes the root of data in chunks of any size, in constant memory, with the interface of a
    `hashlib` object: `hashlib.file_digest(file, atlas12288.TreeHash)`. It uses one core;
    `TreeWitness.generate_from(source)` uses all.

    Args:
        data: the first chunk.

    `update(chunk)` adds the next bytes. Only one thread may use an object at a time; another one
    gets StateError. Raises TypeError or BufferError if a chunk is not a C-contiguous buffer.
    Header: Trees.
    """

    __slots__ = ()

    name = TREE_ALGORITHM
    digest_size: int = DIGEST_BYTES
    block_size = WINDOW_BYTES

    def __init__(self, data: Buffer = b"") -> None:
        self.update(data)

    def digest(self) -> bytes:
        """Return the root of all bytes so far; more may follow."""
        return self.result()[0]

    def hexdigest(self) -> str:
        """Return the root in lowercase hex."""
        return self.digest().hex()

    @property
    def length(self) -> int:
        """The number of bytes so far."""
        return self.result()[1]

    @property
    def residue(self) -> int:
        """The residue of all bytes so far, in 0..95."""
        return self.result()[2]

    def witness(self) -> TreeWitness:
        """Return the witness of all bytes so far, without leaves, with the present time."""
        root, length, residue = self.result()
        return TreeWitness._of_parts(length, residue, root, time_ns(), None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.hexdigest()} of {self.length} bytes>"
