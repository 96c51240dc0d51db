# SPDX-License-Identifier: Apache-2.0
# The section "Regions" of atlas/conservation.h; a part of _native.pyx, which includes it.

cdef extern from "atlas/conservation.h" nogil:
    ctypedef struct atlas_region_t

    atlas_region_t *atlas_region_create(size_t nbytes)
    void *atlas_region_payload(const atlas_region_t *region)
    size_t atlas_region_payload_bytes(const atlas_region_t *region)
    size_t atlas_region_size(const atlas_region_t *region)
    bint atlas_region_sealed(const atlas_region_t *region)
    int atlas_region_balance(atlas_region_t *region, uint8_t *out)
    int atlas_region_fill(atlas_region_t *region, uint8_t value)
    int atlas_region_copy(atlas_region_t *region, const void *src, size_t len)
    int atlas_domain_commit_sealed(atlas_domain_t *domain, atlas_region_t *region)
    int atlas_region_fd(const atlas_region_t *region, int *out)
    atlas_region_t *atlas_region_from_fd(int fd)
    void atlas_region_destroy(atlas_region_t *region)


@cython.final
cdef class Region:
    """Region(nbytes)\n--\n
    Memory in which the law has room: a payload of `nbytes`, and one byte behind it, the balance.

    The buffer protocol gives the payload, zeros at first, which begins at a page of the system and
    is writable until the region is sealed. The balance makes payload and balance together
    conserved, so that the law never changes the data. What reads a region for the law reads both: a
    `Domain` that attaches it, `Witness.generate` and `verify`, `TreeWitness`, `is_conserved`. What
    writes to it writes the payload and sets the balance: `conserved_fill`, `conserved_copy`, a
    transaction. After any other write, `balance()` does.

    The memory is given back by `close()`, or with the last reference. A context manager, which
    closes the region; if the body raised and views of the region are left, they keep it.

    Args: nbytes, the length of the payload, at least 1.
    Raises DomainMemoryError where `nbytes` is out of range, or there is no memory or no file
    descriptor for it, TypeError where it is not an int; StateError from every method, once the
    region is closed. Header: Regions.
    """

    # NULL before __init__ and once closed. Whoever uses its memory is counted first.
    cdef atlas_region_t *handle
    cdef Py_ssize_t writable_exports  # by the buffer protocol
    cdef Py_ssize_t readonly_exports
    cdef Py_ssize_t readers  # domains, scrubbers and running calls, which hold it by reference
    cdef Py_ssize_t writers  # running calls that write, and open transactions
    cdef Py_ssize_t open_domains  # that have it attached
    cdef bint is_being_sealed
    cdef bint is_made

    def __init__(self, nbytes):
        size = index_of(nbytes, "nbytes")
        most = PY_SSIZE_T_MAX - 1
        if not 1 <= size <= most:
            raise_error(ATLAS_E_MEMORY, f"nbytes is {shown(size)}, must be in 1..{most}")
        with cython.critical_section(self):
            if self.is_made:
                raise_error(ATLAS_E_STATE, "the region is made already, must be made once")
            self.take(atlas_region_create(<size_t>size))

    cdef int take(self, atlas_region_t *handle) except -1:
        """Own `handle`, fresh from __new__; raise the last error if it is NULL."""
        if handle is NULL:
            raise_last_error()
        self.handle = handle
        self.is_made = True
        return 0

    def __dealloc__(self):
        atlas_region_destroy(self.handle)

    def __reduce__(self):
        raise TypeError(
            "a Region cannot be pickled or copied, its memory belongs to this process; "
            "bytes(region) is a copy of its payload"
        )

    cdef inline int check(self) except -1:
        if self.handle is NULL:
            raise_error(ATLAS_E_STATE, "the region is closed, must be open for calls")
        return 0

    # What these four give is there between `keep` and `let_go`, and as long as an export is.
    cdef inline uint8_t *data(self) noexcept:
        return <uint8_t *>atlas_region_payload(self.handle)

    cdef inline size_t payload_bytes(self) noexcept:
        return atlas_region_payload_bytes(self.handle)

    cdef inline size_t whole_bytes(self) noexcept:
        return atlas_region_size(self.handle)

    cdef inline bint is_sealed(self) noexcept:
        return atlas_region_sealed(self.handle)

    cdef inline bint is_readonly(self) noexcept:
        return self.is_being_sealed or self.is_sealed()

    cdef bint try_keep(self) noexcept:
        """Count a reader, who keeps the memory until `let_go`. False: the region is closed."""
        cdef bint is_open
        with cython.critical_section(self):
            is_open = self.handle is not NULL
            self.readers += is_open
        return is_open

    cdef int keep(self) except -1:
        """The same; raise StateError if the region is closed."""
        if not self.try_keep():
            self.check()
        return 0

    cdef void let_go(self) noexcept:
        with cython.critical_section(self):
            self.readers -= 1

    cdef int keep_to_write(self) except -1:
        """Count a writer, until `end_writing`. Raise StateError if it is closed or sealed."""
        with cython.critical_section(self):
            self.check()
            if self.is_readonly():
                raise_error(ATLAS_E_STATE, "the region is sealed, must not be to be written")
            self.writers += 1
        return 0

    cdef void end_writing(self) noexcept:
        with cython.critical_section(self):
            self.writers -= 1

    cdef int begin_sealing(self, bint of_open_domain) except -1:
        """Bar all who write, until `end_sealing`. Raise StateError while anybody still may.

        `of_open_domain`: whether the domain that is committed is one of `open_domains`.
        """
        cdef Py_ssize_t views
        with cython.critical_section(self):
            self.check()
            views = self.writable_exports
            if self.is_being_sealed:
                raise_error(ATLAS_E_STATE, "another call seals the region, must return first")
            if views > 0:
                raise_error(
                    ATLAS_E_STATE,
                    f"the region has {views} writable view{'s' if views > 1 else ''}, such as a "
                    "memoryview or an array, must have none to be sealed: delete or release first",
                )
            if self.writers > 0:
                raise_error(
                    ATLAS_E_STATE,
                    "a transaction or a call that writes to the region is not over, must be before "
                    "it is sealed",
                )
            if self.open_domains > of_open_domain and not self.is_sealed():
                raise_error(
                    ATLAS_E_STATE,
                    "another domain that has the region attached is OPEN, must be committed or "
                    "closed before it is sealed",
                )
            self.is_being_sealed = True
        return 0

    cdef void end_sealing(self) noexcept:
        with cython.critical_section(self):
            self.is_being_sealed = False

    cdef void count_open_domain(self, Py_ssize_t difference) noexcept:
        with cython.critical_section(self):
            self.open_domains += difference

    cdef int export(self, object exporter, Py_buffer *view, int flags, bint whole) except -1:
        """Fill `view` for `exporter` and count it, until `end_export`."""
        cdef size_t size
        cdef bint readonly
        with cython.critical_section(self):
            self.check()
            size = self.whole_bytes() if whole else self.payload_bytes()
            readonly = whole or self.is_readonly()
            PyBuffer_FillInfo(view, exporter, self.data(), <Py_ssize_t>size, readonly, flags)
            if readonly:
                self.readonly_exports += 1
            else:
                self.writable_exports += 1
        return 0

    cdef void end_export(self, Py_buffer *view) noexcept:
        with cython.critical_section(self):
            if view.readonly:
                self.readonly_exports -= 1
            else:
                self.writable_exports -= 1

    def __getbuffer__(self, Py_buffer *view, int flags):
        self.export(self, view, flags, False)

    def __releasebuffer__(self, Py_buffer *view):
        self.end_export(view)

    @property
    def nbytes(self):
        """Length of the payload in bytes."""
        with cython.critical_section(self):
            self.check()
            return self.payload_bytes()

    @property
    def size(self):
        """Length of payload and balance in bytes: nbytes + 1."""
        with cython.critical_section(self):
            self.check()
            return self.whole_bytes()

    @property
    def whole(self):
        """A read-only memoryview of payload and balance."""
        with cython.critical_section(self):
            self.check()
        return PyMemoryView_FromObject(_Whole.__new__(_Whole, self))

    @property
    def sealed(self):
        """Whether the bytes can no longer be written."""
        with cython.critical_section(self):
            self.check()
            return self.is_sealed()

    def balance(self):
        """Set the balance so that the region is conserved; return it, in 0..95.

        Raises StateError where the region is sealed: it is conserved then.
        """
        cdef uint8_t balance = 0
        self.keep_to_write()
        state = release_gil(self.payload_bytes(), SUM_GIL_BYTES)
        atlas_region_balance(self.handle, &balance)
        restore_gil(state)
        self.end_writing()
        return balance

    def fileno(self):
        """Return the file descriptor of the memory of a sealed region, for `Region.from_fd`.

        It stays the region's own, which closes it. Raises StateError where the region is not
        sealed, or the system has no memory that has a descriptor.
        """
        cdef int fd = -1
        with cython.critical_section(self):
            self.check()
            if atlas_region_fd(self.handle, &fd) != ATLAS_OK:
                raise_last_error()
        return fd

    @staticmethod
    def from_fd(fd):
        """Return the sealed region whose descriptor `fd` is, as `fileno` returned it.

        Both regions are the same memory; this one has a duplicate of the descriptor. Nothing is
        believed of `fd`: its memory must have all four seals, so that nobody can change it any
        more. Whether it is the right one, a witness tells.

        Raises StateError where `fd` is not open, or not of such memory; DomainMemoryError where
        there is no memory or no file descriptor; TypeError where it is not an int.
        """
        cdef Region region
        number = index_of(fd, "fd")
        if not 0 <= number <= INT_MAX:
            raise_error(ATLAS_E_STATE, f"fd is {shown(number)}, must be in 0..{INT_MAX}")
        region = Region.__new__(Region)
        region.take(atlas_region_from_fd(<int>number))
        return region

    @property
    def closed(self):
        """Whether the region was closed."""
        return self.handle is NULL

    def close(self):
        """Give the memory back. Idempotent.

        Raises BufferError where a view of the region is left, such as a memoryview or an array;
        StateError where a domain, a scrubber or a call in another thread holds it.
        """
        cdef atlas_region_t *handle
        cdef Py_ssize_t exports
        with cython.critical_section(self):
            exports = self.writable_exports + self.readonly_exports
            if exports > 0:
                raise BufferError(
                    f"the region has {exports} view{'s' if exports > 1 else ''}, such as a "
                    "memoryview or an array, must have none to be closed: delete or release first"
                )
            if self.readers + self.writers > 0:
                raise_error(
                    ATLAS_E_STATE,
                    "the region is held by a domain, a scrubber or a call, must be let go to be "
                    "closed: close the domain first",
                )
            handle = self.handle
            self.handle = NULL
        atlas_region_destroy(handle)

    def __enter__(self):
        with cython.critical_section(self):
            self.check()
        return self

    def __exit__(self, exc_type, exc, traceback):
        if exc_type is None:
            self.close()
            return
        try:
            self.close()
        except (BufferError, RuntimeError):
            pass  # the traceback may hold views of the region, and the exception of the body counts

    def __repr__(self):
        cdef uint8_t balance
        with cython.critical_section(self):
            if self.handle is NULL:
                return "<Region closed>"
            balance = self.data()[self.payload_bytes()]
            state = ", sealed" if self.is_sealed() else ""
            return f"<Region {self.payload_bytes()} bytes, balance {balance}{state}>"


@cython.final
@cython.no_gc_clear  # never without its region, whose exports it counts
cdef class _Whole:
    """What exports payload and balance of a region, read-only."""

    cdef Region region

    def __cinit__(self, Region region not None):
        self.region = region

    def __getbuffer__(self, Py_buffer *view, int flags):
        self.region.export(self, view, flags, True)

    def __releasebuffer__(self, Py_buffer *view):
        self.region.end_export(view)
