# SPDX-License-Identifier: Apache-2.0
# What a scrubber knows of the windows of a buffer, and how transactions tell it of changes.

cdef extern from *:
    """
    #include <errno.h>
    #if defined(__linux__)
    #include <sys/mman.h>
    #include <unistd.h>
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #endif
    #ifndef EHWPOISON
    #define EHWPOISON 133
    #endif
    #endif
    /* Return 0, or the errno that says why these bytes cannot be read: a read of them would end the
     * process. 0 also where the system cannot say, as Linux before 5.14. */
    static int atlas_read_error(const uint8_t *base, size_t len)
    {
    #if defined(__linux__)
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t begin = (uintptr_t)base & ~(page - 1);
        size_t size = (size_t)((uintptr_t)base + len - begin);
        for (int tries = 0; len > 0 && tries < 100; tries++) {
            int code = madvise((void *)begin, size, MADV_POPULATE_READ) == 0 ? 0 : errno;
            if (code == EFAULT || code == ENOMEM || code == EHWPOISON)
                return code;
            if (code != EAGAIN && code != EINTR)
                break;
        }
    #else
        (void)base;
        (void)len;
    #endif
        return 0;
    }
    """
    int atlas_read_error(const uint8_t *base, size_t len) noexcept nogil

cdef extern from "Python.h":
    void PyErr_SetObject(object kind, object error) noexcept
    void PyErr_WriteUnraisable(object place) noexcept


def write_unraisable(error, place, /):
    """Call `sys.unraisablehook` for an exception that nobody can catch; `place` is where it was."""
    if not isinstance(error, BaseException):
        raise TypeError(f"error is of type {type(error).__name__}, must be an exception")
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(place)


cdef enum:  # what is known of a window
    KNOWN = 1  # its residue, of bytes that had the leaf
    STALE = 2  # a change ended while another one was open on it: its leaf is to be taken anew
    DAMAGED = 4  # it was not its leaf when it was last judged

cdef enum:  # verdicts on a window, which add up
    DIGEST_DIFFERS = 1
    RESIDUE_DIFFERS = 2
    IN_CHANGE = 4
    IS_NEW = 8

WINDOW_DIGEST_DIFFERS = <int>DIGEST_DIFFERS
WINDOW_RESIDUE_DIFFERS = <int>RESIDUE_DIFFERS
WINDOW_IN_CHANGE = <int>IN_CHANGE
WINDOW_IS_NEW = <int>IS_NEW  # it was not known to be damaged

from _weakref import ref as weak_reference  # `weakref` imports more

# Weak references to all watches, by their addresses.
cdef dict watches = {}


@cython.final
@cython.no_gc_clear  # threads may be in it
cdef class Watch:
    """Watch(buf, leaves)\n--\n
    The leaves and residues that the windows of a buffer must have. It keeps the buffer exported, and
    a Region, all of it, by reference.

    Transactions on the same memory tell it of their changes. Args: buf, the bytes; leaves, 32 bytes
    a window. Raises ValueError where there are not as many leaves as windows; TypeError or
    BufferError where `buf` is not a C-contiguous buffer.
    """

    cdef object __weakref__
    cdef _Held held
    cdef readonly size_t windows
    cdef uint8_t *leaves
    cdef uint8_t *residues
    cdef uint8_t *flags
    cdef Change changes  # open ones, linked

    def __cinit__(self, buf, leaves):
        cdef Span span
        self.held = _Held(buf)
        cdef size_t len = self.held.len()
        self.windows = (
            len // <size_t>ATLAS_WINDOW_BYTES + (len % <size_t>ATLAS_WINDOW_BYTES != 0)
        )
        self.leaves = <uint8_t *>PyMem_Calloc(self.windows + 1, ATLAS_DIGEST_BYTES)
        self.residues = <uint8_t *>PyMem_Calloc(self.windows + 1, 1)
        self.flags = <uint8_t *>PyMem_Calloc(self.windows + 1, 1)
        if self.leaves is NULL or self.residues is NULL or self.flags is NULL:
            raise MemoryError
        hold_hashes(leaves, "leaves", &span)
        cdef size_t count = span.len // ATLAS_DIGEST_BYTES
        if count == self.windows:
            memcpy(self.leaves, span.data, span.len)
        release(&span)
        if count != self.windows:
            raise ValueError(f"leaves has {count} hashes, must have one for {self.windows} windows")
        watches[<size_t><PyObject *>self] = weak_reference(self)

    def __dealloc__(self):
        watches.pop(<size_t><PyObject *>self, None)
        PyMem_Free(self.leaves)
        PyMem_Free(self.residues)
        PyMem_Free(self.flags)

    cdef const uint8_t *window(self, size_t index) noexcept:
        return self.held.data() + index * <size_t>ATLAS_WINDOW_BYTES

    cdef size_t size(self, size_t first, size_t stop) noexcept:
        """Return the number of bytes in a range of windows."""
        return min(stop * <size_t>ATLAS_WINDOW_BYTES, self.held.len()) - first * <size_t>ATLAS_WINDOW_BYTES

    cdef int check(self, size_t first, size_t stop) except -1:
        if not first < stop <= self.windows:
            raise ValueError(
                f"first and stop are {first} and {stop}, must be windows of {self.windows}"
            )
        return 0

    def read_error(self, size_t first, size_t stop, /):
        """Return 0, or the errno that says why windows cannot be read."""
        self.check(first, stop)
        state = release_gil(1, 1)  # it may read a mapped file
        cdef int code = atlas_read_error(self.window(first), self.size(first, stop))
        restore_gil(state)
        return code

    def residues_differ(self, size_t first, size_t stop, /):
        """Read windows; return the indices of all whose residue differs, is not known, or that are
        known to be damaged."""
        self.check(first, stop)
        cdef size_t count = stop - first, i
        cdef uint8_t *found = <uint8_t *>PyMem_Malloc(count)
        if found is NULL:
            raise MemoryError
        try:
            state = release_gil(self.size(first, stop), SUM_GIL_BYTES)
            atlas_conserved_window_residues(self.window(first), self.size(first, stop), found)
            restore_gil(state)
            suspects = []
            with cython.critical_section(self):
                for i in range(count):
                    if self.flags[first + i] != KNOWN or self.residues[first + i] != found[i]:
                        suspects.append(first + i)
            return suspects
        finally:
            PyMem_Free(found)

    def leaves_differ(self, size_t first, size_t stop, /):
        """Hash windows, whose residues become known; return the indices of all whose leaf differs,
        or that are known to be damaged."""
        self.check(first, stop)
        cdef size_t count = stop - first, i
        cdef uint8_t *found = <uint8_t *>PyMem_Malloc(count * (ATLAS_DIGEST_BYTES + 1))
        if found is NULL:
            raise MemoryError
        cdef uint8_t *residues = found + count * ATLAS_DIGEST_BYTES
        try:
            state = release_gil(self.size(first, stop), HASH_GIL_BYTES)
            atlas_tree_leaves_residues(self.window(first), self.size(first, stop), found, residues)
            restore_gil(state)
            suspects = []
            with cython.critical_section(self):
                for i in range(count):
                    if self.flags[first + i] & (STALE | DAMAGED) or not self.is_leaf(
                        first + i, found + i * ATLAS_DIGEST_BYTES
                    ):
                        suspects.append(first + i)
                    else:
                        self.residues[first + i] = residues[i]
                        self.flags[first + i] = KNOWN
            return suspects
        finally:
            PyMem_Free(found)

    cdef bint is_leaf(self, size_t index, const uint8_t *leaf) noexcept:
        return memcmp(self.leaves + index * ATLAS_DIGEST_BYTES, leaf, ATLAS_DIGEST_BYTES) == 0

    cdef bint in_change(self, size_t index) noexcept:
        cdef Change change = self.changes
        while change is not None:
            if change.first <= index < change.stop:
                return True
            change = change.next_open
        return False

    def judge(self, size_t index, /):
        """Hash one window, and return a verdict: 0, or a sum of the `WINDOW_` numbers.

        Nobody else runs meanwhile who could begin or end a change, so that the verdict is certain.
        """
        cdef uint8_t leaf[ATLAS_DIGEST_BYTES]
        cdef uint8_t residue = 0
        self.check(index, index + 1)
        with cython.critical_section(self):
            if self.in_change(index):
                return <int>IN_CHANGE
            atlas_tree_leaves_residues(
                self.window(index), self.size(index, index + 1), leaf, &residue
            )
            if self.flags[index] & STALE:
                self.set(index, leaf, residue)
            if self.is_leaf(index, leaf):
                self.residues[index] = residue
                self.flags[index] = KNOWN
                return 0
            verdict = <int>DIGEST_DIFFERS
            if self.flags[index] & KNOWN and self.residues[index] != residue:
                verdict |= <int>RESIDUE_DIFFERS
            if not self.flags[index] & DAMAGED:
                verdict |= <int>IS_NEW
            self.flags[index] |= DAMAGED
            return verdict

    cdef void set(self, size_t index, const uint8_t *leaf, uint8_t residue) noexcept:
        memcpy(self.leaves + index * ATLAS_DIGEST_BYTES, leaf, ATLAS_DIGEST_BYTES)
        self.residues[index] = residue
        self.flags[index] = KNOWN

    def expect(self, size_t index, leaf, /):
        """Set the leaf that a window must have."""
        cdef Span span
        self.check(index, index + 1)
        hold_hash(leaf, "leaf", &span)
        with cython.critical_section(self):
            memcpy(self.leaves + index * ATLAS_DIGEST_BYTES, span.data, ATLAS_DIGEST_BYTES)
            self.flags[index] = 0
        release(&span)

    def change(self, runs, /):
        """Return a context manager for changes of windows, which are taken anew when it ends.

        No handler of signals comes between its parts, so that no change stays open.

        Args: runs, pairs of windows, the first and the one behind the last.
        """
        cdef Changes changes = Changes.__new__(Changes, self)
        cdef Change change
        cdef size_t first, stop
        cdef list found = []
        for first, stop in runs:
            self.check(first, stop)
            change = new_change(self, first, stop, self.window(first), self.size(first, stop))
            change.is_explicit = True
            found.append(change)
        changes.changes = tuple(found)
        return changes


@cython.final
cdef class Changes:
    """The context manager of `Watch.change`."""

    cdef tuple changes

    def __cinit__(self, Watch watch=None):
        if watch is None:
            raise not_made("Changes", "Watch.change()")

    def __init__(self, *args, **kwargs):
        raise not_made("Changes", "Watch.change()")

    def __enter__(self):
        for change in self.changes:
            (<Change>change).begin()
        return self

    def __exit__(self, exc_type, exc, traceback):
        cdef Py_ssize_t left = len(self.changes)
        while left > 0:  # each is the newest of the open ones then, which is quickly found
            left -= 1
            end_changes(<Change>self.changes[left], None, NULL)


cdef struct Windows:
    const uint8_t *data  # of the whole buffer
    size_t len
    size_t first, count


cdef void mark_changes(
    const Windows *windows, const uint8_t *base, size_t len, const uint8_t *before, uint8_t *changed
) noexcept nogil:
    """Mark the windows in which `len` bytes from `base` on are no longer what they were before."""
    cdef size_t i
    cdef const uint8_t *start
    cdef const uint8_t *end
    for i in range(windows.count):
        start = windows.data + (windows.first + i) * <size_t>ATLAS_WINDOW_BYTES
        end = min(start + ATLAS_WINDOW_BYTES, windows.data + windows.len, base + len)
        start = max(start, base)
        changed[i] = memcmp(start, before + (start - base), <size_t>(end - start)) != 0


cdef void hash_marked(
    const Windows *windows, const uint8_t *marked, uint8_t *leaves, uint8_t *residues
) noexcept nogil:
    """Hash the marked windows, neighbours together."""
    cdef size_t start = 0, stop, begin, end
    while start < windows.count:
        stop = start + 1
        if marked[start]:
            while stop < windows.count and marked[stop]:
                stop += 1
            begin = (windows.first + start) * <size_t>ATLAS_WINDOW_BYTES
            end = min((windows.first + stop) * <size_t>ATLAS_WINDOW_BYTES, windows.len)
            atlas_tree_leaves_residues(
                windows.data + begin,
                end - begin,
                leaves + start * ATLAS_DIGEST_BYTES,
                residues + start,
            )
        start = stop


@cython.final
@cython.no_gc_clear  # a watch may be told of it
cdef class Change:
    """A change of neighbouring windows: of `Watch.change`, or what a watch sees of a transaction.

    Until it ends, no verdict is given on its windows. Then the leaves of the windows that changed
    are taken anew.
    """

    cdef Watch watch
    cdef size_t first, stop
    cdef const uint8_t *base  # what may change
    cdef size_t len
    cdef bint is_open
    cdef bint is_ending
    cdef bint is_explicit  # it names the windows: damage in them is known
    cdef bint is_balance  # of a region, and of nothing else
    cdef uint8_t *leaves  # of what changed, once it ends
    cdef uint8_t *residues
    cdef uint8_t *changed
    cdef Change next_open
    cdef Change also  # of the same transaction

    def __cinit__(self, Watch watch=None):
        if watch is None:
            raise not_made("Change", "Watch.change()")
        self.watch = watch

    def __init__(self, *args, **kwargs):
        raise not_made("Change", "Watch.change()")

    cdef void begin(self) noexcept:
        cdef Watch watch = self.watch
        with cython.critical_section(watch):
            if not self.is_open:
                self.is_open = True
                self.next_open = watch.changes
                watch.changes = self

    cdef void hash(self, const uint8_t *before) noexcept:
        """Hash the windows that are no longer what they were before; all of them for NULL."""
        cdef Windows windows
        windows.data = self.watch.held.data()
        windows.len = self.watch.held.len()
        windows.first = self.first
        windows.count = self.stop - self.first
        self.leaves = <uint8_t *>PyMem_Malloc(windows.count * (ATLAS_DIGEST_BYTES + 2))
        if self.leaves is NULL:
            return  # then all are stale
        self.residues = self.leaves + windows.count * ATLAS_DIGEST_BYTES
        self.changed = self.residues + windows.count
        state = release_gil(self.len, HASH_GIL_BYTES)
        if before is not NULL:
            mark_changes(&windows, self.base, self.len, before, self.changed)
        else:
            memset(self.changed, 1, windows.count)
        hash_marked(&windows, self.changed, self.leaves, self.residues)
        restore_gil(state)

    cdef void unlink(self) noexcept:
        cdef Change other = self.watch.changes
        self.is_open = False
        if other is self:
            self.watch.changes = self.next_open
        else:
            while other.next_open is not self:
                other = other.next_open
            other.next_open = self.next_open
        self.next_open = None

    cdef void settle(self) noexcept:
        """Take the leaves of what changed, or leave that to a change that is still open."""
        cdef Watch watch = self.watch
        cdef size_t i, index
        for i in range(self.stop - self.first):
            index = self.first + i
            if watch.flags[index] & DAMAGED and not self.is_explicit:
                continue
            if self.leaves is NULL or (self.changed[i] and watch.in_change(index)):
                watch.flags[index] = STALE
            elif self.changed[i]:
                watch.set(index, self.leaves + i * ATLAS_DIGEST_BYTES, self.residues[i])
        PyMem_Free(self.leaves)
        self.leaves = NULL


cdef Change new_change(
    Watch watch, size_t first, size_t stop, const uint8_t *base, size_t len
):
    cdef Change change = Change.__new__(Change, watch)
    change.first = first
    change.stop = stop
    change.base = base
    change.len = len
    return change


cdef Change changes_of(_Held held, size_t start, size_t stop):
    """Return the changes of a transaction on held bytes for all watches, linked; none is open yet.

    They are of the bytes start..stop - 1, and of a region of the balance.
    """
    cdef Change found = None
    cdef Change change
    if not watches:
        return None
    for reference in tuple(watches.values()):
        watch = reference()
        if watch is None:
            continue
        found = change_in(watch, held.data() + start, stop - start, found)
        if held.region is not None:
            change = change_in(watch, held.data() + held.payload_bytes(), 1, None)
            if change is not None:
                change.is_balance = True
                change.also = found
                found = change
    return found


cdef Change change_in(Watch watch, const uint8_t *base, size_t len, Change also):
    """Return a change of these bytes before `also`; `also` alone where the watch has none of them."""
    cdef const uint8_t *data = watch.held.data()
    cdef const uint8_t *start = max(base, data)
    cdef const uint8_t *end = min(base + len, data + watch.held.len())
    if start >= end:
        return also
    cdef size_t first = <size_t>(start - data) // <size_t>ATLAS_WINDOW_BYTES
    cdef size_t stop = <size_t>(end - data - 1) // <size_t>ATLAS_WINDOW_BYTES + 1
    cdef Change change = new_change(watch, first, stop, base, len)
    change.also = also
    return change


cdef void begin_changes(Change change) noexcept:
    while change is not None:
        change.begin()
        change = change.also


cdef void end_changes(Change changes, object before, const uint8_t *balance) noexcept:
    """End linked changes, when all has been written.

    Args: before, what the bytes of a transaction were, as bytes; None where all windows count as
    changed; balance, what the balance was.
    """
    cdef Change change = changes
    cdef Change other
    cdef uint8_t *were = NULL if before is None else <uint8_t *>PyBytes_AsString(before)
    while change is not None:
        if change.is_open:
            change.hash(balance if change.is_balance else were)
        change = change.also
    change = changes
    while change is not None:
        # All of one watch at once: its other threads must not see one of them without the others.
        with cython.critical_section(change.watch):
            other = change
            while other is not None:
                if other.watch is change.watch and other.is_open:
                    other.unlink()
                    other.is_ending = True
                other = other.also
            other = change
            while other is not None:
                if other.watch is change.watch and other.is_ending:
                    other.is_ending = False
                    other.settle()
                other = other.also
        change = change.also
