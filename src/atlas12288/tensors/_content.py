# SPDX-License-Identifier: Apache-2.0
"""The bytes of an array that its witness covers, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._native import WINDOW_BYTES
from .._parallel import new_buffer
from .._tree import TreeWitness
from .._types import Stream
from .._witness import Witness, WitnessStream
from ._dtypes import Form

if TYPE_CHECKING:
    from types import ModuleType

    import numpy

    from .._types import Readable

# 64 windows: small enough for a second-level cache, large enough that calls cost little.
CHUNK_BYTES: Final = 64 * WINDOW_BYTES


def require_numpy(purpose: str) -> ModuleType:
    """Return the NumPy module.

    Raises:
        ImportError: it is not installed; the message says how to install it.
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
    """Return the elements in C order, packed and little-endian; without a copy if they lie so."""
    import numpy

    array = numpy.asarray(array)  # a matrix would keep two dimensions
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

    # For several chunks only: in NumPy 1.26 an iterator over one element frees its buffer early.
    chunks = numpy.nditer(  # type: ignore[call-overload]  # the stubs have no "contig"
        [array],
        flags=["external_loop", "buffered"],
        op_flags=[["readonly", "contig"]],
        op_dtypes=[form.canonical],
        order="C",
        # Safe for structures too: the canonical type has the same fields in the same order.
        casting="unsafe",
        buffersize=max(1, CHUNK_BYTES // form.canonical.itemsize),
    )
    for chunk in chunks:
        yield numpy.ascontiguousarray(chunk).reshape(-1).view(numpy.uint8).data


class Whole(NamedTuple):
    """A tensor's element type and shape, and all bytes of its content."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview


class How(NamedTuple):
    """The kind of witness to make, and the number of threads.

    Attributes:
        tree: whether to make a tree witness instead of a flat one.
        leaves: whether to keep the leaves of the tree.
        made_ns: the time of the witness; None for the present time.
        stream, host: what a tensor on a GPU is hashed with, as in `TreeWitness.generate`.
        advance: called with the number of bytes after each part that was hashed, by any thread;
            None for nobody.
    """

    tree: bool
    leaves: bool
    threads: int
    made_ns: int | None = None
    stream: Stream = None
    host: bool = False
    advance: Callable[[int], None] | None = None


class _Counted:
    """A binary file that tells how many bytes of it were read."""

    def __init__(self, content: Readable, advance: Callable[[int], None]) -> None:
        self._content = content
        self._advance = advance

    def readinto(self, buffer: memoryview, /) -> int | None:
        count = self._content.readinto(buffer)
        self._advance(count or 0)
        return count


def witness_of(content: memoryview | Readable, how: How) -> Witness | TreeWitness:
    """Return the witness of a content."""
    if how.advance is not None:
        if isinstance(content, memoryview):
            found = witness_of(content, how._replace(advance=None))
            how.advance(len(content))
            return found
        content = _Counted(content, how.advance)
    if isinstance(content, memoryview):
        if how.tree:
            return TreeWitness.generate(content, threads=how.threads, leaves=how.leaves)
        return Witness.generate(content)
    if how.tree:
        return TreeWitness.generate_from(content, threads=how.threads, leaves=how.leaves)
    stream = WitnessStream()
    buffer = new_buffer(CHUNK_BYTES)
    while count := content.readinto(buffer):
        stream.update(buffer[:count])
    return stream.witness()
