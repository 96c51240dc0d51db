# SPDX-License-Identifier: Apache-2.0
"""What a scrubber knows of a tensor on a GPU, and how it looks at it.

All that is kept from one pass to the next is in the native `RemoteWatch`, where no handler of
signals that raises can leave it half done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _native
from ._tree import TreeWitness

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from ._types import Memory


class DeviceWatch:
    """The leaves and residues that the windows of a tensor must have.

    Each look is at the whole tensor. A tensor that has another length by then, or that its library
    does not give any more, is a BufferError, as a lost device is a DeviceError: no damage.

    Args:
        buf: the tensor.
        length: of it in bytes.
        leaves: that its windows must have.
    """

    def __init__(self, buf: Memory, length: int, leaves: bytes) -> None:
        self._buf = buf
        self._length = length
        self.known = _native.RemoteWatch(leaves)

    def view(self) -> DeviceView:
        """Return a view for one thread and one pass."""
        return DeviceView(self)

    def expect(self, index: int, leaf: bytes, /) -> None:
        """Set the leaf that a window must have."""
        self.known.expect(index, leaf)

    def change(self, runs: Iterable[tuple[int, int]], /) -> AbstractContextManager[object]:
        """Return a context manager for changes of windows, which are taken anew when it ends."""
        return self.known.change(runs, self.hashes)

    def hashes(self) -> tuple[bytes, bytes]:
        """Hash the tensor; return the leaves and the residues of its windows."""
        tree = TreeWitness.generate(self._buf)
        assert tree._tree is not None
        if tree.length != self._length:
            raise BufferError(f"the tensor has {tree.length} bytes, must have {self._length}")
        residues = b"".join(block.residues or b"" for block in tree._tree.blocks())
        return tree.leaves or b"", residues

    def residues(self) -> bytes:
        """Return the residues of the windows, which takes far less time."""
        found = _native.window_residues(self._buf)
        if len(found) != self.known.windows:
            raise BufferError(
                f"the tensor has {len(found)} windows, must have {self.known.windows}"
            )
        return found


class DeviceView:
    """One look at a tensor, all of which is judged by the same hashes."""

    def __init__(self, watch: DeviceWatch) -> None:
        self._watch = watch
        self._seen: tuple[int, bytes, bytes] | None = None

    def read_error(self, first: int, stop: int, /) -> int:
        """Return 0: a device tells by a DeviceError."""
        return 0

    def residues_differ(self, first: int, stop: int, /) -> list[int]:
        """Return the indices of the windows to judge, by the residues."""
        return self._watch.known.residues_differ(self._watch.residues())

    def leaves_differ(self, first: int, stop: int, /) -> list[int]:
        """Return the indices of the windows to judge, by the digests."""
        _, leaves, residues = self._look()
        return self._watch.known.leaves_differ(leaves, residues)

    def judge(self, index: int, /) -> int:
        """Return the verdict on a window, a sum of the `WINDOW_` numbers."""
        return self._watch.known.judge(index, *self._look())

    def _look(self) -> tuple[int, bytes, bytes]:
        """Return the time before the tensor was hashed, its leaves and residues."""
        if self._seen is None:
            now = self._watch.known.now
            self._seen = now, *self._watch.hashes()
        return self._seen
