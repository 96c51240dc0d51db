# SPDX-License-Identifier: Apache-2.0
# Domains.

import contextvars

cdef class _Claim  # budget_queue.pxi

cdef class Domain:
    """Domain(bytes, budget_class=0)\n--\n
    The handle of a domain (atlas_domain_t) and its attached buffer. Users see `atlas12288.Domain`.
    """

    # The handle lives as long as this object, so that a call in another thread never loses it.
    # close() only gives the region back; code that works on the region has a reference to it.
    cdef atlas_domain_t *handle
    cdef _Held held
    cdef size_t capacity
    cdef bint is_closed
    cdef _Entry innermost  # of the open transactions, None where none is open
    # The queue of those who wait for the budget; see budget_queue.pxi.
    cdef _Claim first
    cdef PyObject *last  # borrowed, from the queue
    cdef int waiting  # claims in the queue; atomic
    cdef int queue_pid  # the process whose queue it is

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

    cdef _Held attached_bytes(self):
        """Return a reference to the region; raise StateError if there is none."""
        with cython.critical_section(self):
            self.check()
            if self.held is None:
                raise_error(ATLAS_E_STATE, "the domain has no region, must have one attached")
            return self.held

    @property
    def bytes(self):
        """Capacity: the most bytes that can be attached."""
        return self.capacity

    @property
    def closed(self):
        """Whether the domain was closed."""
        return self.is_closed

    @property
    def budget(self):
        """The budget of the domain."""
        self.check()
        return Budget.__new__(Budget, self)

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
        """The attached bytes, None if there are none. The view, too, keeps them exported.

        It is read-only where the buffer is, and where it is a `Region`, whose balance it shows.
        """
        with cython.critical_section(self):
            self.check()
            return None if self.held is None else PyMemoryView_FromObject(self.held)

    def attach(self, buf, /):
        """Attach the bytes of `buf`, which stay exported until the domain is closed.

        Of a `Region`, payload and balance are attached, `buf.size` bytes, by reference.

        Raises DomainMemoryError where `buf` is empty or larger than the capacity, StateError where
        a region is attached or the domain is COMMITTED, TypeError or BufferError where `buf` is not
        a C-contiguous buffer.
        """
        self.check()
        cdef _Held held = _Held(buf)
        with cython.critical_section(self):
            self.check()
            if atlas_domain_attach(self.handle, held.data(), held.len()) != ATLAS_OK:
                raise_last_error()
            self.held = held
            held.count_open_domain(True)

    def verify(self):
        """Return whether the region is conserved and, if COMMITTED, matches the witness.

        Raises StateError where nothing is attached.
        """
        cdef _Held held = self.attached_bytes()
        state = release_gil(held.len(), HASH_GIL_BYTES)
        cdef bint result = atlas_domain_verify(self.handle)
        restore_gil(state)
        return result

    def _commit(self, cls, bint seal, /):
        """Go from OPEN to COMMITTED, once; return the witness, a `cls`."""
        cdef _Held held
        # Made first: if Python has no memory for it, the domain must still be OPEN.
        cdef Witness witness = Witness.__new__(cls)
        with cython.critical_section(self):
            held = self.attached_bytes()
            if self.innermost is not None:
                raise_error(ATLAS_E_STATE, "a transaction is open, must be closed before a commit")
        if seal and held.region is None:
            raise_error(ATLAS_E_STATE, "the attached buffer is not a Region, must be to be sealed")
        if seal:
            held.region.begin_sealing(held.in_open_domain)
        state = release_gil(held.len(), HASH_GIL_BYTES)
        cdef int code
        if seal:
            code = atlas_domain_commit_sealed(self.handle, held.region.handle)
        else:
            code = atlas_domain_commit(self.handle)
        restore_gil(state)
        if seal:
            held.region.end_sealing()
        if code != ATLAS_OK:
            raise_last_error()
        held.count_open_domain(False)
        witness.copy_of(atlas_domain_witness(self.handle))
        return witness

    def _witness_bytes(self):
        """Return the byte form of the witness, None while OPEN."""
        self.check()
        witness = atlas_domain_witness(self.handle)
        return None if witness is NULL else byte_form(witness)

    def transaction(self, start=0, stop=None):
        """Return a context manager for changes that must keep the attached bytes conserved.

        If the body raises, or leaves bytes that are not conserved, the bytes start..stop - 1 are
        restored to their state at the start; the latter raises ConservationError. They alone are
        copied on entry: all by default. Changes outside them are not restored.

        Of a `Region`, the bytes of the payload count. Entering raises ConservationError where
        the region is not conserved: what damaged it must not be balanced away. Leaving sets the
        balance to what the changes of the bytes start..stop - 1 make it, or to what it was where
        they are restored. So a change outside them, too, raises ConservationError.

        Args: start, stop, indices of bytes, also where the items of the buffer are larger, negative
        from the end; None for the end.
        Raises TypeError where one is not an int. Entering raises IndexError where one is outside or
        `start` is behind `stop`; StateError where nothing is attached or the domain is COMMITTED;
        BufferError where the bytes are read-only.

        Transactions of one domain nest, because each restores its bytes: while one is open, only
        its own body may enter another, of bytes within its own, which must be left first. Entering
        one from another thread or task raises StateError, because one could undo the other, and so
        does entering one of other bytes. Leaving one while a transaction that was entered later is
        still open raises StateError, and so does leaving the later one: neither restores anything,
        so that no change is lost, and neither checks conservation or sets a balance. A commit
        inside a transaction raises StateError.

        In a child process, leaving a transaction of the parent on a `Region`, whose memory both
        share, changes nothing: an exception of the body goes on, and without one StateError is
        raised.
        """
        self.check()
        return Transaction.__new__(Transaction, self, start, stop)

    def close(self):
        """Give the attached buffer back once calls in other threads have ended. Idempotent.

        Leases that wait for the budget raise StateError.
        """
        cdef _Held held
        with cython.critical_section(self):
            held = self.held
            self.is_closed = True
            self.held = None
        if held is not None:
            held.count_open_domain(False)
        serve_queue(self)
        del held  # the last reference releases the buffer, which may run code of its exporter

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, exc_type, exc, traceback):
        self.close()


cdef object not_made(str name, str way):
    return TypeError(f"a {name} is got from {way}, not by {name}()")


@cython.final
cdef class _Entry:
    """One entering of a transaction; the open ones of a domain are linked, innermost first."""

    cdef _Entry around  # the entry whose body contains this one, None for the first
    cdef bint is_open  # until its exit begins
    cdef bint crossed  # does not nest with another one: nothing may be restored
    # The bytes that it may restore; of a region, their residue and the balance at the start.
    cdef size_t start
    cdef size_t stop
    cdef uint8_t residue
    cdef uint8_t balance
    cdef int pid  # of the process that entered

    def __init__(self, *args, **kwargs):
        raise not_made("_Entry", "Transaction.__enter__()")

    cdef uint8_t balance_now(self, const uint8_t *bytes) noexcept:
        """Return the balance that fits the present bytes, if those of the range alone changed."""
        return <uint8_t>(
            (self.balance + self.residue + ATLAS_MODULUS - sum_of(bytes, self.start, self.stop))
            % ATLAS_MODULUS
        )


cdef uint8_t sum_of(const uint8_t *bytes, size_t start, size_t stop) noexcept:
    """Return the residue of bytes[start:stop]."""
    state = release_gil(stop - start, SUM_GIL_BYTES)
    cdef uint8_t residue = atlas_conserved_residue(bytes + start, stop - start)
    restore_gil(state)
    return residue


# The entries whose bodies the running code is in: each thread and each task has its own.
cdef object entered = contextvars.ContextVar("atlas12288 transactions", default=())


@cython.final
@cython.no_gc_clear  # `__dealloc__` needs what it has; see Budget, and _Held for the buffer
cdef class Transaction:
    """Context manager of `Domain.transaction`. Holds the bytes: a body may close the domain."""

    cdef Domain domain
    cdef object start  # as given
    cdef object stop
    cdef _Entry entry  # None where this is not open
    cdef _Held held
    cdef object before  # bytes
    cdef Change changes  # what scrubbers see of it

    def __cinit__(self, Domain domain=None, start=0, stop=None):
        if domain is None:
            raise not_made("Transaction", "Domain.transaction()")
        self.domain = domain
        self.start = index_of(start, "start")
        self.stop = None if stop is None else index_of(stop, "stop")

    def __init__(self, *args, **kwargs):
        raise not_made("Transaction", "Domain.transaction()")

    def __dealloc__(self):
        if self.entry is not None:
            self.entry.is_open = False  # never exited; so that no context keeps it for ever
            end_changes(self.changes, self.before, &self.entry.balance)
            self.end_writing(self.held)

    cdef void end_writing(self, _Held held) noexcept:
        if held.region is not None:
            held.region.end_writing()

    def __enter__(self):
        cdef _Held held = self.domain.attached_bytes()
        cdef _Entry entry = _Entry.__new__(_Entry)
        cdef _Entry other
        if held.is_readonly():
            raise BufferError("the attached buffer is read-only, must be writable in a transaction")
        cdef size_t most = held.payload_bytes()
        entry.start = byte_index(self.start, "start", most, False)
        entry.stop = most if self.stop is None else byte_index(self.stop, "stop", most, False)
        if entry.start > entry.stop:
            raise IndexError(
                f"start is {shown(self.start)}, must not be behind stop, "
                f"{entry.stop if self.stop is None else shown(self.stop)}, of {most} bytes"
            )
        before = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(entry.stop - entry.start))
        cdef Change changes = changes_of(held, entry.start, entry.stop)
        cdef tuple bodies = tuple([other for other in entered.get() if other.is_open])
        entered.set((*bodies, entry))  # counts from is_open on; here memory may still run out
        if held.region is not None:
            held.region.keep_to_write()
        try:
            self.open(entry, bodies, held, before)
        except BaseException:
            self.end_writing(held)
            raise
        self.changes = changes
        begin_changes(changes)
        return self

    cdef int open(self, _Entry entry, tuple bodies, _Held held, object before) except -1:
        """Begin the transaction: bar the domain for others, check a region, copy the bytes."""
        cdef _Entry around
        cdef uint8_t left = 0
        cdef int balance = 0
        with cython.critical_section(self):
            if self.entry is not None:
                raise_error(
                    ATLAS_E_STATE, "the transaction is open, must be closed before it is entered"
                )
            with cython.critical_section(self.domain):
                if self.domain.present_state() != ATLAS_STATE_OPEN:
                    raise_error(ATLAS_E_STATE, "the domain is COMMITTED, must be OPEN")
                around = self.domain.innermost
                if around is not None and not (around.is_open and around in bodies):
                    raise_error(
                        ATLAS_E_STATE,
                        "a transaction of the domain is open in another thread or task, or was "
                        "never left, must be left first: transactions nest",
                    )
                if around is not None and not (
                    around.start <= entry.start and entry.stop <= around.stop
                ):
                    raise_error(
                        ATLAS_E_STATE,
                        f"the bytes {entry.start}..{entry.stop} of the transaction must be within "
                        f"{around.start}..{around.stop}, those of the one around it",
                    )
                entry.around = around
                entry.is_open = True
                entry.pid = getpid()
                self.domain.innermost = entry
            self.entry = entry
            self.held = held
            self.before = before
        if held.region is not None:
            left = enter_region(held, entry, &balance)
        if left != 0 or balance >= ATLAS_MODULUS:
            with cython.critical_section(self):
                self.entry = None
                self.held = None
                self.before = None
            entry.is_open = False
            with cython.critical_section(self.domain):
                self.domain.innermost = entry.around
            if left == 0:
                raise_error(
                    ATLAS_E_CONSERVATION,
                    f"the balance of the region is {balance} before the transaction, must be in "
                    f"0..{ATLAS_MODULUS - 1}; balance() sets it, where the payload is known to be "
                    "right",
                )
            raise_error(
                ATLAS_E_CONSERVATION,
                f"residue of the {held.len()} bytes of the region is {left} before the "
                f"transaction, must be 0 (mod {ATLAS_MODULUS}); balance() makes it so, where the "
                "payload is known to be right",
            )
        copy(
            <uint8_t *>PyBytes_AsString(before), held.data() + entry.start, entry.stop - entry.start
        )
        return 0

    cdef bint begin_to_leave(self, _Entry entry) except -1:
        """Return whether it nests with all others; if so, it bars the domain until `end`."""
        cdef _Entry inner = None
        cdef _Entry other
        with cython.critical_section(self.domain):
            entry.is_open = False
            other = self.domain.innermost
            while other is not entry:
                other.crossed = True
                inner = other
                other = other.around
            if inner is not None:
                entry.crossed = True
                inner.around = entry.around
            elif entry.crossed:
                self.domain.innermost = entry.around
        return not entry.crossed

    def __exit__(self, exc_type, exc, traceback):
        cdef _Held held
        cdef _Entry entry
        cdef uint8_t left = 0
        cdef bint failed = exc_type is not None
        cdef Change changes
        with cython.critical_section(self):
            entry = self.entry
            held = self.held
            before = self.before
            changes = self.changes
            self.entry = None
            self.held = None
            self.before = None
            self.changes = None
        if entry is None:
            raise_error(ATLAS_E_STATE, "the transaction is not open, must be entered first")
        if not self.begin_to_leave(entry):
            end_changes(changes, before, &entry.balance)
            self.end_writing(held)
            raise_error(
                ATLAS_E_STATE,
                "the transaction does not nest with another one of the domain, must be left after "
                "all that were entered later; nothing is restored",
            )
        if held.region is not None and entry.pid != getpid():
            # What the parent writes meanwhile must neither be undone nor balanced here.
            end_changes(changes, before, &entry.balance)
            self.end_writing(held)
            with cython.critical_section(self.domain):
                self.domain.innermost = entry.around
            if failed:
                return False
            raise_error(
                ATLAS_E_STATE,
                "the transaction was entered by the parent process, which shares the memory of the "
                "region, must be left there alone; nothing is restored here and no balance set",
            )
        if not failed:
            left = sum_of(held.data(), 0, held.len()) if held.region is None else leave_region(
                held, entry
            )
        if failed or left != 0:
            copy(
                held.data() + entry.start, <const uint8_t *>PyBytes_AsString(before),
                entry.stop - entry.start,
            )
            if held.region is not None:
                held.data()[held.payload_bytes()] = entry.balance
        end_changes(changes, before, &entry.balance)
        self.end_writing(held)
        with cython.critical_section(self.domain):
            self.domain.innermost = entry.around
        if left == 0:
            return False
        rest = "they are"
        if entry.stop - entry.start < held.payload_bytes():
            rest = f"of them {entry.start}..{entry.stop} are"
        if held.region is None:
            raise_error(
                ATLAS_E_CONSERVATION,
                f"residue of the {held.len()} attached bytes is {left} after the transaction, "
                f"must be 0 (mod {ATLAS_MODULUS}); {rest} restored",
            )
        raise_error(
            ATLAS_E_CONSERVATION,
            f"residue of the {held.len()} bytes of the region is {left} after the transaction, "
            f"must be 0 (mod {ATLAS_MODULUS}): bytes outside {entry.start}..{entry.stop} were "
            f"changed; {rest} restored, the others are not",
        )


cdef uint8_t enter_region(_Held held, _Entry entry, int *balance) noexcept:
    """Note residue and balance for a transaction that is entered; return the residue of the region.

    In the body of another one, what that has written so far is balanced first.
    """
    cdef uint8_t *data = held.data()
    cdef size_t nbytes = held.payload_bytes()
    balance[0] = data[nbytes]
    if entry.around is not None:
        balance[0] = entry.around.balance_now(data)
    entry.residue = sum_of(data, entry.start, entry.stop)
    cdef int total = (
        entry.residue + sum_of(data, 0, entry.start) + sum_of(data, entry.stop, nbytes) + balance[0]
    )
    entry.balance = <uint8_t>balance[0]
    if total % ATLAS_MODULUS == 0:
        data[nbytes] = entry.balance
    return <uint8_t>(total % ATLAS_MODULUS)


cdef uint8_t leave_region(_Held held, _Entry entry) noexcept:
    """Set the balance of a transaction that is left; return the residue of the region.

    The balance follows from the bytes of the transaction alone: where others were changed, the
    region is not conserved, and nothing is written.
    """
    cdef uint8_t *data = held.data()
    cdef size_t nbytes = held.payload_bytes()
    cdef uint8_t balance = entry.balance_now(data)
    cdef int total = entry.balance + entry.residue
    total += sum_of(data, 0, entry.start) + sum_of(data, entry.stop, nbytes)
    if total % ATLAS_MODULUS == 0:
        data[nbytes] = balance
    return <uint8_t>(total % ATLAS_MODULUS)


cdef void copy(uint8_t *dst, const uint8_t *src, size_t len) noexcept:
    state = release_gil(len, SUM_GIL_BYTES)
    memcpy(dst, src, len)
    restore_gil(state)
