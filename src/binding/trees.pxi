# SPDX-License-Identifier: Apache-2.0
# The section "Trees" of atlas/conservation.h; a part of _native.pyx, which includes it.

cdef extern from "atlas/conservation.h" nogil:
    ctypedef struct atlas_tree_stream_t

    int atlas_tree_leaves_residues(
        const void *base, size_t len, uint8_t *out, uint8_t *residues)
    int atlas_tree_leaves_many(
        const void *const *bases, const size_t *lens, size_t count, uint8_t *leaves,
        uint8_t *residues, uint8_t *roots)
    int atlas_tree_node(const uint8_t *left, const uint8_t *right, uint8_t *out)
    int atlas_tree_root(const uint8_t *leaves, size_t count, uint8_t *out)

    atlas_tree_stream_t *atlas_tree_stream_create()
    atlas_tree_stream_t *atlas_tree_stream_copy(const atlas_tree_stream_t *stream)
    int atlas_tree_stream_update(atlas_tree_stream_t *stream, const void *chunk, size_t n)
    int atlas_tree_stream_append(
        atlas_tree_stream_t *stream, const uint8_t *leaves, size_t count, uint8_t residue)
    int atlas_tree_stream_root(
        const atlas_tree_stream_t *stream, uint8_t *out, uint64_t *length, uint8_t *residue)
    void atlas_tree_stream_destroy(atlas_tree_stream_t *stream)


cdef extern from "Python.h":
    enum:
        Py_tp_descr_set
        Py_tp_new
    void *PyType_GetSlot(PyTypeObject *type, int slot)
    bint PyType_IsSubtype(PyTypeObject *type, PyTypeObject *base)

from time import time_ns

ctypedef int (*set_member_t)(object member, object target, object value) except -1
ctypedef object (*new_object_t)(object cls, tuple arguments, void *named)


def int_in(value, str name not None, least, most, /):
    """Return `value` as an int; raise ValueError if not in least..most (None: no bound).

    Raises TypeError for all that is not an integer, bool included. Messages have `name`.
    """
    return checked_int(value, name, least, most)


cdef object checked_int(value, str name, least, most):
    number = index_of(value, name)
    if number < least or (most is not None and number > most):
        rule = f"at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} is {shown(number)}, must be {rule}")
    return number


def bytes_of(buf, /):
    """Return a memoryview of the bytes of `buf`, for items of any type; it keeps them exported.

    Raises TypeError or BufferError where `buf` is not a C-contiguous buffer.
    """
    return PyMemoryView_FromObject(_Held(buf))


cdef int hold_hashes(object buf, str name, Span *span) except -1:
    """Get the bytes of a whole number of hashes."""
    cdef size_t size
    hold(buf, name, 0, span)
    if span.len % <size_t>ATLAS_DIGEST_BYTES != 0:
        size = span.len
        release(span)
        raise ValueError(f"{name} has {size} bytes, must have {ATLAS_DIGEST_BYTES} for each hash")
    return 0


cdef int hold_hash(object buf, str name, Span *span) except -1:
    cdef size_t size
    hold(buf, name, 0, span)
    if span.len != <size_t>ATLAS_DIGEST_BYTES:
        size = span.len
        release(span)
        raise ValueError(f"{name} has {size} bytes, must have {ATLAS_DIGEST_BYTES}")
    return 0


def tree_leaves(buf, /):
    """Return the leaf hashes of the windows of `buf`, joined, and their residues, as bytes.

    Raises TypeError or BufferError where `buf` is not a C-contiguous buffer. Header: Trees.
    """
    cdef Span span
    hold(buf, "buf", 0, &span)
    cdef size_t windows = <size_t>atlas_windows_of(span.len)
    try:
        leaves = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>windows * ATLAS_DIGEST_BYTES)
        residues = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>windows)
        to_leaves = <uint8_t *>PyBytes_AsString(leaves)
        to_residues = <uint8_t *>PyBytes_AsString(residues)
        state = release_gil(span.len, HASH_GIL_BYTES)
        atlas_tree_leaves_residues(span.data, span.len, to_leaves, to_residues)
        restore_gil(state)
    finally:
        release(&span)
    return leaves, residues


cdef object witness_class = None, block_class = None
cdef tuple witness_members = (), block_members = ()  # in the order of __slots__
cdef set_member_t set_member = NULL
cdef new_object_t new_object = NULL  # no __new__ of a subclass, which may return any object


def register_trees(witnesses, blocks, /):
    """Let `block_witness` return witnesses of the class `TreeWitness`, with a `Subtree`."""
    global witness_class, block_class, witness_members, block_members, set_member, new_object
    members = [
        tuple([getattr(cls, name) for name in cls.__slots__]) for cls in (witnesses, blocks)
    ]
    kind = type(members[0][0])
    set_member = <set_member_t>PyType_GetSlot(<PyTypeObject *>kind, Py_tp_descr_set)
    new_object = <new_object_t>PyType_GetSlot(<PyTypeObject *>object, Py_tp_new)
    witness_members, block_members = members
    witness_class, block_class = witnesses, blocks


cdef object with_members(cls, tuple members, tuple values):
    """Return an object of a class with slots, made without calls of Python's."""
    cdef Py_ssize_t place
    made = new_object(cls, (), NULL)
    for place in range(len(members)):
        set_member(members[place], made, values[place])
    return made


def block_witness(cls, buf, threads, bint keep, /):
    """Return the witness of a region of one block, made without calls of Python's that take longer
    than to hash a few windows.

    Args: cls, `TreeWitness` or a subclass; buf; threads, None or a number, which is checked: one is
    enough; keep, whether the block belongs to the witness.
    Returns None where `buf` has more windows, and the device as `device_of` has it where it is on
    one. Raises as `int_in` and `tree_leaves`.
    """
    cdef Span span
    cdef size_t windows
    cdef uint8_t total
    if (
        witness_class is None or not isinstance(cls, type)
        or not PyType_IsSubtype(<PyTypeObject *>cls, <PyTypeObject *>witness_class)
    ):
        raise TypeError("cls must be TreeWitness or a subclass")
    if threads is not None:
        checked_int(threads, "threads", 1, None)
    device = device_of(buf)
    if device is not None:
        return device
    hold(buf, "buf", 0, &span)
    length = span.len
    windows = span.len // <size_t>ATLAS_WINDOW_BYTES + (span.len % <size_t>ATLAS_WINDOW_BYTES != 0)
    try:
        if windows > BLOCK_WINDOWS:
            return None
        leaves = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>windows * ATLAS_DIGEST_BYTES)
        residues = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>windows)
        to_leaves = <uint8_t *>PyBytes_AsString(leaves)
        to_residues = <uint8_t *>PyBytes_AsString(residues)
        # The root over one leaf is the leaf.
        root = leaves if windows == 1 else PyBytes_FromStringAndSize(NULL, ATLAS_DIGEST_BYTES)
        to_root = <uint8_t *>PyBytes_AsString(root)
        state = release_gil(span.len, HASH_GIL_BYTES)
        atlas_tree_leaves_residues(span.data, span.len, to_leaves, to_residues)
        if windows != 1:
            atlas_tree_root(to_leaves, windows, to_root)
        total = atlas_conserved_residue(to_residues, windows)
        restore_gil(state)
    finally:
        release(&span)
    residue = total
    block = None
    if keep:
        values = (), leaves, residue, residues, root, 1
        block = with_members(block_class, block_members, values)
    values = length, residue, root, time_ns(), block
    return with_members(cls, witness_members, values)


def tree_root(hashes, /):
    """Return the root over joined leaf hashes (or over nodes of one height, except the last).

    Raises ValueError where `hashes` is not a whole number of hashes; TypeError or BufferError where
    it is not a C-contiguous buffer. Header: Trees.
    """
    cdef Span span
    hold_hashes(hashes, "hashes", &span)
    try:
        root = PyBytes_FromStringAndSize(NULL, ATLAS_DIGEST_BYTES)
        out = <uint8_t *>PyBytes_AsString(root)
        state = release_gil(span.len, HASH_GIL_BYTES)
        atlas_tree_root(span.data, span.len // <size_t>ATLAS_DIGEST_BYTES, out)
        restore_gil(state)
    finally:
        release(&span)
    return root


def tree_node(left, right, /):
    """Return the node above two hashes.

    Raises ValueError where an argument has not 32 bytes; TypeError or BufferError where it is not a
    C-contiguous buffer. Header: Trees.
    """
    cdef Span one, two
    hold_hash(left, "left", &one)
    try:
        hold_hash(right, "right", &two)
        try:
            node = PyBytes_FromStringAndSize(NULL, ATLAS_DIGEST_BYTES)
            atlas_tree_node(one.data, two.data, <uint8_t *>PyBytes_AsString(node))
        finally:
            release(&two)
    finally:
        release(&one)
    return node


cdef class TreeStream:
    """TreeStream(data=b"")
--

    The root of data that comes in chunks of any size, in constant memory (atlas_tree_stream_t).

    Args: data, the first chunk. One stream is used by one thread at a time; StateError for the
    second one. Users see `atlas12288.TreeHash`. Header: Trees.
    """

    cdef atlas_tree_stream_t *handle  # set once, by `take` or the first use
    cdef bint in_use

    def __init__(self, data=b""):
        self.update(data)

    def __dealloc__(self):
        atlas_tree_stream_destroy(self.handle)

    def __reduce__(self):
        raise TypeError(f"a {type(self).__name__} cannot be pickled, its state is in the library")

    cdef int enter(self) except -1:
        with cython.critical_section(self):
            if self.in_use:
                raise_error(ATLAS_E_STATE, "the stream is in use by another thread, must not be")
            if self.handle is NULL:
                self.handle = atlas_tree_stream_create()
                if self.handle is NULL:
                    raise_last_error()
            self.in_use = True
        return 0

    cdef int take(self, atlas_tree_stream_t *handle) except -1:
        """Own `handle`, and never another one, because a thread may be using it. Raise the last
        error if it is NULL."""
        if handle is NULL:
            raise_last_error()
        with cython.critical_section(self):
            if self.handle is NULL:
                self.handle = handle
                return 0
        atlas_tree_stream_destroy(handle)
        raise_error(ATLAS_E_STATE, "the stream has begun already, must be a new one")

    def update(self, chunk, /):
        """Take the bytes of `chunk` as the next ones.

        Raises TypeError or BufferError where `chunk` is not a C-contiguous buffer.
        """
        cdef Span span
        hold(chunk, "chunk", 0, &span)
        try:
            self.enter()
            state = release_gil(span.len, HASH_GIL_BYTES)
            atlas_tree_stream_update(self.handle, span.data, span.len)
            restore_gil(state)
            self.in_use = False
        finally:
            release(&span)

    def append(self, leaves, residue, /):
        """Take whole windows, given by their joined leaf hashes and the residue of their bytes.

        Raises StateError where the bytes so far are not whole windows; ConservationError where
        `residue` is not in 0..95; ValueError where `leaves` is not a whole number of hashes;
        TypeError or BufferError where it is not a C-contiguous buffer.
        """
        cdef Span span
        cdef int part = byte_of(residue, "residue", ATLAS_MODULUS - 1, ATLAS_E_CONSERVATION)
        cdef int code
        hold_hashes(leaves, "leaves", &span)
        try:
            self.enter()
            state = release_gil(span.len, HASH_GIL_BYTES)
            code = atlas_tree_stream_append(
                self.handle, span.data, span.len // <size_t>ATLAS_DIGEST_BYTES, <uint8_t>part
            )
            restore_gil(state)
            self.in_use = False
            if code != ATLAS_OK:
                raise_last_error()
        finally:
            release(&span)

    def result(self):
        """Return root, length and residue of all bytes so far; more may follow."""
        cdef uint64_t length = 0
        cdef uint8_t residue = 0
        root = PyBytes_FromStringAndSize(NULL, ATLAS_DIGEST_BYTES)
        out = <uint8_t *>PyBytes_AsString(root)
        self.enter()
        atlas_tree_stream_root(self.handle, out, &length, &residue)
        self.in_use = False
        return root, length, residue

    def copy(self):
        """Return another stream of the same bytes; each can be updated independently."""
        cdef TreeStream other = TreeStream.__new__(type(self))
        self.enter()
        handle = atlas_tree_stream_copy(self.handle)
        self.in_use = False
        other.take(handle)
        return other
