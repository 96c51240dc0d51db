# SPDX-License-Identifier: Apache-2.0
# Conservation utilities.

def residue(buf, /, *, stream=None, host=False):
    """Return the residue of `buf`: the sum of its bytes mod 96, in 0..95; 0 for no bytes.

    Args: buf, a buffer, or a tensor on a GPU, which is summed there on `stream` (an int, an object
    with `__cuda_stream__`, or None for a stream of our own); host, copy it in pieces instead.
    Raises TypeError or BufferError where `buf` is not a C-contiguous buffer; DeviceError where the
    GPU cannot do it. Header: Conservation utilities.
    """
    cdef Span span
    device = on_device(buf, &span)
    if device is not None:
        return gpu_functions().residue(buf, device, stream, host)
    state = release_gil(span.len, SUM_GIL_BYTES)
    cdef uint8_t result = atlas_conserved_residue(span.data, span.len)
    restore_gil(state)
    release(&span)
    return result


def is_conserved(buf, /, *, stream=None, host=False):
    """Return whether the residue of `buf` is 0.

    Args, Raises: as `residue`. Header: Conservation utilities.
    """
    cdef Span span
    device = on_device(buf, &span)
    if device is not None:
        return gpu_functions().residue(buf, device, stream, host) == 0
    state = release_gil(span.len, SUM_GIL_BYTES)
    cdef bint result = atlas_conserved_check(span.data, span.len)
    restore_gil(state)
    release(&span)
    return result


def window_residues(buf, /, *, stream=None, host=False):
    """Return the residue of every window of `buf`, one byte each; the last window may be shorter.

    Args, Raises: as `residue`. Header: Conservation utilities.
    """
    cdef Span span
    device = on_device(buf, &span)
    if device is not None:
        return gpu_functions().window_residues(buf, device, stream, host)
    cdef size_t windows = (
        span.len // <size_t>ATLAS_WINDOW_BYTES + (span.len % <size_t>ATLAS_WINDOW_BYTES != 0)
    )
    try:
        result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>windows)
        out = <uint8_t *>PyBytes_AsString(result)
        state = release_gil(span.len, SUM_GIL_BYTES)
        atlas_conserved_window_residues(span.data, span.len, out)
        restore_gil(state)
    finally:
        release(&span)
    return result


def delta(before, after, /):
    """Return (residue(after) - residue(before)) mod 96, in 0..95.

    Raises ValueError where the lengths differ; TypeError or BufferError where an argument is not a
    C-contiguous buffer. Contract: Conservation Utilities.
    """
    cdef Span one, two
    hold_pair(before, "before", 0, &one, after, "after", &two)
    state = release_gil(one.len, SUM_GIL_BYTES)
    cdef uint8_t result = atlas_conserved_delta(one.data, two.data, one.len)
    restore_gil(state)
    release(&one)
    release(&two)
    return result


def conserved_copy(dst, src, /):
    """Copy `src`, which must be conserved, to `dst`, of equal length, all or nothing.

    To a `Region`, any `src` of its `nbytes` is copied, no law asked of it, and the balance is set.

    Raises ConservationError where `src` is not conserved, DomainMemoryError where the two overlap,
    ValueError where the lengths differ; then `dst` is unchanged. TypeError or BufferError where
    `src` is not a C-contiguous buffer or `dst` not a writable one; StateError where it is a region
    that is closed or sealed. Header: Conservation utilities.
    """
    cdef Span to, source
    if isinstance(dst, Region):
        copy_to_region(dst, src)
        return
    hold_pair(dst, "dst", PyBUF_WRITABLE, &to, src, "src", &source)
    state = release_gil(to.len, SUM_GIL_BYTES)
    cdef int code = atlas_conserved_memcpy(to.data, source.data, to.len)
    restore_gil(state)
    release(&to)
    release(&source)
    if code != ATLAS_OK:
        raise_last_error()


cdef int copy_to_region(Region region, object src) except -1:
    """Copy `src`, of a Region its payload, to the payload of `region`, and set the balance."""
    cdef Span source
    cdef size_t len = 0
    hold(src, "src", 0, &source)
    try:
        region.keep_to_write()
        try:
            if source.region is not NULL:
                source.len -= 1
            len = region.payload_bytes()
            if source.len != len:
                raise ValueError(
                    f"dst has {len} bytes and src has {source.len}, must be of equal length"
                )
            state = release_gil(len, SUM_GIL_BYTES)
            code = atlas_region_copy(region.handle, source.data, len)
            restore_gil(state)
            if code != ATLAS_OK:
                raise_last_error()
        finally:
            region.end_writing()
    finally:
        release(&source)
    return 0


def conserved_fill(dst, value, /):
    """Set every byte of `dst` to `value` except the last, which makes it conserved (see `fixup`).

    Of a `Region`, every byte of the payload is set, and the balance.

    Raises ValueError where `value` is not in 0..255; TypeError or BufferError where `dst` is not a
    writable C-contiguous buffer; StateError where it is a region that is closed or sealed.
    Header: Conservation utilities.
    """
    cdef uint8_t byte = <uint8_t>byte_of(value, "value", 255, ATLAS_OK)
    cdef Span span
    cdef Region region
    if isinstance(dst, Region):
        region = dst
        region.keep_to_write()
        state = release_gil(region.payload_bytes(), SUM_GIL_BYTES)
        atlas_region_fill(region.handle, byte)
        restore_gil(state)
        region.end_writing()
        return
    hold(dst, "dst", PyBUF_WRITABLE, &span)
    state = release_gil(span.len, SUM_GIL_BYTES)
    atlas_conserved_memset(span.data, byte, span.len)
    restore_gil(state)
    release(&span)


def fixup(buf, /, at=None):
    """Make `buf` conserved: set one byte to the nearest fitting value, the smaller on a tie.

    Of a `Region`, it sets the balance, as `balance()` does, and no byte of the payload.

    Args: buf, a writable buffer, which may be empty; at, the index of the byte, in bytes also where
    the items of `buf` are larger, negative from the end; None for the last byte.
    Raises IndexError where there is no byte `at`; TypeError where it is not an int; ValueError
    where it is given for a region; TypeError or BufferError where `buf` is not a writable
    C-contiguous buffer; StateError where it is a region that is closed or sealed.
    Header: Conservation utilities.
    """
    cdef Span span
    cdef size_t index = 0
    if isinstance(buf, Region):
        if at is not None:
            raise ValueError(
                f"at is {at!r}, must be left out for a Region: the byte that is set is the balance"
            )
        buf.balance()
        return
    hold(buf, "buf", PyBUF_WRITABLE, &span)
    if at is not None:
        try:
            index = byte_index(at, "at", span.len, True)
        except BaseException:
            release(&span)
            raise
    state = release_gil(span.len, SUM_GIL_BYTES)
    if at is None:
        atlas_conserved_fixup(span.data, span.len)
    else:
        atlas_conserved_fixup_at(span.data, span.len, index)
    restore_gil(state)
    release(&span)


cdef class Residue:
    """Residue(data=b"")\n--\n
    The residue of data that comes in chunks.

    Args: data, the first chunk. Any number of threads may update one Residue: sums commute.
    Raises TypeError or BufferError where a chunk is not a C-contiguous buffer.
    Header: Conservation utilities.
    """

    cdef uint64_t total

    def __init__(self, data=b""):
        self.update(data)

    def update(self, chunk, /):
        """Add the bytes of `chunk`."""
        cdef Span span
        cdef uint64_t part = 0
        hold(chunk, "chunk", 0, &span)
        state = release_gil(span.len, SUM_GIL_BYTES)
        atlas_conserved_update(&part, span.data, span.len)
        restore_gil(state)
        release(&span)
        with cython.critical_section(self):
            self.total = (self.total + part) % <uint64_t>ATLAS_MODULUS

    def copy(self):
        """Return another Residue of the same chunks; each can be updated independently."""
        cdef Residue other = Residue.__new__(type(self))
        other.total = self.total
        return other

    @property
    def value(self):
        """The residue of all chunks so far, in 0..95."""
        return self.total

    def __repr__(self):
        return f"<{type(self).__name__} {self.total}>"
