# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""The C API of atlas/conservation.h for Python, one to one, over any buffer, without copying.

This module knows nothing above it: `errors` hands its classes down by `register_errors`. Functions
are not bound (binding=False) because in the limited API of 3.11 only builtin ones take their
arguments without a tuple.
"""

cimport cython
from cpython.buffer cimport (
    Py_buffer, PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo,
    PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_Size
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.number cimport PyNumber_Index
from cpython.pystate cimport PyThreadState
from libc.stdint cimport SIZE_MAX, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    # PyObject_GetBuffer() for a caller that looks at the result itself: a try block costs 40 ns.
    int try_get_buffer "PyObject_GetBuffer"(object, Py_buffer *, int) noexcept
    void PyErr_Clear() noexcept
    PyThreadState *PyEval_SaveThread() noexcept nogil
    void PyEval_RestoreThread(PyThreadState *) noexcept nogil

cdef extern from "atlas/conservation.h" nogil:
    enum:
        ATLAS_API_VERSION
        ATLAS_MODULUS
        ATLAS_PAGE_BYTES
        ATLAS_WINDOW_BYTES
        ATLAS_DIGEST_BYTES
        ATLAS_WITNESS_BYTES

    ctypedef enum atlas_error_t:
        ATLAS_OK
        ATLAS_E_CONSERVATION
        ATLAS_E_WITNESS
        ATLAS_E_BUDGET
        ATLAS_E_MEMORY
        ATLAS_E_STATE

    ctypedef enum atlas_state_t:
        ATLAS_STATE_OPEN
        ATLAS_STATE_COMMITTED

    ctypedef struct atlas_domain_t
    ctypedef struct atlas_witness_t
    ctypedef struct atlas_witness_stream_t

    atlas_domain_t *atlas_domain_create(size_t bytes, uint8_t budget_class)
    int atlas_domain_attach(atlas_domain_t *domain, void *base, size_t len)
    bint atlas_domain_verify(const atlas_domain_t *domain)
    int atlas_domain_commit(atlas_domain_t *domain)
    void atlas_domain_destroy(atlas_domain_t *domain)
    int atlas_domain_state(const atlas_domain_t *domain, atlas_state_t *out)
    const atlas_witness_t *atlas_domain_witness(const atlas_domain_t *domain)

    bint atlas_budget_alloc(atlas_domain_t *domain, uint8_t amt)
    bint atlas_budget_release(atlas_domain_t *domain, uint8_t amt)
    int atlas_budget_available(const atlas_domain_t *domain, uint8_t *out)

    atlas_witness_t *atlas_witness_generate(const void *base, size_t len)
    bint atlas_witness_verify(const atlas_witness_t *w, const void *base, size_t len)
    void atlas_witness_destroy(atlas_witness_t *w)
    const char *atlas_witness_algorithm(const atlas_witness_t *w)
    uint64_t atlas_witness_length(const atlas_witness_t *w)
    uint8_t atlas_witness_residue(const atlas_witness_t *w)
    const uint8_t *atlas_witness_digest(const atlas_witness_t *w)
    uint64_t atlas_witness_timestamp_ns(const atlas_witness_t *w)
    int atlas_witness_to_bytes(const atlas_witness_t *w, uint8_t *out)
    atlas_witness_t *atlas_witness_from_bytes(const void *bytes, size_t len)

    atlas_witness_stream_t *atlas_witness_stream_create()
    int atlas_witness_stream_update(atlas_witness_stream_t *stream, const void *chunk, size_t n)
    atlas_witness_t *atlas_witness_stream_witness(const atlas_witness_stream_t *stream)
    void atlas_witness_stream_destroy(atlas_witness_stream_t *stream)

    uint8_t atlas_conserved_delta(const void *before, const void *after, size_t len)
    uint8_t atlas_conserved_residue(const void *base, size_t len)
    bint atlas_conserved_check(const void *base, size_t len)
    int atlas_conserved_window_residues(const void *base, size_t len, uint8_t *out)
    int atlas_conserved_update(uint64_t *state, const void *chunk, size_t n)
    int atlas_conserved_memcpy(void *dst, const void *src, size_t len)
    int atlas_conserved_memset(void *dst, uint8_t value, size_t len)
    int atlas_conserved_fixup(void *base, size_t len)

    const char *atlas_version()
    const char *atlas_get_last_error()
    atlas_error_t atlas_get_last_error_code()
    const char *atlas_error_string(int code)
    const char *atlas_kernel_set()
    const char *atlas_kernel_set_name(size_t index)
    bint atlas_kernel_set_supported(const char *name)
    int atlas_kernel_set_select(const char *name)

cdef extern from "_timing.h" nogil:
    uint64_t atlas_time_operation(
        const char *name, void *dst, const void *src, size_t len, uint64_t repeats)
    const char *atlas_timed_operation(size_t index)

API_VERSION = ATLAS_API_VERSION
VERSION = atlas_version().decode()
MODULUS = ATLAS_MODULUS
PAGE_BYTES = ATLAS_PAGE_BYTES
WINDOW_BYTES = ATLAS_WINDOW_BYTES
DIGEST_BYTES = ATLAS_DIGEST_BYTES
WITNESS_BYTES = ATLAS_WITNESS_BYTES
BUDGET_MAX = ATLAS_MODULUS - 1

OK = <int>ATLAS_OK
E_CONSERVATION = <int>ATLAS_E_CONSERVATION
E_WITNESS = <int>ATLAS_E_WITNESS
E_BUDGET = <int>ATLAS_E_BUDGET
E_MEMORY = <int>ATLAS_E_MEMORY
E_STATE = <int>ATLAS_E_STATE

STATE_OPEN = <int>ATLAS_STATE_OPEN
STATE_COMMITTED = <int>ATLAS_STATE_COMMITTED


# --- The GIL ---
# To release and take it costs about 0.1 us, and much more when other threads want it, so that it
# pays from about 10 us of work on: sums, copies and fills run at about 25 GB/s (memory, one core),
# 10 us are 250 KB; SHA-256 without SHA instructions runs at about 0.4 GB/s, 10 us are 4 KB.
cdef enum:
    SUM_GIL_BYTES = 256 * 1024
    HASH_GIL_BYTES = 4 * 1024


cdef inline PyThreadState *release_gil(size_t len, size_t enough) noexcept:
    """Releases the GIL for work on `len` bytes where that is enough work. For `restore_gil`."""
    return PyEval_SaveThread() if len >= enough else NULL


cdef inline void restore_gil(PyThreadState *state) noexcept:
    if state is not NULL:
        PyEval_RestoreThread(state)


# --- Errors ---

cdef dict error_classes = {}


def register_errors(classes, /):
    """Makes the library's errors instances of `classes`, a mapping from E_* codes to classes."""
    error_classes.update(classes)


cdef int raise_error(int code, str message) except -1:
    raise error_classes.get(code, RuntimeError)(message)


cdef int raise_last_error() except -1:
    """Raises the C library's last error of this thread, without the C function's name."""
    cdef str text = atlas_get_last_error().decode()
    raise_error(atlas_get_last_error_code(), text.partition(": ")[2])


def error_string(code, /):
    """The text of an error code, "unknown error code" where there is no such code."""
    cdef int overflow
    cdef long number = PyLong_AsLongAndOverflow(index_of(code, "code"), &overflow)
    return atlas_error_string(<int>number if number == <int>number else -1).decode()


# --- Integers ---

cdef object index_of(object value, str name):
    """`value` as an int; TypeError for all that is not an integer, bool included."""
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        try:
            return PyNumber_Index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} is of type {type(value).__name__}, must be an int")


cdef str shown(object value):
    """An int for a message; str() refuses those of more than 4300 digits."""
    if value.bit_length() <= 128:
        return str(value)
    return f"an int of {value.bit_length()} bits"


cdef int byte_of(object value, str name, int most, int code) except -1:
    """`value` as an int in 0..most; otherwise the error of `code`, ValueError for ATLAS_OK."""
    cdef int overflow = 0
    value = index_of(value, name)
    cdef long number = PyLong_AsLongAndOverflow(value, &overflow)
    if overflow == 0 and 0 <= number <= most:
        return <int>number
    message = f"{name} is {shown(value)}, must be in 0..{most}"
    if code == ATLAS_OK:
        raise ValueError(message)
    raise_error(code, message)


# --- Buffers ---

cdef struct Span:
    # The bytes of an argument, until release(); a bytes object is held by the argument itself.
    uint8_t *data
    size_t len
    bint held
    Py_buffer view

# What stands for a region without bytes where the exporter gives NULL.
cdef uint8_t nothing = 0


cdef bint has_objects(const char *format) noexcept:
    """Does a buffer format (PEP 3118) hold object pointers? Names of fields stand in colons."""
    cdef bint in_name = False
    while format[0] != 0:
        if format[0] == b":":
            in_name = not in_name
        elif format[0] == b"O" and not in_name:
            return True
        format += 1
    return False


cdef bint get_usual_buffer(object buf, int writable, Py_buffer *view) noexcept:
    """Fills `view` with the C-contiguous bytes of `buf`; False, without an error, if it cannot."""
    if try_get_buffer(buf, view, PyBUF_ND | PyBUF_FORMAT | writable) != 0:
        PyErr_Clear()
        return False
    if has_objects(view.format):
        PyBuffer_Release(view)
        return False
    return True


cdef int get_odd_buffer(object buf, str name, int writable, Py_buffer *view) except -1:
    """What get_usual_buffer could not do: another way to the buffer, or the error that says why."""
    cdef str kind = type(buf).__name__
    if not PyObject_CheckBuffer(buf):
        raise TypeError(f"{name} is of type {kind}, must be a buffer such as bytes or an array")
    try:
        try:
            PyObject_GetBuffer(buf, view, PyBUF_ND | PyBUF_FORMAT | writable)
            objects = has_objects(view.format)
        except ValueError:
            # NumPy has no format for some dtypes, such as datetime64, and gives them without one.
            PyObject_GetBuffer(buf, view, PyBUF_SIMPLE | writable)
            objects = getattr(getattr(buf, "dtype", None), "hasobject", False)
    except (BufferError, ValueError) as error:
        rule = "writable and C-contiguous" if writable else "C-contiguous"
        raise BufferError(f"{name} is of type {kind}, must be {rule}: {error}") from error
    if objects:
        PyBuffer_Release(view)
        raise TypeError(f"{name} is of type {kind} and holds pointers to objects, must hold bytes")


cdef inline bint hold_usual(object buf, int writable, Span *span) noexcept:
    if type(buf) is bytes and not writable:
        span.data = <uint8_t *>PyBytes_AsString(buf)
        span.len = <size_t>PyBytes_Size(buf)
        span.held = False
        return True
    span.held = get_usual_buffer(buf, writable, &span.view)
    if span.held:
        set_bytes(span)
    return span.held


cdef int hold_odd(object buf, str name, int writable, Span *span) except -1:
    get_odd_buffer(buf, name, writable, &span.view)
    span.held = True
    set_bytes(span)
    return 0


cdef inline void set_bytes(Span *span) noexcept:
    span.data = <uint8_t *>span.view.buf if span.view.buf is not NULL else &nothing
    span.len = <size_t>span.view.len


cdef inline int hold(object buf, str name, int writable, Span *span) except -1:
    """The bytes of `buf` to `span`; `writable` is PyBUF_WRITABLE or 0."""
    if not hold_usual(buf, writable, span):
        hold_odd(buf, name, writable, span)
    return 0


cdef inline void release(Span *span) noexcept:
    if span.held:
        PyBuffer_Release(&span.view)


cdef int hold_pair(
    object one, str one_name, int writable, Span *one_span, object two, str two_name, Span *two_span
) except -1:
    """Holds two buffers of equal length; `writable` is that of the first, the second is read."""
    hold(one, one_name, writable, one_span)
    if not hold_usual(two, 0, two_span):
        try:  # costs 40 ns, so not around the usual case
            hold_odd(two, two_name, 0, two_span)
        except BaseException:
            release(one_span)
            raise
    if one_span.len != two_span.len:
        message = (
            f"{one_name} has {one_span.len} bytes and {two_name} has {two_span.len}, "
            "must be of equal length"
        )
        release(one_span)
        release(two_span)
        raise ValueError(message)
    return 0


@cython.final
@cython.no_gc_clear  # tp_clear would drop the buffer without PyBuffer_Release
cdef class _Region:
    """The bytes of a domain. They stay exported as long as this object lives."""

    # Not used: the collector is shown the object of a Py_buffer only in a class that has this, too.
    cdef object unused
    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, buf):
        if not get_usual_buffer(buf, 0, &self.view):
            get_odd_buffer(buf, "buf", 0, &self.view)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.view.buf, self.view.len, self.view.readonly, flags)

    cdef inline uint8_t *data(self) noexcept:
        return <uint8_t *>self.view.buf if self.view.buf is not NULL else &nothing

    cdef inline size_t len(self) noexcept:
        return <size_t>self.view.len


# --- Conservation utilities ---

def residue(buf, /):
    """The residue of `buf`: the sum of its bytes mod 96, in 0..95. Of no bytes it is 0.

    Raises TypeError or BufferError where `buf` is not a C-contiguous buffer.
    Header: Conservation utilities.
    """
    cdef Span span
    hold(buf, "buf", 0, &span)
    state = release_gil(span.len, SUM_GIL_BYTES)
    cdef uint8_t result = atlas_conserved_residue(span.data, span.len)
    restore_gil(state)
    release(&span)
    return result


def is_conserved(buf, /):
    """Is the residue of `buf` 0?

    Raises TypeError or BufferError where `buf` is not a C-contiguous buffer.
    Header: Conservation utilities.
    """
    cdef Span span
    hold(buf, "buf", 0, &span)
    state = release_gil(span.len, SUM_GIL_BYTES)
    cdef bint result = atlas_conserved_check(span.data, span.len)
    restore_gil(state)
    release(&span)
    return result


def window_residues(buf, /):
    """The residue of every window of `buf`, as bytes: one item a window, the last may be shorter.

    Raises TypeError or BufferError where `buf` is not a C-contiguous buffer.
    Header: Conservation utilities.
    """
    cdef Span span
    hold(buf, "buf", 0, &span)
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
    """(residue(after) - residue(before)) mod 96, in 0..95.

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
    """Copies `src`, which must be conserved, to `dst`, of equal length, all or nothing.

    Raises ConservationError where `src` is not conserved, DomainMemoryError where the two overlap,
    ValueError where the lengths differ; then `dst` is unchanged. TypeError or BufferError where
    `src` is not a C-contiguous buffer or `dst` not a writable one. Header: Conservation utilities.
    """
    cdef Span to, source
    hold_pair(dst, "dst", PyBUF_WRITABLE, &to, src, "src", &source)
    state = release_gil(to.len, SUM_GIL_BYTES)
    cdef int code = atlas_conserved_memcpy(to.data, source.data, to.len)
    restore_gil(state)
    release(&to)
    release(&source)
    if code != ATLAS_OK:
        raise_last_error()


def conserved_fill(dst, value, /):
    """Makes every byte of `dst` `value`, but the last, which makes `dst` conserved (see `fixup`).

    Raises ValueError where `value` is not in 0..255; TypeError or BufferError where `dst` is not a
    writable C-contiguous buffer. Header: Conservation utilities.
    """
    cdef uint8_t byte = <uint8_t>byte_of(value, "value", 255, ATLAS_OK)
    cdef Span span
    hold(dst, "dst", PyBUF_WRITABLE, &span)
    state = release_gil(span.len, SUM_GIL_BYTES)
    atlas_conserved_memset(span.data, byte, span.len)
    restore_gil(state)
    release(&span)


def fixup(buf, /):
    """Makes `buf` conserved: its last byte becomes the nearest that does so, the smaller on a tie.

    Raises TypeError or BufferError where `buf` is not a writable C-contiguous buffer.
    Header: Conservation utilities.
    """
    cdef Span span
    hold(buf, "buf", PyBUF_WRITABLE, &span)
    state = release_gil(span.len, SUM_GIL_BYTES)
    atlas_conserved_fixup(span.data, span.len)
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
        """Adds the bytes of `chunk`."""
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
        """Another Residue of the same chunks, to go on from here in two ways."""
        cdef Residue other = type(self).__new__(type(self))
        other.total = self.total
        return other

    @property
    def value(self):
        """The residue of all chunks so far, in 0..95."""
        return self.total

    def __repr__(self):
        return f"<{type(self).__name__} {self.total}>"


# --- Witnesses ---

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
        """A `cls` that owns `handle`; raises the last error where that is NULL."""
        if handle is NULL:
            raise_last_error()
        cdef Witness witness
        try:
            witness = cls.__new__(cls)
        except BaseException:
            atlas_witness_destroy(handle)
            raise
        witness.handle = handle
        return witness

    @classmethod
    @cython.binding(True)  # without it, none in the limited API
    def generate(cls, buf, /):
        """The witness of the bytes of `buf`, which may be empty, with the present time.

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
        """The witness of a byte form, as `bytes(witness)` gives it.

        Raises WitnessError where `data` is not the byte form of a witness; TypeError or BufferError
        where it is not a C-contiguous buffer. Header: Witnesses.
        """
        cdef Span span
        hold(data, "data", 0, &span)
        handle = atlas_witness_from_bytes(span.data, span.len)
        release(&span)
        return Witness.adopt(cls, handle)

    def verify(self, buf, /):
        """Are length, residue and digest those of `buf`? The digest is compared in constant time.

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
        """When the witness was made, in nanoseconds since 1970-01-01T00:00:00Z."""
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


cdef class WitnessStream:
    """The witness of data that comes in chunks of any size, in constant memory.

    One stream is used by one thread at a time; StateError for the second one. Header: Witnesses.
    """

    cdef atlas_witness_stream_t *handle
    cdef bint in_use

    def __cinit__(self):
        self.handle = atlas_witness_stream_create()
        if self.handle is NULL:
            raise_last_error()

    def __dealloc__(self):
        atlas_witness_stream_destroy(self.handle)

    cdef int enter(self) except -1:
        with cython.critical_section(self):
            if self.in_use:
                raise_error(ATLAS_E_STATE, "the stream is in use by another thread, must not be")
            self.in_use = True
        return 0

    def update(self, chunk, /):
        """Takes the next bytes, those of `chunk`.

        Raises TypeError or BufferError where `chunk` is not a C-contiguous buffer.
        """
        cdef Span span
        hold(chunk, "chunk", 0, &span)
        try:
            self.enter()
            state = release_gil(span.len, HASH_GIL_BYTES)
            atlas_witness_stream_update(self.handle, span.data, span.len)
            restore_gil(state)
            self.in_use = False
        finally:
            release(&span)

    def _witness_bytes(self):
        """The byte form of the witness of all bytes so far; more may follow."""
        self.enter()
        cdef atlas_witness_t *witness = atlas_witness_stream_witness(self.handle)
        self.in_use = False
        if witness is NULL:
            raise_last_error()
        try:
            return byte_form(witness)
        finally:
            atlas_witness_destroy(witness)


# --- Trees ---

include "_native_tree.pxi"


# --- Domains ---

cdef class Domain:
    """Domain(bytes, budget_class=0)\n--\n
    The handle of a domain (atlas_domain_t) and its attached buffer. Users see `atlas12288.Domain`.
    """

    # The handle lives as long as this object, so that a call of another thread never loses it.
    # What close() gives back is the region; whoever works on it has a reference to it.
    cdef atlas_domain_t *handle
    cdef _Region region
    cdef size_t capacity
    cdef bint is_closed
    cdef int open_transactions

    def __init__(self, bytes, budget_class=0):
        size = index_of(bytes, "bytes")
        if not 1 <= size <= SIZE_MAX:
            raise_error(ATLAS_E_MEMORY, f"bytes is {shown(size)}, must be in 1..{SIZE_MAX}")
        cdef uint8_t budget = <uint8_t>byte_of(
            budget_class, "budget_class", ATLAS_MODULUS - 1, ATLAS_E_BUDGET
        )
        with cython.critical_section(self):
            if self.handle is not NULL:
                raise_error(ATLAS_E_STATE, "the domain is made already, must be made once")
            self.capacity = size
            self.handle = atlas_domain_create(self.capacity, budget)
        if self.handle is NULL:
            raise_last_error()

    def __dealloc__(self):
        atlas_domain_destroy(self.handle)

    def __reduce__(self):
        raise TypeError("a Domain cannot be pickled, its memory belongs to this process")

    cdef inline int check(self) except -1:
        if self.is_closed or self.handle is NULL:
            raise_error(ATLAS_E_STATE, "the domain is closed, must be open for calls")
        return 0

    cdef _Region attached_region(self):
        """The region, held by the reference; StateError where there is none."""
        with cython.critical_section(self):
            self.check()
            if self.region is None:
                raise_error(ATLAS_E_STATE, "the domain has no region, must have one attached")
            return self.region

    @property
    def bytes(self):
        """The capacity: the most bytes that can be attached."""
        return self.capacity

    @property
    def closed(self):
        """Was the domain closed?"""
        return self.is_closed

    @property
    def budget(self):
        """The budget of the domain."""
        self.check()
        cdef Budget budget = Budget.__new__(Budget)
        budget.domain = self
        return budget

    @property
    def state(self):
        """STATE_OPEN or STATE_COMMITTED."""
        self.check()
        return <int>self.present_state()

    cdef inline atlas_state_t present_state(self) noexcept:
        cdef atlas_state_t state = ATLAS_STATE_OPEN
        atlas_domain_state(self.handle, &state)
        return state

    @property
    def attached(self):
        """The attached bytes, None where there are none. The view keeps them exported, too."""
        with cython.critical_section(self):
            self.check()
            return None if self.region is None else PyMemoryView_FromObject(self.region)

    def attach(self, buf, /):
        """Puts the bytes of `buf` under the law. They stay exported until the domain is closed.

        Raises DomainMemoryError where `buf` is empty or larger than the capacity, StateError where
        a region is attached or the domain is COMMITTED, TypeError or BufferError where `buf` is not
        a C-contiguous buffer.
        """
        self.check()
        cdef _Region region = _Region(buf)
        with cython.critical_section(self):
            self.check()
            if atlas_domain_attach(self.handle, region.data(), region.len()) != ATLAS_OK:
                raise_last_error()
            self.region = region

    def verify(self):
        """OPEN: is the region conserved? COMMITTED: is it, and is it what the witness says?

        Raises StateError where nothing is attached.
        """
        cdef _Region region = self.attached_region()
        state = release_gil(region.len(), HASH_GIL_BYTES)
        cdef bint result = atlas_domain_verify(self.handle)
        restore_gil(state)
        return result

    def _commit(self):
        """OPEN -> COMMITTED, once; the byte form of the witness."""
        cdef _Region region
        with cython.critical_section(self):
            region = self.attached_region()
            if self.open_transactions != 0:
                raise_error(ATLAS_E_STATE, "a transaction is open, must be closed before a commit")
        state = release_gil(region.len(), HASH_GIL_BYTES)
        cdef int code = atlas_domain_commit(self.handle)
        restore_gil(state)
        if code != ATLAS_OK:
            raise_last_error()
        return byte_form(atlas_domain_witness(self.handle))

    def _witness_bytes(self):
        """The byte form of the witness, None while OPEN."""
        self.check()
        witness = atlas_domain_witness(self.handle)
        return None if witness is NULL else byte_form(witness)

    def transaction(self):
        """A context manager for changes that must keep the law.

        Where the body raises, or leaves bytes that are not conserved, the bytes are restored to
        what they were at the start; the latter raises ConservationError. Transactions nest; a
        commit inside one is a StateError. Entering raises StateError where nothing is attached or
        the domain is COMMITTED, BufferError where the bytes are read-only.
        """
        self.check()
        cdef Transaction transaction = Transaction.__new__(Transaction)
        transaction.domain = self
        return transaction

    def close(self):
        """Gives the attached buffer back. A call of another thread on it ends first. Idempotent."""
        cdef _Region region
        with cython.critical_section(self):
            region = self.region
            self.is_closed = True
            self.region = None
        del region  # with the last reference the buffer goes, which may run code of its exporter

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exc_info):
        self.close()


@cython.final
cdef class Budget:
    """The budget of a domain, an integer in 0..95; got from `Domain.budget`. Thread-safe.

    Contract: Budget Operations.
    """

    cdef Domain domain

    def __init__(self, *args, **kwargs):
        raise TypeError("a Budget is got from Domain.budget")

    @property
    def available(self):
        """What is left, in 0..95. Raises StateError when the domain is closed."""
        cdef uint8_t left = 0
        self.domain.check()
        atlas_budget_available(self.domain.handle, &left)
        return left

    def alloc(self, amt, /):
        """Takes `amt` from the budget.

        Raises BudgetError where `amt` is larger than what is left, or not in 0..95; then the budget
        is unchanged. TypeError where it is not an int. StateError when the domain is closed.
        """
        self.domain.check()
        cdef int amount = byte_of(amt, "amt", ATLAS_MODULUS - 1, ATLAS_E_BUDGET)
        if not atlas_budget_alloc(self.domain.handle, <uint8_t>amount):
            raise_last_error()

    def release(self, amt, /):
        """Gives `amt` back: the budget becomes (budget + amt) mod 96.

        Raises BudgetError where `amt` is not in 0..95; then the budget is unchanged. TypeError
        where it is not an int. StateError when the domain is closed.
        """
        self.domain.check()
        cdef int amount = byte_of(amt, "amt", ATLAS_MODULUS - 1, ATLAS_E_BUDGET)
        if not atlas_budget_release(self.domain.handle, <uint8_t>amount):
            raise_last_error()

    def lease(self, amt, /):
        """A context manager that takes `amt` at the start and gives exactly that back at the end.

        Raises BudgetError where `amt` is not in 0..95, and on entering where that is not left;
        StateError when the domain is closed.
        """
        self.domain.check()
        cdef Lease lease = Lease.__new__(Lease)
        lease.domain = self.domain
        lease.amount = <uint8_t>byte_of(amt, "amt", ATLAS_MODULUS - 1, ATLAS_E_BUDGET)
        return lease


@cython.final
cdef class Lease:
    """What `Budget.lease` gives. May be entered again after it was left, not while it is held."""

    cdef Domain domain
    cdef uint8_t amount
    cdef bint held

    def __init__(self, *args, **kwargs):
        raise TypeError("a Lease is got from Budget.lease()")

    @property
    def amt(self):
        """What the lease takes, in 0..95."""
        return self.amount

    def __enter__(self):
        with cython.critical_section(self):
            if self.held:
                raise_error(ATLAS_E_STATE, "the lease is held, must be left before it is entered")
            self.domain.check()
            if not atlas_budget_alloc(self.domain.handle, self.amount):
                raise_last_error()
            self.held = True
        return self

    def __exit__(self, *exc_info):
        with cython.critical_section(self):
            if self.held:
                # The handle outlives close(): to a closed domain this is harmless, and no error
                # of it masks that of the body.
                atlas_budget_release(self.domain.handle, self.amount)
                self.held = False


@cython.final
cdef class Transaction:
    """What `Domain.transaction` gives. It holds the region itself: a body may close the domain."""

    cdef Domain domain
    cdef _Region region
    cdef object before  # bytes

    def __init__(self, *args, **kwargs):
        raise TypeError("a Transaction is got from Domain.transaction()")

    def __enter__(self):
        cdef _Region region = self.domain.attached_region()
        if region.view.readonly:
            raise BufferError("the attached buffer is read-only, must be writable in a transaction")
        before = PyBytes_FromStringAndSize(NULL, region.view.len)
        with cython.critical_section(self):
            if self.region is not None:
                raise_error(
                    ATLAS_E_STATE, "the transaction is open, must be closed before it is entered"
                )
            with cython.critical_section(self.domain):
                if self.domain.present_state() != ATLAS_STATE_OPEN:
                    raise_error(ATLAS_E_STATE, "the domain is COMMITTED, must be OPEN")
                self.domain.open_transactions += 1
            self.region = region
            self.before = before
        copy(<uint8_t *>PyBytes_AsString(before), region.data(), region.len())
        return self

    def __exit__(self, exc_type, exc, traceback):
        cdef _Region region
        with cython.critical_section(self):
            region = self.region
            before = self.before
            self.region = None
            self.before = None
        if region is None:
            raise_error(ATLAS_E_STATE, "the transaction is not open, must be entered first")
        state = release_gil(region.len(), SUM_GIL_BYTES)
        cdef uint8_t left = atlas_conserved_residue(region.data(), region.len())
        restore_gil(state)
        if exc_type is not None or left != 0:
            copy(region.data(), <const uint8_t *>PyBytes_AsString(before), region.len())
        with cython.critical_section(self.domain):
            self.domain.open_transactions -= 1
        if exc_type is None and left != 0:
            raise_error(
                ATLAS_E_CONSERVATION,
                f"residue of the {region.len()} attached bytes is {left} after the transaction, "
                f"must be 0 (mod {ATLAS_MODULUS}); they are restored",
            )
        return False


cdef void copy(uint8_t *dst, const uint8_t *src, size_t len) noexcept:
    state = release_gil(len, SUM_GIL_BYTES)
    memcpy(dst, src, len)
    restore_gil(state)


# --- Kernel sets ---

def kernel_set():
    """Name of the kernel set in use, for example "x86-64-v3+sha"."""
    return atlas_kernel_set().decode()


def kernel_sets():
    """Names of the kernel sets compiled into the library, best first."""
    return names(atlas_kernel_set_name)


def kernel_set_supported(str name not None, /):
    """Can this CPU run the kernel set? False for a name that is not compiled in."""
    return name in kernel_sets() and atlas_kernel_set_supported(name.encode())


def select_kernel_set(str name not None, /):
    """Uses another kernel set from now on, in all threads: the same results at another speed.

    Raises StateError where it is not compiled in or this CPU cannot run it.
    """
    if name not in kernel_sets():
        raise_error(
            ATLAS_E_STATE, f"kernel set is {name!r}, must be one of {', '.join(kernel_sets())}"
        )
    if atlas_kernel_set_select(name.encode()) != ATLAS_OK:
        raise_last_error()


# --- Benchmarks ---

def time_operation(str operation not None, dst, src, repeats, /):
    """Runs an operation of `timed_operations` `repeats` times in C: nanoseconds for all.

    Args: dst, src, buffers of equal length; the operation may write dst.
    Raises ValueError where the operation is unknown or refuses its input, the lengths differ, or
    `repeats` is not in 1..2^32 - 1; TypeError or BufferError for a wrong buffer.
    """
    cdef Span to, source
    number = index_of(repeats, "repeats")
    if operation not in timed_operations():
        raise ValueError(
            f"operation is {operation!r}, must be one of {', '.join(timed_operations())}"
        )
    if not 1 <= number < 2**32:
        raise ValueError(f"repeats is {shown(number)}, must be in 1..{2**32 - 1}")
    cdef uint64_t runs = number
    encoded = operation.encode()
    cdef const char *name = encoded
    hold_pair(dst, "dst", PyBUF_WRITABLE, &to, src, "src", &source)
    state = release_gil(1, 1)
    cdef uint64_t elapsed_ns = atlas_time_operation(name, to.data, source.data, to.len, runs)
    restore_gil(state)
    release(&to)
    release(&source)
    if elapsed_ns == 0:
        raise ValueError(f"{operation} refused its input: {atlas_get_last_error().decode()}")
    return elapsed_ns


def timed_operations():
    """Names of the operations that `time_operation` knows."""
    return names(atlas_timed_operation)


cdef tuple names(const char *(*name_at)(size_t) noexcept nogil):
    """The names of a table of C, which ends with NULL."""
    cdef size_t index = 0
    cdef list found = []
    while name_at(index) is not NULL:
        found.append(name_at(index).decode())
        index += 1
    return tuple(found)
