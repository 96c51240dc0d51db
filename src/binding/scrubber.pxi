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
    STALE = 2  # a change of it ended without its leaf, which is to be taken anew
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


@cython.no_gc_clear  # threads may be in it
cdef class _Watch:
    """What is known of windows: the leaves and residues that they must have, and open changes."""

    cdef readonly size_t windows
    cdef uint8_t *leaves
    cdef uint8_t *residues
    cdef uint8_t *flags
    # Where windows are hashed before they are judged: when the leaf of each was last set, and what
    # time it is. NULL elsewhere.
    cdef uint64_t *renewed
    cdef uint64_t time
    cdef Change changes  # open ones, linked

    def __cinit__(self, *args, **kwargs):
        if type(self) is _Watch:
            raise not_made("_Watch", "Watch() or RemoteWatch()")

    cdef int know(self, size_t windows, object leaves) except -1:
        """Begin with the leaves that windows must have."""
        cdef Span span
        self.windows = windows
        self.leaves = <uint8_t *>PyMem_Calloc(windows + 1, ATLAS_DIGEST_BYTES)
        self.residues = <uint8_t *>PyMem_Calloc(windows + 1, 1)
        self.flags = <uint8_t *>PyMem_Calloc(windows + 1, 1)
        if self.leaves is NULL or self.residues is NULL or self.flags is NULL:
            raise MemoryError
        hold_hashes(leaves, "leaves", &span)
        cdef size_t count = span.len // ATLAS_DIGEST_BYTES
        if count == windows:
            memcpy(self.leaves, span.data, span.len)
        release(&span)
        if count != windows:
            raise ValueError(f"leaves has {count} hashes, must have one for {windows} windows")
        return 0

    def __dealloc__(self):
        PyMem_Free(self.leaves)
        PyMem_Free(self.residues)
        PyMem_Free(self.flags)
        PyMem_Free(self.renewed)

    cdef int check(self, size_t first, size_t stop) except -1:
        if not first < stop <= self.windows:
            raise ValueError(
                f"first and stop are {first} and {stop}, must be windows of {self.windows}"
            )
        return 0

    cdef bint is_leaf(self, size_t index, const uint8_t *leaf) noexcept:
        return memcmp(self.leaves + index * ATLAS_DIGEST_BYTES, leaf, ATLAS_DIGEST_BYTES) == 0

    cdef bint in_change(self, size_t index) noexcept:
        cdef Change change = self.changes
        while change is not None:
            if change.first <= index < change.stop:
                return True
            change = change.next_open
        return False

    cdef list unlike_residues(self, size_t first, size_t stop, const uint8_t *found):
        """Return the indices of all windows whose residue differs, is not known, or that are known
        to be damaged."""
        cdef size_t i
        suspects = []
        with cython.critical_section(self):
            for i in range(stop - first):
                if self.flags[first + i] != KNOWN or self.residues[first + i] != found[i]:
                    suspects.append(first + i)
        return suspects

    cdef list unlike_leaves(
        self, size_t first, size_t stop, const uint8_t *found, const uint8_t *residues
    ):
        """Return the indices of all windows whose leaf differs, or that are known to be damaged.

        The residues of the others become known.
        """
        cdef size_t i
        suspects = []
        with cython.critical_section(self):
            for i in range(stop - first):
                if self.flags[first + i] & (STALE | DAMAGED) or not self.is_leaf(
                    first + i, found + i * ATLAS_DIGEST_BYTES
                ):
                    suspects.append(first + i)
                else:
                    self.residues[first + i] = residues[i]
                    self.flags[first + i] = KNOWN
        return suspects

    cdef int verdict(self, size_t index, const uint8_t *leaf, uint8_t residue) noexcept:
        """Return the verdict on a window that is not in a change, by what it is now."""
        cdef int verdict = DIGEST_DIFFERS
        if self.flags[index] & STALE:
            self.set(index, leaf, residue)
        if self.is_leaf(index, leaf):
            self.residues[index] = residue
            self.flags[index] = KNOWN
            return 0
        if self.flags[index] & KNOWN and self.residues[index] != residue:
            verdict |= RESIDUE_DIFFERS
        if not self.flags[index] & DAMAGED:
            verdict |= IS_NEW
        self.flags[index] |= DAMAGED
        return verdict

    cdef void mark(self, size_t index, uint8_t flags) noexcept:
        """Say what is known of a window whose leaf is another from now on."""
        self.flags[index] = flags
        if self.renewed is not NULL:
            self.time += 1
            self.renewed[index] = self.time

    cdef void set(self, size_t index, const uint8_t *leaf, uint8_t residue) noexcept:
        memcpy(self.leaves + index * ATLAS_DIGEST_BYTES, leaf, ATLAS_DIGEST_BYTES)
        self.residues[index] = residue
        self.mark(index, KNOWN)

    def expect(self, size_t index, leaf, /):
        """Set the leaf that a window must have."""
        cdef Span span
        self.check(index, index + 1)
        hold_hash(leaf, "leaf", &span)
        with cython.critical_section(self):
            memcpy(self.leaves + index * ATLAS_DIGEST_BYTES, span.data, ATLAS_DIGEST_BYTES)
            self.mark(index, 0)
        release(&span)

    cdef Changes changes_in(self, object runs, object hashes):
        """Return a context manager for changes of windows: pairs of the first and the one behind
        the last."""
        cdef Changes changes = Changes.__new__(Changes, self)
        cdef Change change
        cdef size_t first, stop
        cdef list found = []
        for first, stop in runs:
            self.check(first, stop)
            change = new_change(self, first, stop)
            change.is_explicit = True
            found.append(change)
        changes.hashes = hashes
        changes.changes = tuple(found)
        return changes

    cdef void hash(self, Change change, const uint8_t *before) noexcept:
        """Give a change the leaves of its windows that are no longer what they were before.

        NULL: all of them. Without leaves all are stale.
        """


@cython.final
@cython.no_gc_clear
cdef class Watch(_Watch):
    """Watch(buf, leaves)\n--\n
    The leaves and residues that the windows of a buffer must have. It keeps the buffer exported, and
    a Region, all of it, by reference.

    Transactions on the same memory tell it of their changes. Args: buf, the bytes; leaves, 32 bytes
    a window. Raises ValueError where there are not as many leaves as windows; TypeError or
    BufferError where `buf` is not a C-contiguous buffer.
    """

    cdef object __weakref__
    cdef _Held held

    def __cinit__(self, buf, leaves):
        self.held = _Held(buf)
        cdef size_t len = self.held.len()
        self.know(
            len // <size_t>ATLAS_WINDOW_BYTES + (len % <size_t>ATLAS_WINDOW_BYTES != 0), leaves
        )
        watches[<size_t><PyObject *>self] = weak_reference(self)

    def __dealloc__(self):
        watches.pop(<size_t><PyObject *>self, None)

    cdef const uint8_t *window(self, size_t index) noexcept:
        return self.held.data() + index * <size_t>ATLAS_WINDOW_BYTES

    cdef size_t size(self, size_t first, size_t stop) noexcept:
        """Return the number of bytes in a range of windows."""
        return min(stop * <size_t>ATLAS_WINDOW_BYTES, self.held.len()) - first * <size_t>ATLAS_WINDOW_BYTES

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
        cdef uint8_t *found = <uint8_t *>PyMem_Malloc(stop - first)
        if found is NULL:
            raise MemoryError
        try:
            state = release_gil(self.size(first, stop), SUM_GIL_BYTES)
            atlas_conserved_window_residues(self.window(first), self.size(first, stop), found)
            restore_gil(state)
            return self.unlike_residues(first, stop, found)
        finally:
            PyMem_Free(found)

    def leaves_differ(self, size_t first, size_t stop, /):
        """Hash windows, whose residues become known; return the indices of all whose leaf differs,
        or that are known to be damaged."""
        self.check(first, stop)
        cdef size_t count = stop - first
        cdef uint8_t *found = <uint8_t *>PyMem_Malloc(count * (ATLAS_DIGEST_BYTES + 1))
        if found is NULL:
            raise MemoryError
        cdef uint8_t *residues = found + count * ATLAS_DIGEST_BYTES
        try:
            state = release_gil(self.size(first, stop), HASH_GIL_BYTES)
            atlas_tree_leaves_residues(self.window(first), self.size(first, stop), found, residues)
            restore_gil(state)
            return self.unlike_leaves(first, stop, found, residues)
        finally:
            PyMem_Free(found)

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
            return self.verdict(index, leaf, residue)

    def change(self, runs, /):
        """Return a context manager for changes of windows, which are taken anew when it ends.

        Args: runs, pairs of windows, the first and the one behind the last.
        """
        return self.changes_in(runs, None)

    cdef void hash(self, Change change, const uint8_t *before) noexcept:
        cdef Windows windows
        windows.data = self.held.data()
        windows.len = self.held.len()
        windows.first = change.first
        windows.count = change.stop - change.first
        if not change.make_room():
            return
        state = release_gil(self.size(change.first, change.stop), HASH_GIL_BYTES)
        if before is not NULL:
            mark_changes(&windows, change.base, change.len, before, change.changed)
        hash_marked(&windows, change.changed, change.leaves, change.residues)
        restore_gil(state)


@cython.final
@cython.no_gc_clear
cdef class RemoteWatch(_Watch):
    """RemoteWatch(leaves)\n--\n
    The leaves and residues that the windows of a tensor must have which its caller hashes.

    What was hashed is the residues of all windows, and their leaves; `now` is the time before that.
    Args: leaves, 32 bytes a window. Raises ValueError, also from methods, where there are not as
    many leaves or residues as windows; TypeError or BufferError where they are no bytes.
    """

    def __cinit__(self, leaves):
        cdef Span span
        hold_hashes(leaves, "leaves", &span)
        cdef size_t windows = span.len // ATLAS_DIGEST_BYTES
        release(&span)
        self.renewed = <uint64_t *>PyMem_Calloc(windows + 1, sizeof(uint64_t))
        if self.renewed is NULL:
            raise MemoryError
        self.know(windows, leaves)

    @property
    def now(self):
        return self.time

    cdef int hold_all(self, object residues, Span *span) except -1:
        hold(residues, "residues", 0, span)
        cdef size_t count = span.len
        if count != self.windows:
            release(span)
            raise ValueError(f"residues has {count} bytes, must have one for {self.windows} windows")
        return 0

    cdef int hold_both(self, object leaves, Span *span, object residues, Span *sums) except -1:
        hold_hashes(leaves, "leaves", span)
        cdef size_t count = span.len // ATLAS_DIGEST_BYTES
        try:
            if count != self.windows:
                raise ValueError(
                    f"leaves has {count} hashes, must have one for {self.windows} windows"
                )
            self.hold_all(residues, sums)
        except BaseException:
            release(span)
            raise
        return 0

    def residues_differ(self, residues, /):
        """Return the indices of all windows whose residue differs, is not known, or that are known
        to be damaged."""
        cdef Span sums
        self.hold_all(residues, &sums)
        try:
            return self.unlike_residues(0, self.windows, sums.data)
        finally:
            release(&sums)

    def leaves_differ(self, leaves, residues, /):
        """Return the indices of all windows whose leaf differs, or that are known to be damaged;
        the residues of the others become known."""
        cdef Span span, sums
        self.hold_both(leaves, &span, residues, &sums)
        try:
            return self.unlike_leaves(0, self.windows, span.data, sums.data)
        finally:
            release(&span)
            release(&sums)

    def judge(self, size_t index, uint64_t now, leaves, residues, /):
        """Return a verdict on a window: 0, or a sum of the `WINDOW_` numbers.

        A window that changed since it was hashed counts as one that is in a change.
        """
        cdef Span span, sums
        self.check(index, index + 1)
        self.hold_both(leaves, &span, residues, &sums)
        try:
            with cython.critical_section(self):
                if self.in_change(index) or self.renewed[index] > now:
                    return <int>IN_CHANGE
                return self.verdict(
                    index, span.data + index * ATLAS_DIGEST_BYTES, sums.data[index]
                )
        finally:
            release(&span)
            release(&sums)

    def change(self, runs, hashes, /):
        """Return a context manager for changes of windows, which are taken anew when it ends.

        Args: runs, pairs of windows, the first and the one behind the last; hashes, called at the
        end for the leaves and the residues of all windows. Where it raises, what looks at the
        windows next takes them anew.
        """
        return self.changes_in(runs, hashes)

    cdef int give(self, tuple changes, object leaves, object residues) except -1:
        """Give changes the leaves of their windows."""
        cdef Span span, sums
        cdef Change change
        self.hold_both(leaves, &span, residues, &sums)
        for each in changes:
            change = <Change>each
            if change.is_open and change.leaves is NULL and change.make_room():
                memcpy(
                    change.leaves,
                    span.data + change.first * ATLAS_DIGEST_BYTES,
                    (change.stop - change.first) * ATLAS_DIGEST_BYTES,
                )
                memcpy(change.residues, sums.data + change.first, change.stop - change.first)
        release(&span)
        release(&sums)
        return 0


@cython.final
@cython.no_gc_clear  # its end needs them
cdef class Changes:
    """The context manager of `change`.

    It is native, so that no handler of signals that raises comes between its parts, and ends with
    its object at the latest, because nobody could end it after that.
    """

    cdef tuple changes
    cdef object hashes  # what hashes the windows; None where the watch does it

    def __cinit__(self, _Watch watch=None):
        if watch is None:
            raise not_made("Changes", "Watch.change()")
        self.changes = ()

    def __init__(self, *args, **kwargs):
        raise not_made("Changes", "Watch.change()")

    def __dealloc__(self):
        if self.changes is not None:  # there was memory for it
            self.end()

    def __enter__(self):
        for change in self.changes:
            (<Change>change).begin()
        return self

    def __exit__(self, exc_type, exc, traceback):
        try:
            if self.hashes is not None and self.changes:
                leaves, residues = self.hashes()
                (<RemoteWatch>(<Change>self.changes[0]).watch).give(self.changes, leaves, residues)
        finally:
            self.end()

    cdef void end(self) noexcept:
        cdef Py_ssize_t left = len(self.changes)
        if self.hashes is None:
            for change in self.changes:
                hash_changes(<Change>change, NULL, NULL)
        while left > 0:  # each is the newest of the open ones then, which is quickly found
            left -= 1
            settle_changes(<Change>self.changes[left])


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

    cdef _Watch watch
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

    def __cinit__(self, _Watch watch=None):
        if watch is None:
            raise not_made("Change", "Watch.change()")
        self.watch = watch

    def __init__(self, *args, **kwargs):
        raise not_made("Change", "Watch.change()")

    cdef void begin(self) noexcept:
        cdef _Watch watch = self.watch
        with cython.critical_section(watch):
            if not self.is_open:
                self.is_open = True
                self.next_open = watch.changes
                watch.changes = self

    cdef bint make_room(self) noexcept:
        """Make room for leaves, all of which count as changed; return False without memory."""
        cdef size_t count = self.stop - self.first
        self.leaves = <uint8_t *>PyMem_Malloc(count * (ATLAS_DIGEST_BYTES + 2))
        if self.leaves is NULL:
            return False  # then all are stale
        self.residues = self.leaves + count * ATLAS_DIGEST_BYTES
        self.changed = self.residues + count
        memset(self.changed, 1, count)
        return True

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
        cdef _Watch watch = self.watch
        cdef size_t i, index
        for i in range(self.stop - self.first):
            index = self.first + i
            if watch.flags[index] & DAMAGED and not self.is_explicit:
                continue
            if self.leaves is NULL or (self.changed[i] and watch.in_change(index)):
                watch.mark(index, STALE)
            elif self.changed[i]:
                watch.set(index, self.leaves + i * ATLAS_DIGEST_BYTES, self.residues[i])
        PyMem_Free(self.leaves)
        self.leaves = NULL


cdef Change new_change(_Watch watch, size_t first, size_t stop):
    cdef Change change = Change.__new__(Change, watch)
    change.first = first
    change.stop = stop
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
    cdef Change change = new_change(watch, first, stop)
    change.base = base
    change.len = len
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
    hash_changes(changes, NULL if before is None else <uint8_t *>PyBytes_AsString(before), balance)
    settle_changes(changes)


cdef void hash_changes(Change changes, const uint8_t *before, const uint8_t *balance) noexcept:
    """Hash the windows of linked changes that are no longer what they were before."""
    cdef Change change = changes
    while change is not None:
        if change.is_open:
            change.watch.hash(change, balance if change.is_balance else before)
        change = change.also


cdef void settle_changes(Change changes) noexcept:
    """End linked changes, and take the leaves that were hashed; without these windows are stale."""
    cdef Change change = changes
    cdef Change other
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
