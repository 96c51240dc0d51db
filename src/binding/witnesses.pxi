# SPDX-License-Identifier: Apache-2.0
# Witnesses.

cdef object byte_form(const atlas_witness_t *witness):
    cdef object form = PyBytes_FromStringAndSize(NULL, ATLAS_WITNESS_BYTES)
    if atlas_witness_to_bytes(witness, <uint8_t *>PyBytes_AsString(form)) != ATLAS_OK:
        raise_last_error()
    return form


cdef class Witness:
    """Immutable record of a region: algorithm, length, residue, digest, time.

    The handle of a witness (atlas_witness_t). Users see `atlas12288.Witness`.
    """

    cdef atlas_witness_t *handle

    def __init__(self, *args, **kwargs):
        raise TypeError("a Witness is made by Witness.generate() or from_bytes(), not by Witness()")

    def __dealloc__(self):
        atlas_witness_destroy(self.handle)

    @staticmethod
    cdef Witness adopt(object cls, atlas_witness_t *handle):
        """Return a `cls` that owns `handle`; raise the last error if it is NULL."""
        if handle is NULL:
            raise_last_error()
        cdef Witness witness
        try:
            witness = Witness.__new__(cls)  # not __new__ of a subclass, which may return any object
        except BaseException:
            atlas_witness_destroy(handle)
            raise
        witness.take(handle)
        return witness

    cdef int take(self, atlas_witness_t *handle) except -1:
        """Own `handle`, and never another one: a witness is immutable."""
        with cython.critical_section(self):
            if self.handle is NULL:
                self.handle = handle
                return 0
        atlas_witness_destroy(handle)
        raise_error(ATLAS_E_STATE, "the witness is made already, must be made once")

    cdef int copy_of(self, const atlas_witness_t *witness) except -1:
        """Make this, fresh from __new__, a copy of `witness`."""
        cdef uint8_t[ATLAS_WITNESS_BYTES] form
        if atlas_witness_to_bytes(witness, form) != ATLAS_OK:
            raise_last_error()
        handle = atlas_witness_from_bytes(form, ATLAS_WITNESS_BYTES)
        if handle is NULL:
            raise_last_error()
        return self.take(handle)

    @classmethod
    @cython.binding(True)  # without it, none in the limited API
    def generate(cls, buf, /):
        """Return the witness of the bytes of `buf`, which may be empty, with the present time.

        Raises TypeError or BufferError where `buf` is not a C-contiguous buffer.
        """
        cdef Span span
        hold(buf, "buf", 0, &span)
        state = release_gil(span.len, HASH_GIL_BYTES)
        handle = atlas_witness_generate(span.data, span.len)
        restore_gil(state)
        release(&span)
        return Witness.adopt(cls, handle)

    @classmethod
    @cython.binding(True)  # without it, none in the limited API
    def from_bytes(cls, data, /):
        """Return the witness from its byte form, as `bytes(witness)` gives it.

        Raises WitnessError where `data` is not the byte form of a witness; TypeError or BufferError
        where it is not a C-contiguous buffer. Header: Witnesses.
        """
        cdef Span span
        hold(data, "data", 0, &span)
        handle = atlas_witness_from_bytes(span.data, span.len)
        release(&span)
        return Witness.adopt(cls, handle)

    def verify(self, buf, /):
        """Return whether `buf` has this length, residue and digest, compared in constant time.

        Raises TypeError or BufferError where `buf` is not a C-contiguous buffer.
        """
        cdef Span span
        self.check()
        hold(buf, "buf", 0, &span)
        state = release_gil(span.len, HASH_GIL_BYTES)
        cdef bint result = atlas_witness_verify(self.handle, span.data, span.len)
        restore_gil(state)
        release(&span)
        if not result and atlas_get_last_error_code() != ATLAS_E_WITNESS:
            raise_last_error()
        return result

    cdef inline int check(self) except -1:
        # Witness.__new__ alone makes an object without a witness.
        if self.handle is NULL:
            raise TypeError("this Witness was made by __new__() alone, use Witness.generate()")
        return 0

    @property
    def algorithm(self):
        """Name of the digest's algorithm, "sha256"."""
        self.check()
        return atlas_witness_algorithm(self.handle).decode()

    @property
    def length(self):
        """Length of the region in bytes."""
        self.check()
        return atlas_witness_length(self.handle)

    @property
    def residue(self):
        """Residue of the region, in 0..95."""
        self.check()
        return atlas_witness_residue(self.handle)

    @property
    def digest(self):
        """Digest of the region, 32 bytes."""
        self.check()
        return (<const char *>atlas_witness_digest(self.handle))[:ATLAS_DIGEST_BYTES]

    def hexdigest(self):
        """The digest in lowercase hex, as `sha256sum` prints it."""
        return self.digest.hex()

    @property
    def timestamp_ns(self):
        """Time at which the witness was made, in nanoseconds since 1970-01-01T00:00:00Z."""
        self.check()
        return atlas_witness_timestamp_ns(self.handle)

    def __bytes__(self):
        self.check()
        return byte_form(self.handle)

    def __eq__(self, other):
        if not isinstance(other, Witness):
            return NotImplemented
        return bytes(self) == bytes(other)

    def __hash__(self):
        return hash(bytes(self))

    def __reduce__(self):
        return type(self).from_bytes, (bytes(self),)


cdef struct ManyBuffers:
    # What functions about many regions of memory take.
    const void **bases
    size_t *lens
    size_t count, total  # the bytes of all


@cython.final
@cython.no_gc  # tp_clear would drop the buffers without PyBuffer_Release
cdef class Buffers:
    """The bytes of many buffers, which stay exported as long as this object lives.

    Raises TypeError or BufferError, with the index in `buffers`, where one is not a C-contiguous
    buffer.
    """

    cdef tuple items  # a span of a bytes object does not keep it alive
    cdef Span *spans
    cdef size_t count

    def __cinit__(self, buffers, /):
        cdef size_t number
        self.items = tuple(buffers)
        number = <size_t>len(self.items)
        self.spans = <Span *>PyMem_Calloc(number, sizeof(Span))
        if self.spans is NULL:
            raise MemoryError
        for item in self.items:
            if not hold_usual(item, 0, &self.spans[self.count]):
                hold_odd(item, f"buffers[{self.count}]", 0, &self.spans[self.count])
            self.count += 1

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.count):
            release(&self.spans[i])
        PyMem_Free(self.spans)

    def lengths(self):
        """Return the lengths of the buffers in bytes."""
        cdef size_t i
        return [self.spans[i].len for i in range(self.count)]

    cdef int take(self, start, stop, ManyBuffers *out) except -1:
        """Get the buffers with the indices start..stop - 1; `free_many` frees what it takes."""
        cdef size_t first, i
        if not 0 <= start <= stop <= self.count:
            raise ValueError(f"start, stop are {start}, {stop}, must be in 0..{self.count}")
        first, out.count, out.total = start, stop - start, 0
        out.bases = <const void **>PyMem_Calloc(out.count + 1, sizeof(void *))
        out.lens = <size_t *>PyMem_Calloc(out.count + 1, sizeof(size_t))
        if out.bases is NULL or out.lens is NULL:
            free_many(out)
            raise MemoryError
        for i in range(out.count):
            out.bases[i] = self.spans[first + i].data
            out.lens[i] = self.spans[first + i].len
            out.total += out.lens[i]
        return 0

    def witnesses(self, cls, start, stop, /):
        """Return the witnesses of the buffers with the indices start..stop - 1, of class `cls`."""
        cdef size_t i
        cdef ManyBuffers regions
        cdef atlas_witness_t **witnesses
        self.take(start, stop, &regions)
        witnesses = <atlas_witness_t **>PyMem_Calloc(regions.count + 1, sizeof(void *))
        try:
            if witnesses is NULL:
                raise MemoryError
            state = release_gil(regions.total, HASH_GIL_BYTES)
            code = atlas_witness_generate_many(
                regions.bases, regions.lens, regions.count, witnesses
            )
            restore_gil(state)
            if code != ATLAS_OK:
                raise_last_error()
            made = []
            for i in range(regions.count):
                handle = witnesses[i]
                witnesses[i] = NULL
                made.append(Witness.adopt(cls, handle))
            return made
        finally:
            if witnesses is not NULL:
                for i in range(regions.count):
                    atlas_witness_destroy(witnesses[i])
            PyMem_Free(witnesses)
            free_many(&regions)

    def trees(self, start, stop, /):
        """Return the trees of the buffers with the indices start..stop - 1.

        Returns (leaves, residues, roots), bytes: leaves and residues of the windows, one buffer
        after another; the root of each buffer.
        """
        cdef size_t windows = 0, i
        cdef ManyBuffers regions
        self.take(start, stop, &regions)
        try:
            for i in range(regions.count):
                windows += <size_t>atlas_windows_of(regions.lens[i])
            leaves = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>windows * ATLAS_DIGEST_BYTES)
            residues = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>windows)
            roots = PyBytes_FromStringAndSize(
                NULL, <Py_ssize_t>regions.count * ATLAS_DIGEST_BYTES
            )
            to_leaves = <uint8_t *>PyBytes_AsString(leaves)
            to_residues = <uint8_t *>PyBytes_AsString(residues)
            to_roots = <uint8_t *>PyBytes_AsString(roots)
            state = release_gil(regions.total, HASH_GIL_BYTES)
            code = atlas_tree_leaves_many(
                regions.bases, regions.lens, regions.count, to_leaves, to_residues, to_roots
            )
            restore_gil(state)
            if code != ATLAS_OK:
                raise_last_error()
            return leaves, residues, roots
        finally:
            free_many(&regions)


cdef void free_many(ManyBuffers *regions) noexcept:
    PyMem_Free(regions.bases)
    PyMem_Free(regions.lens)


cdef class WitnessStream:
    """WitnessStream(data=b"")
--

    The witness of data that comes in chunks of any size, in constant memory.

    Args: data, the first chunk. One stream is used by one thread at a time; StateError for the
    second one. bytes() gives its state, from which `from_bytes` goes on; it can be pickled.
    Header: Witnesses.
    """

    cdef atlas_witness_stream_t *handle  # set once, by `take` or the first use
    cdef bint in_use

    def __init__(self, data=b""):
        self.update(data)

    def __dealloc__(self):
        atlas_witness_stream_destroy(self.handle)

    @classmethod
    @cython.binding(True)  # without it, none in the limited API
    def from_bytes(cls, data, /):
        """Return a stream that goes on from a saved state, as `bytes(stream)` gives it.

        Whoever can write the state decides what the stream witnesses: it is not authenticated.
        Raises WitnessError where `data` is not the byte form of a stream; TypeError or BufferError
        where it is not a C-contiguous buffer. Header: Witnesses.
        """
        cdef WitnessStream stream = WitnessStream.__new__(cls)
        cdef Span span
        hold(data, "data", 0, &span)
        handle = atlas_witness_stream_from_bytes(span.data, span.len)
        release(&span)
        stream.take(handle)
        return stream

    cdef int take(self, atlas_witness_stream_t *handle) except -1:
        """Own `handle`, and never another one, because a thread may be using it. Raise the last
        error if it is NULL."""
        if handle is NULL:
            raise_last_error()
        with cython.critical_section(self):
            if self.handle is NULL:
                self.handle = handle
                return 0
        atlas_witness_stream_destroy(handle)
        raise_error(ATLAS_E_STATE, "the stream has begun already, must be a new one")

    cdef int enter(self) except -1:
        with cython.critical_section(self):
            if self.in_use:
                raise_error(ATLAS_E_STATE, "the stream is in use by another thread, must not be")
            if self.handle is NULL:
                self.handle = atlas_witness_stream_create()
                if self.handle is NULL:
                    raise_last_error()
            self.in_use = True
        return 0

    def update(self, chunk, /):
        """Take the bytes of `chunk` as the next ones.

        Raises StateError where they would be more than 2^61 - 1 bytes, the most that SHA-256 is
        defined for; TypeError or BufferError where `chunk` is not a C-contiguous buffer.
        """
        cdef Span span
        hold(chunk, "chunk", 0, &span)
        try:
            self.enter()
            state = release_gil(span.len, HASH_GIL_BYTES)
            code = atlas_witness_stream_update(self.handle, span.data, span.len)
            restore_gil(state)
            self.in_use = False
            if code != ATLAS_OK:
                raise_last_error()
        finally:
            release(&span)

    def _witness_bytes(self):
        """Return the byte form of the witness of all bytes so far; more may follow."""
        self.enter()
        cdef atlas_witness_t *witness = atlas_witness_stream_witness(self.handle)
        self.in_use = False
        if witness is NULL:
            raise_last_error()
        try:
            return byte_form(witness)
        finally:
            atlas_witness_destroy(witness)

    def __bytes__(self):
        form = PyBytes_FromStringAndSize(NULL, ATLAS_WITNESS_STREAM_BYTES)
        out = <uint8_t *>PyBytes_AsString(form)
        self.enter()
        atlas_witness_stream_to_bytes(self.handle, out)
        self.in_use = False
        return form

    def __reduce__(self):
        return type(self).from_bytes, (bytes(self),)


cdef struct Chunks:
    # What atlas_witness_stream_update_many() takes.
    atlas_witness_stream_t **streams
    const void **chunks
    size_t *lens


def update_streams(list streams not None, list chunks not None, /):
    """Take the bytes of each chunk as the next ones of its stream, all hashed beside one another.

    Raises ValueError where the lists are not of one length; TypeError where an item of `streams`
    is not a stream; StateError where one is in use, or stands there twice, or as `update`; with
    any error no stream is updated. Chunks are refused as by `Buffers`.
    """
    cdef size_t number, i, entered = 0, total = 0
    cdef Buffers held
    cdef WitnessStream stream
    cdef Chunks given
    cdef tuple kept = tuple(streams)  # nobody else may drop one meanwhile
    number = <size_t>len(kept)
    if number != <size_t>len(chunks):
        raise ValueError(f"chunks has {len(chunks)} items, must have {number}, as streams")
    for i in range(number):
        if not isinstance(kept[i], WitnessStream):
            kind = type(kept[i]).__name__
            raise TypeError(f"streams[{i}] is of type {kind}, must be a WitnessStream")
    held = Buffers(chunks)
    if held.count != number:
        raise ValueError(f"chunks has {held.count} items, must have {number}, as streams")
    given.streams = <atlas_witness_stream_t **>PyMem_Calloc(number + 1, sizeof(void *))
    given.chunks = <const void **>PyMem_Calloc(number + 1, sizeof(void *))
    given.lens = <size_t *>PyMem_Calloc(number + 1, sizeof(size_t))
    try:
        if given.streams is NULL or given.chunks is NULL or given.lens is NULL:
            raise MemoryError
        for i in range(number):
            stream = kept[i]
            stream.enter()
            entered += 1
            given.streams[i] = stream.handle
            given.chunks[i] = held.spans[i].data
            given.lens[i] = held.spans[i].len
            total += given.lens[i]
        state = release_gil(total, HASH_GIL_BYTES)
        code = atlas_witness_stream_update_many(given.streams, given.chunks, given.lens, number)
        restore_gil(state)
        if code != ATLAS_OK:
            raise_last_error()
    finally:
        for i in range(entered):
            stream = kept[i]
            stream.in_use = False
        PyMem_Free(given.streams)
        PyMem_Free(given.chunks)
        PyMem_Free(given.lens)
