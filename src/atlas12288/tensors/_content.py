# SPDX-License-Identifier: Apache-2.0
"""The bytes that the witness of an array is about, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._native import WINDOW_BYTES
from .._tree import TreeWitness
from .._witness import Witness, WitnessStream
from ._dtypes import Form

if TYPE_CHECKING:
    from types import ModuleType

    import numpy

    from .._types import Readable

# 64 windows: small enough for a second-level cache, large enough that calls do not count.
CHUNK_BYTES: Final = 64 * WINDOW_BYTES


def require_numpy(purpose: str) -> ModuleType:
    """NumPy.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        import numpy
    except ImportError as error:
        raise ImportError(
            f"{purpose} need numpy: pip install 'atlas12288[numpy]'", name="numpy"
        ) from error
    return numpy


class Chunks:
    """A binary file over chunks, each valid until the next one is taken."""

    def __init__(self, chunks: Iterator[memoryview]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        if len(self._rest) == 0:
            self._rest = next(self._chunks, self._rest)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def content_of(array: numpy.ndarray[Any, Any], form: Form) -> memoryview | Chunks:
    """The elements in C order, packed and little-endian: the array's memory where it is that."""
    import numpy

    array = numpy.asarray(array)  # a matrix would stay of two dimensions
    if array.nbytes == 0 or form.canonical.itemsize == 0:
        return memoryview(b"")
    if array.dtype != form.layout:
        array = array.view(form.layout)
    if array.flags.c_contiguous and form.layout == form.canonical:
        return array.reshape(-1).view(numpy.uint8).data
    if array.size * form.canonical.itemsize <= CHUNK_BYTES:
        return array.astype(form.canonical, order="C").reshape(-1).view(numpy.uint8).data
    return Chunks(_chunks_of(array, form))


def _chunks_of(array: numpy.ndarray[Any, Any], form: Form) -> Iterator[memoryview]:
    import numpy

    # Of several chunks: an iterator over one element frees its buffer too early in NumPy 1.26.
    chunks = numpy.nditer(  # type: ignore[call-overload]  # the stubs have no "contig"
        [array],
        flags=["external_loop", "buffered"],
        op_flags=[["readonly", "contig"]],
        op_dtypes=[form.canonical],
        order="C",
        # Of structures too: the canonical type has the same fields in the same order.
        casting="unsafe",
        buffersize=max(1, CHUNK_BYTES // form.canonical.itemsize),
    )
    for chunk in chunks:
        yield numpy.ascontiguousarray(chunk).reshape(-1).view(numpy.uint8).data


class How(NamedTuple):
    """What kind of witness to make, by how many threads.

    Attributes:
        tree: of a tree, not a flat one.
        leaves: keep those of the tree.
        made_ns: the time of the witness; None for that of its making.
    """

    tree: bool
    leaves: bool
    threads: int
    made_ns: int | None = None


def witness_of(content: memoryview | Readable, how: How) -> Witness | TreeWitness:
    """The witness of a content."""
    if isinstance(content, memoryview):
        if how.tree:
            return TreeWitness.generate(content, threads=how.threads, leaves=how.leaves)
        return Witness.generate(content)
    if how.tree:
        return TreeWitness.generate_from(content, threads=how.threads, leaves=how.leaves)
    stream = WitnessStream()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while count := content.readinto(buffer):
        stream.update(buffer[:count])
    return stream.witness()
