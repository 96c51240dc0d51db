# SPDX-License-Identifier: Apache-2.0
"""Tree witnesses: the Merkle Tree Hash of RFC 9162, section 2.1.1, over windows of 12,288 bytes.

They tell which windows changed, are updated in time that does not depend on the length, and prove
single windows and appended data. All witnesses have one JSON form.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from time import time_ns

from . import _gpu, _native
from ._errors import DeviceError, StateError, WitnessError
from ._native import DIGEST_BYTES, WINDOW_BYTES, block_witness, bytes_of, int_in
from ._parallel import thread_count
from ._pending import Pending
from ._proofs import ConsistencyProof, InclusionProof
from ._subtree import (
    BLOCK_BYTES,
    FANOUT,
    Subtree,
    blocks_of_chunks,
    changed_windows,
    tree_of_leaves,
    tree_of_windows,
    updated,
    window_count,
    with_blocks,
    with_residues,
)
from ._types import TYPE_CHECKING, Buffer, Memory, Readable, Stream
from ._value import Value
from ._witness import TREE_ALGORITHM, Record, of_buffers, read_record

if TYPE_CHECKING:
    from ._gpu.jobs import TreeParts

_CHUNK_BLOCKS_MOST = 16


class TreeWitness(Record, Value):
    """Immutable record of a region: algorithm, length, residue, root, time; and its leaves.

    Made by `generate(buf)`, `generate_from(source)`, `from_json` and `TreeHash.witness()`. Two are
    equal if all fields are, including the time; the leaves do not count, as the root determines
    them. It can be pickled.

    Attributes:
        length: length of the region in bytes.
        residue: residue of the region, in 0..95.
        root: root of the tree, 32 bytes; also `digest`.
        timestamp_ns: time of creation, in nanoseconds since 1970-01-01T00:00:00Z.
    """

    _FIELDS = ("length", "residue", "root", "timestamp_ns")
    _DERIVED = ("_tree",)
    __slots__ = (*_FIELDS, *_DERIVED)
    _MADE_BY = "TreeWitness.generate() or from_json()"

    length: int
    residue: int
    root: bytes
    timestamp_ns: int
    _tree: Subtree | None

    @typing.overload
    @classmethod
    def generate(
        cls,
        buf: Memory,
        /,
        *,
        threads: int | None = None,
        leaves: bool = True,
        stream: Stream = None,
        host: bool = False,
        wait: typing.Literal[True] = True,
    ) -> typing.Self: ...

    @typing.overload
    @classmethod
    def generate(
        cls,
        buf: Memory,
        /,
        *,
        threads: int | None = None,
        leaves: bool = True,
        stream: Stream = None,
        host: bool = False,
        wait: typing.Literal[False],
    ) -> Pending[typing.Self]: ...

    @classmethod
    def generate(
        cls,
        buf: Memory,
        /,
        *,
        threads: int | None = None,
        leaves: bool = True,
        stream: Stream = None,
        host: bool = False,
        wait: bool = True,
    ) -> typing.Self | Pending[typing.Self]:
        """Return the witness of the bytes of `buf`, which may be empty, with the present time.

        Args:
            buf: any C-contiguous buffer, or a tensor with `__dlpack__` or
                `__cuda_array_interface__`; what is on a CUDA device is hashed there. It must not
                change during the call, with `wait=False` not until the result is there.
            threads: number of threads; None for one per core that this process may use. The
                witness is the same. No thread is started for 1, or for less than 3 MiB.
            leaves: keep the leaves, 33 bytes a window, for `changed`, `update` and the proofs.
            stream: the CUDA stream to work on, the only one that is waited for: an int, an object
                with `__cuda_stream__`, or None for a stream of our own.
            host: copy what is on a device to host memory in pieces, and hash it there.
            wait: False to return a `Pending` at once, whose `result()` is the witness.

        Raises:
            TypeError, BufferError: `buf` is not C-contiguous bytes, `threads` not an int.
            ValueError: `threads` is less than 1.
            DeviceError: the device, its driver or its kernels are missing, or it failed.
        """
        small = block_witness(cls, buf, threads, leaves)
        if isinstance(small, TreeWitness):
            return small if wait else Pending.ready(small)
        found = cls._pending(buf, small, threads, leaves, stream, host)
        return found.result() if wait else found

    @classmethod
    def _pending(
        cls,
        buf: Memory,
        device: tuple[int, int] | None,
        threads: int | None,
        leaves: bool,
        stream: Stream,
        host: bool,
    ) -> Pending[typing.Self]:
        """Return the witness of `generate`, to be waited for if a device makes it."""
        if device is not None and not host:
            made = _gpu.trees([(buf, "buf")], device, stream=stream, leaves=leaves)
            return made.then(lambda found: cls._of_device(found[0]))
        count = thread_count(threads)
        if device is None:
            content = bytes_of(buf)
            # Long chunks, because handing one over costs time, but enough of them to end together,
            # and short enough for Ctrl-C.
            step = min(max(1, len(content) // (16 * count * BLOCK_BYTES)), _CHUNK_BLOCKS_MOST)
            starts = range(0, len(content), step * BLOCK_BYTES)
            chunks = (content[start : start + step * BLOCK_BYTES] for start in starts)
            return Pending.ready(cls._of_blocks(blocks_of_chunks(chunks, count), leaves))
        return Pending.ready(cls._of_copies(buf, device, count, leaves, stream))

    @classmethod
    def _of_copies(
        cls, buf: object, device: tuple[int, int], threads: int, leaves: bool, stream: Stream
    ) -> typing.Self:
        """Return the witness of a tensor on a device, copied to host memory in pieces."""
        with _gpu.host_chunks(buf, device, stream=stream, threads=threads) as chunks:
            return cls._of_blocks(blocks_of_chunks(chunks, threads), leaves)

    @classmethod
    def _of_device(cls, parts: TreeParts | Exception) -> typing.Self:
        """Return the witness of a tree that a device made, with the present time."""
        if isinstance(parts, Exception):
            raise parts
        tree = None
        if parts.leaves is not None:
            tree = tree_of_leaves(
                parts.leaves,
                parts.residues or b"",
                parts.block_roots or b"",
                parts.block_residues or b"",
            )
            if tree.root != parts.root:
                raise DeviceError(
                    f"the root of the device's leaves is {tree.root.hex()}, must be its root, "
                    f"{parts.root.hex()}: nothing is known of the bytes"
                )
        return cls._of_parts(parts.length, parts.residue, parts.root, time_ns(), tree)

    @classmethod
    def generate_many(
        cls, buffers: Iterable[Buffer], /, *, threads: int | None = None, leaves: bool = True
    ) -> list[typing.Self]:
        """Return the witnesses of many buffers, in their order, with the present time.

        Their windows are hashed beside one another, which is faster than one buffer after another
        where they are small. Nothing is hashed before all buffers are there.

        Args:
            buffers: any number of them, each of any length.
            threads: how many threads hash them; None: as many as there are cores.
            leaves: keep the leaves, as in `generate`.

        Raises:
            TypeError: an item is not a buffer, or has objects; the message names its index.
            BufferError: an item is not C-contiguous; the message names its index.
            ValueError: `threads` is less than 1.
        """

        def make(held: _native.Buffers, start: int, stop: int) -> list[typing.Self]:
            hashes, residues, roots = held.trees(start, stop)
            now = time_ns()
            made = []
            last = 0
            for number, length in enumerate(held.lengths()[start:stop]):
                first, last = last, last + window_count(length)
                parts = residues[first:last]
                residue = _native.residue(parts)
                root = roots[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)]
                tree = None
                if leaves:
                    of_it = hashes[DIGEST_BYTES * first : DIGEST_BYTES * last]
                    tree = tree_of_windows(of_it, parts, root, residue)
                made.append(cls._of_parts(length, residue, root, now, tree))
            return made

        return of_buffers(buffers, threads, make)

    @classmethod
    def generate_from(
        cls,
        source: str | os.PathLike[str] | Readable,
        /,
        *,
        threads: int | None = None,
        leaves: bool = True,
    ) -> typing.Self:
        """Return the witness of a file, as `generate` does for its bytes.

        Reading and hashing overlap. It takes less than 64 MiB, plus 33 bytes a window if leaves are
        kept.

        Args:
            source: the path of a regular file, or a binary file that blocks: one with `readinto`,
                which is read from its current position to its end and stays open.
            threads, leaves: as in `generate`.

        Raises:
            FileError: the path does not name a regular file, or the file cannot be read, or it
                changed while it was read.
            BlockingIOError: the binary file is non-blocking and has no bytes.
            TypeError: `source` is neither a path nor a binary file, or `threads` not an int.
            ValueError: `source` is a URL or a closed file, or `threads` is less than 1.
        """
        from ._file_blocks import source_blocks  # here: witnessing buffers does not need it

        return cls._of_blocks(source_blocks(source, threads), leaves)

    @classmethod
    def _of_blocks(
        cls,
        blocks: Generator[tuple[Subtree, int], None, None],
        keep: bool,
        each: Callable[[bytes], object] | None = None,
    ) -> typing.Self:
        """Return the witness of a region from the blocks of its tree.

        Args:
            blocks: in order, with the bytes that each stands for; all but the last one are full.
            keep: keep the leaves in memory.
            each: called with the next leaf hashes, joined, in order.
        """
        length = 0
        stream = _native.TreeStream()
        kept: list[Subtree] = []
        # Closed at once, also after an error: no thread and no open file is left.
        with closing(blocks):
            for block, size in blocks:
                length += size
                if each is not None:
                    each(bytes(block.hashes))
                if keep:
                    kept.append(block)
                else:
                    stream.append(block.root, block.residue or 0)
        if keep:
            made = dict(enumerate(kept or [Subtree(b"", b"")]))
            return cls._of_tree(with_blocks(None, len(made), made), length)
        root, _, residue = stream.result()
        return cls._of_parts(length, residue, root, time_ns(), None)

    @classmethod
    def _of_tree(cls, tree: Subtree, length: int) -> typing.Self:
        return cls._of_parts(length, tree.residue or 0, tree.root, time_ns(), tree)

    @classmethod
    def _of_parts(
        cls, length: int, residue: int, root: bytes, timestamp_ns: int, tree: Subtree | None
    ) -> typing.Self:
        witness = object.__new__(cls)
        # Not through _of(), which takes three times as long: a set can have a million tensors.
        _PUT[0](witness, length)
        _PUT[1](witness, residue)
        _PUT[2](witness, root)
        _PUT[3](witness, timestamp_ns)
        _PUT[4](witness, tree)
        return witness

    @classmethod
    def from_json(cls, text: str | bytes) -> typing.Self:
        """Return the witness of a JSON text as written by `to_json`, without leaves.

        Bytes are UTF-8.

        Raises:
            WitnessError: not a tree witness, or more than 1,024 bytes; the message names the key,
                its value and the rule.
            TypeError: neither str nor bytes.
        """
        _, length, residue, root, timestamp_ns = read_record(text, TREE_ALGORITHM)
        return cls._of_parts(length, residue, root, timestamp_ns, None)

    @property
    def algorithm(self) -> str:
        """Name of the root's algorithm, "sha256-merkle-12288"."""
        return TREE_ALGORITHM

    @property
    def digest(self) -> bytes:
        """The root."""
        return self.root

    @property
    def windows(self) -> int:
        """The number of windows in the region; the last one may be shorter."""
        return window_count(self.length)

    @property
    def leaves(self) -> bytes | None:
        """The leaf hashes as in a sidecar, 32 bytes a window; None without leaves. O(windows)."""
        if self._tree is None:
            return None
        return b"".join(block.hashes for block in self._tree.blocks())

    def with_leaves(self, leaves: Buffer, /) -> typing.Self:
        """Return the same witness with leaves, for example from a sidecar.

        Raises:
            WitnessError: there are not 32 bytes a window, or they do not match the root.
            TypeError, BufferError: `leaves` is not a C-contiguous buffer.
        """
        content = bytes_of(leaves)
        size = self.windows * DIGEST_BYTES
        if len(content) != size:
            raise WitnessError(
                f"leaves has {len(content)} bytes, must have {size}, "
                f"{DIGEST_BYTES} for each of {self.windows} windows"
            )
        step = FANOUT * DIGEST_BYTES
        starts = range(0, max(1, size), step)
        blocks = [Subtree(bytes(content[start : start + step]), None) for start in starts]
        tree = with_blocks(None, len(blocks), dict(enumerate(blocks)))
        if tree.root != self.root:
            raise WitnessError(
                f"leaves have the root {tree.root.hex()}, must have the witness's root, "
                f"{self.root.hex()}"
            )
        return self._of_parts(self.length, self.residue, self.root, self.timestamp_ns, tree)

    def _known_tree(self, purpose: str) -> Subtree:
        if self._tree is None:
            raise StateError(
                f"the witness has no leaves, must have them for {purpose}; with_leaves() adds them"
            )
        return self._tree

    @typing.overload
    def verify(
        self,
        buf: Memory,
        /,
        *,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
        wait: typing.Literal[True] = True,
    ) -> bool: ...

    @typing.overload
    def verify(
        self,
        buf: Memory,
        /,
        *,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
        wait: typing.Literal[False],
    ) -> Pending[bool]: ...

    def verify(
        self,
        buf: Memory,
        /,
        *,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
        wait: bool = True,
    ) -> bool | Pending[bool]:
        """Return whether `buf` has this length, residue and root, compared in constant time.

        A device that fails is never a verdict: that is a DeviceError.

        Args, Raises: as `generate`.
        """
        small = block_witness(type(self), buf, threads, False)
        if isinstance(small, TreeWitness):
            same = self._is_same(small)
            return same if wait else Pending.ready(same)
        if small is None and len(bytes_of(buf)) != self.length:
            return False if wait else Pending.ready(False)
        found = self._pending(buf, small, threads, False, stream, host).then(self._is_same)
        return found.result() if wait else found

    def _is_same(self, found: TreeWitness) -> bool:
        from hmac import compare_digest  # imported here: it takes longer than our import

        same = (found.length, found.residue) == (self.length, self.residue)
        return compare_digest(found.root, self.root) and same

    def verify_from(
        self, source: str | os.PathLike[str] | Readable, /, *, threads: int | None = None
    ) -> bool:
        """Return whether a file has this length, residue and root; it is read to its end.

        Args, Raises: as `generate_from`.
        """
        return self._is_same(self.generate_from(source, threads=threads, leaves=False))

    def changed(
        self,
        buf: Memory,
        /,
        *,
        threads: int | None = None,
        stream: Stream = None,
        host: bool = False,
    ) -> list[int]:
        """Return the indices of the windows in which `buf` differs; as `changed_windows`.

        Args: as `generate`.

        Raises:
            StateError: the witness has no leaves.
            TypeError, BufferError, ValueError, DeviceError: as `generate`.
        """
        self._known_tree("changed()")
        found = self.generate(buf, threads=threads, stream=stream, host=host)
        return self.changed_windows(found)

    def changed_windows(self, other: TreeWitness, /) -> list[int]:
        """Return in order the indices of the windows in which the regions of two witnesses differ.

        A window that only one region has counts as different, as does a last window of another
        length.

        Raises:
            StateError: one of the witnesses has no leaves.
        """
        purpose = "changed_windows()"
        return list(changed_windows(self._known_tree(purpose), other._known_tree(purpose)))

    def update(
        self, buf: Buffer, windows: Iterable[int], /, *, threads: int | None = None
    ) -> typing.Self:
        """Return the witness of the region after some windows changed, with the present time.

        This witness does not change; both share the unchanged parts. It takes O(changed windows x
        log windows) and reads only these windows. After `with_leaves` it also reads `buf` once,
        because leaves do not include the residues.

        If the region grew or shrank, the windows past the shorter length need not be named: they
        are hashed again or dropped.

        Args:
            buf: the whole region now.
            windows: indices of all windows that changed, in any order. A change in another window
                is missed; a window that did not change does no harm.
            threads: as in `generate`.

        Raises:
            StateError: the witness has no leaves.
            ValueError: an index is not of an old or new window, or `threads` is less than 1.
            TypeError, BufferError: `buf` is not a C-contiguous buffer, or an index not an int.
        """
        tree = self._known_tree("update()")
        content = bytes_of(buf)
        count = window_count(len(content))
        changed = {_index(window, max(count, self.windows)) for window in windows}
        if len(content) != self.length:
            changed.update(range(min(len(content), self.length) // WINDOW_BYTES, count))
        if tree.residue is None:
            tree = with_residues(tree, _native.window_residues(content))
        tree = updated(tree, self.windows, content, sorted(changed), thread_count(threads))
        return self._of_tree(tree, len(content))

    def prove(self, window: int, /) -> InclusionProof:
        """Return the proof that the window with this index is in the tree. O(log windows).

        Raises:
            StateError: the witness has no leaves.
            ValueError: there is no such window.
            TypeError: `window` is not an int.
        """
        tree = self._known_tree("prove()")
        return InclusionProof._in_tree(tree, self.windows, _index(window, self.windows))

    def verify_window(self, window: Buffer, proof: InclusionProof, /) -> bool:
        """Return whether these are the bytes of the region's window `proof.index`.

        Unlike `proof.verify`, this also checks the size in the proof against the length of the
        region, so that the index is certain. It needs no leaves.

        Raises:
            TypeError, BufferError: `window` is not a C-contiguous buffer.
        """
        return proof.size == self.windows and proof.verify(window, self.root)

    def prove_consistency(self, old: int | TreeWitness, /) -> ConsistencyProof:
        """Return the proof that the region begins with the windows of an older one.

        O(log windows).

        The proof covers whole windows: if bytes are appended to a partial last window, its leaf
        changes, and the older tree is no longer part of the new one.

        Args:
            old: the witness of the older region, or its number of whole windows (for this region
                itself, the last window may be partial). The proof holds if it is right.

        Raises:
            StateError: the witness has no leaves.
            ValueError: the older region is empty, longer than this one, or ends in a partial
                window.
            TypeError: `old` is neither an int nor a TreeWitness.
        """
        tree = self._known_tree("prove_consistency()")
        if isinstance(old, TreeWitness):
            if old.length % WINDOW_BYTES != 0 and old.length != self.length:
                raise ValueError(
                    f"length of old is {old.length}, must be a multiple of {WINDOW_BYTES}: "
                    "only whole windows stay what they are when bytes are appended"
                )
            old = old.windows
        if self.windows == 0:
            raise ValueError("the region is empty, must have a window for prove_consistency()")
        size = int_in(old, "old", 1, self.windows)
        return ConsistencyProof._in_tree(tree, self.windows, size)

    def verify_consistency(self, old: TreeWitness, proof: ConsistencyProof, /) -> bool:
        """Return whether the region begins with the windows of an older one.

        Roots and sizes come from the two witnesses, so the proof cannot claim others. It needs no
        leaves.
        """
        return proof.verify(old.root, self.root, old_size=old.windows, new_size=self.windows)


_PUT = tuple(getattr(TreeWitness, name).__set__ for name in TreeWitness.__slots__)
_native.register_trees(TreeWitness, Subtree)


def _index(window: int, windows: int) -> int:
    if windows == 0:
        raise ValueError("window must be in the region, the region is empty")
    return int_in(window, "window", 0, windows - 1)
